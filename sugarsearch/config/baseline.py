"""What the schemas of all baselines have in common: experiments that somebody has published, with the numbers there.

A baseline's `kind` says which experiment it is; each kind has a schema of its own.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sugarsearch.config.fields import RunName, Strict

Words = Annotated[str, Field(min_length=1)]
Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=1, le=100_000)]
Key = Annotated[str, Field(pattern="^[a-z0-9_]+$")]


class Baseline(Strict):
    """What baselines of every kind have.

    source: what is reproduced, for the title of the tables.
    notes: what a reader must know before believing the comparison.
    """

    name: RunName
    kind: str
    source: Words
    notes: tuple[Words, ...] = ()

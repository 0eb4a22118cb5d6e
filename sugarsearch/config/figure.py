"""The schema of baselines that are figures of the source: drawn from another baseline's results, or from formulas."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sugarsearch.config.baseline import Baseline, Words
from sugarsearch.config.fields import SurrogateText


class PictureBaseline(Baseline):
    """Pictures of another baseline, by the beginnings of their names; its cells are run as far as they are not."""

    kind: Literal["pictures"]
    of: Words
    pictures: Annotated[tuple[Words, ...], Field(min_length=1)]


class FunctionsBaseline(Baseline):
    """Functions and their derivatives; nothing is trained."""

    kind: Literal["functions"]
    surrogates: Annotated[tuple[SurrogateText, ...], Field(min_length=1)]

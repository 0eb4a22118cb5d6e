"""What the command landscape is asked to do; its keys are those of studies where they mean the same."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from sugarsearch.config.fields import Seed, Strict, fault
from sugarsearch.config.schema import ExecutionConfig, Recipe


def _odd(points: int) -> int:
    if points % 2 == 0:
        raise fault(f"{points} is even; the network itself is in the middle of the grid only if it is odd.")
    return points


class LandscapeRequest(Strict):
    """The grid, and what is evaluated on it; of the recipe only model and data matter, as they were in training.

    samples: how many images at most.
    """

    recipe: Recipe
    points: Annotated[int, Field(ge=3, le=999), AfterValidator(_odd)]
    reach: Annotated[float, Field(gt=0, le=100)]
    normalise: Literal["layer", "filter"]
    samples: Annotated[int, Field(ge=1)]
    split: Literal["train", "validation"]
    seed: Seed
    execution: ExecutionConfig = ExecutionConfig()

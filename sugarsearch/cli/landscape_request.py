"""What the command landscape is asked to do; its keys are those of studies where they mean the same."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sugarsearch.config.fields import Seed, Strict
from sugarsearch.config.figure import DirectionNorm, GridPoints, Reach
from sugarsearch.config.schema import ExecutionConfig, Recipe


class LandscapeRequest(Strict):
    """The grid, and what is evaluated on it; of the recipe only model and data matter, as they were in training.

    samples: how many images at most.
    """

    recipe: Recipe
    points: GridPoints
    reach: Reach
    normalise: DirectionNorm
    samples: Annotated[int, Field(ge=1)]
    split: Literal["train", "validation"]
    seed: Seed
    execution: ExecutionConfig = ExecutionConfig()

"""What the command train is asked to do, as the schema of studies would say it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sugarsearch.config.schema import ExecutionConfig, LearningRate, Recipe, Strict, SurrogateText


class TrainingRequest(Strict):
    """One training run."""

    surrogate: SurrogateText
    learning_rate: LearningRate
    seed: Annotated[int, Field(ge=0)]
    recipe: Recipe
    execution: ExecutionConfig = ExecutionConfig()

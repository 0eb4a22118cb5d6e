"""What the command train is asked to do, as the schema of studies would say it."""

from __future__ import annotations

from sugarsearch.config.arm import TrainingArm
from sugarsearch.config.fields import LearningRate, Seed, Strict, SurrogateText
from sugarsearch.config.schema import ExecutionConfig, Recipe


class TrainingRequest(Strict):
    """One training run."""

    surrogate: SurrogateText
    arm: TrainingArm = "sugar"
    learning_rate: LearningRate
    seed: Seed
    recipe: Recipe
    execution: ExecutionConfig = ExecutionConfig()

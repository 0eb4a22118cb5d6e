"""The schema of baselines of accuracies: surrogates in both arms, in several models, over seeds and learning rates."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from sugarsearch.config.arm import TrainingArm
from sugarsearch.config.baseline import Baseline, Count, Key, Percent, Words
from sugarsearch.config.fields import LearningRates, Seed, Strict, SurrogateText, fault
from sugarsearch.config.schema import ExecutionConfig, Recipe


class TableModel(Strict):
    """A model of the table: its recipe, and the learning rates at which it is trained."""

    title: Words
    recipe: Recipe
    learning_rates: LearningRates


class Row(Strict):
    """A surrogate of the table.

    gain: its own, or scaled to gain 1.
    arms: in which it is trained. ReLU has one: as surrogate of itself it is what it is as a primitive.
    """

    title: Words
    surrogate: SurrogateText
    gain: Literal["own", "unit"] = "own"
    arms: Annotated[tuple[TrainingArm, ...], Field(min_length=1)] = ("non_sugar", "sugar")

    @property
    def is_relu(self) -> bool:
        """Whether this is plain ReLU."""
        return self.surrogate == "relu"

    @model_validator(mode="after")
    def _trains_once(self) -> Self:
        if self.is_relu and self.arms != ("sugar",):
            raise fault("ReLU has one arm: write arms: [sugar].")
        if len(set(self.arms)) < len(self.arms):
            raise fault(f"arms is {list(self.arms)}; give each once.")
        return self


class Claim(Strict):
    """A claim of the source: of two cells, by name, one has the higher accuracy."""

    text: Words
    higher: Words
    lower: Words


class AccuracyBaseline(Baseline):
    """A table of final accuracies: a cell is a model with a row, an arm and a learning rate, its result one a seed.

    seeds: of the source, trained where the command names no others.
    printed: mean and standard deviation in percent, by model, row and arm.
    printed_runs: how many runs each of those is of.
    """

    kind: Literal["accuracies"]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    models: Annotated[dict[Key, TableModel], Field(min_length=1)]
    rows: Annotated[dict[Key, Row], Field(min_length=1)]
    printed: dict[Key, dict[Key, dict[TrainingArm, tuple[Percent, Percent]]]] = Field(default_factory=dict)
    printed_runs: Count = 5
    claims: tuple[Claim, ...] = ()
    execution: ExecutionConfig = ExecutionConfig()

    @field_validator("seeds")
    @classmethod
    def _differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise fault(f"{list(seeds)} names a seed twice; give each once.")
        return seeds

    @model_validator(mode="after")
    def _prints_what_there_is(self) -> Self:
        for model, rows in self.printed.items():
            for row, arms in rows.items():
                place = f"printed.{model}.{row}"
                if model not in self.models or row not in self.rows:
                    raise fault(f"{place}: the baseline has no such model or row.")
                if missing := sorted(arms.keys() - set(self.rows[row].arms)):
                    raise fault(f"{place}.{missing[0]}: the row is not trained in this arm.")
        return self

    @model_validator(mode="after")
    def _claims_what_there_is(self) -> Self:
        for index, claim in enumerate(self.claims):
            for name in (claim.higher, claim.lower):
                if name not in self.settings:
                    raise fault(f"claims.{index} speaks of {name!r}, which is no model/row/arm of the baseline.")
        return self

    @property
    def settings(self) -> dict[str, tuple[str, str, TrainingArm]]:
        """Model, row and arm of all that is trained, by name; plain ReLU's has no arm in it."""
        return {
            f"{model}/{name}" if row.is_relu else f"{model}/{name}/{arm}": (model, name, arm)
            for model in self.models
            for name, row in self.rows.items()
            for arm in row.arms
        }

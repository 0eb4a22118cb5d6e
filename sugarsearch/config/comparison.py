"""The schema of comparisons: surrogates that are given, set against their controls by one recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from sugarsearch.config.fields import RunName, Seed, Strict, SurrogateText, fault
from sugarsearch.config.schema import ExecutionConfig, Recipe, SearchSpace, refuse_idle_ablations
from sugarsearch.config.verdict import VerdictConfig, refuse_too_few


class Compared(Strict):
    """A surrogate of a comparison: its name or expression, with its own gain or scaled to gain 1."""

    g: SurrogateText
    gain: Literal["own", "unit"] = "own"


class ComparisonConfig(Strict):
    """A comparison (a file of `sugarsearch compare`).

    surrogates: by what they are called in the tables. A list of texts will do, and a text in place of a mapping.
    space: where a random g of each one's gain is drawn from; without it there is no such control.
    """

    name: RunName
    description: str = ""
    surrogates: Annotated[dict[str, Compared], Field(min_length=1)]
    recipe: Recipe
    space: SearchSpace | None = None
    seed: Seed = 0
    final: VerdictConfig
    execution: ExecutionConfig = ExecutionConfig()

    @field_validator("surrogates", mode="before")
    @classmethod
    def _written_short(cls, given: Any) -> Any:
        if isinstance(given, list) and all(isinstance(text, str) for text in given):
            repeated = next((text for text in given if given.count(text) > 1), None)
            if repeated is not None:
                raise fault(f"{repeated!r} is given twice; give it once.")
            given = dict(zip(given, given, strict=True))
        if isinstance(given, dict):
            return {title: {"g": item} if isinstance(item, str) else item for title, item in given.items()}
        return given

    @model_validator(mode="after")
    def _coherent(self) -> ComparisonConfig:
        refuse_too_few(self.final.replicates, len(self.surrogates))
        refuse_idle_ablations(self.final, self.recipe)
        return self

"""The schema of verdicts: their budgets, controls and ablations."""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationInfo, field_validator

from sugarsearch.config.fields import Fraction, LearningRates, Replicates, Strict, SurrogateText, fault

FAMILY_ERROR: Final = 0.05
"""The chance that a verdict is allowed to see any difference where there is none."""
CONTROLS_EACH: Final = 3
"""What a finalist is compared with: tuned ReLU, itself at unit gain, a random g of the same gain."""


class RerunConfig(Strict):
    """The best of the screening once more, on fresh seeds at their best rate: who was only lucky is left behind."""

    candidates: Annotated[int, Field(ge=1, le=1000)] = 8
    replicates: Replicates = 6


class VerdictConfig(Strict):
    """What a verdict rests on: sweeps of the learning rate, and final runs of all arms, on seeds of their own.

    Controls are added to: ReLU, B-SiLU, each finalist at unit gain and, where there is a search space, a random g of
    its gain stand in every verdict.

    ablations: arms whose update differs from the recipe's. "adam": ReLU and the finalists by Adam, whose steps do not
        hang on gain; "grafted": the finalists with the norm of ReLU's gradient, tensor by tensor.
    adam_learning_rates: where the sweeps of "adam" begin.
    """

    learning_rates: LearningRates
    tuning_replicates: Annotated[int, Field(ge=3, le=100_000)] = 3
    replicates: Replicates = 16
    controls: tuple[SurrogateText, ...] = ("relu", "b_silu")
    ablations: tuple[Literal["adam", "grafted"], ...] = ()
    adam_learning_rates: LearningRates = (3e-4, 1e-3, 3e-3)
    collapse_below: Fraction | None = None

    @field_validator("replicates")
    @classmethod
    def _says_something(cls, replicates: int) -> int:
        refuse_too_few(replicates, 1)
        return replicates


class FinalConfig(VerdictConfig):
    """The verdict of a search: the best candidates are run again, and the finalists among them go on to the verdict."""

    finalists: Annotated[int, Field(ge=1, le=1000)] = 1
    rerun: RerunConfig = RerunConfig()

    @field_validator("finalists")
    @classmethod
    def _of_whom_something_can_be_said(cls, finalists: int, info: ValidationInfo) -> int:
        refuse_too_few(info.data.get("replicates", math.inf), finalists)
        return finalists

    @field_validator("rerun")
    @classmethod
    def _holds_the_finalists(cls, rerun: RerunConfig, info: ValidationInfo) -> RerunConfig:
        finalists = info.data.get("finalists", 1)
        if rerun.candidates < finalists:
            raise fault(f"{rerun.candidates} candidates; at least as many as finalists, {finalists}, must be re-run.")
        return rerun


def refuse_too_few(replicates: float, finalists: int) -> None:
    """Refuse a verdict that could say nothing.

    Raises:
        PydanticCustomError: with so many seeds an arm not even a lead on all of them would show.
    """
    needed = fewest_seeds(finalists)
    if replicates < needed:
        raise fault(
            f"with {replicates} seeds an arm no lead could be told from chance; a verdict on {finalists} "
            f"finalist{'s' * (finalists > 1)} needs at least {needed}."
        )


def fewest_seeds(finalists: int) -> int:
    """The seeds an arm needs before a verdict on so many finalists can say anything.

    With fewer, not even a lead on every single seed (two-sided chance 2 / 2**n) is below Holm's first bound.
    """
    return math.ceil(math.log2(2 * CONTROLS_EACH * finalists / FAMILY_ERROR))

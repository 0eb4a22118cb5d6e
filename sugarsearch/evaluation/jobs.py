"""Jobs: training runs to do, as data; what they have in common; and what is asked about them at a rung."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Final, get_args

import numpy as np

from sugarsearch.config.ablation import Ablation as Ablation
from sugarsearch.config.arm import TrainingArm
from sugarsearch.config.schema import ExecutionConfig, Recipe
from sugarsearch.errors import UsageError
from sugarsearch.symbolic.surrogate import Surrogate

VALIDATION: Final = "validation"
SCREENING: Final = "screening"
"""The stage in which a candidate's jobs have a time limit."""
FINAL: Final = "final"
"""The one stage that may be scored on other data than the validation split."""


@dataclass(frozen=True)
class Job:
    """One training run of a recipe.

    Attributes:
        surrogate: the g to train with.
        learning_rate: before the schedule's factor.
        replicate: counts the runs that differ in their seed alone, from 0.
        seed: of weights and batches; see `seed_of`.
        epochs: how many of the recipe's epochs are run.
        stage: what the job is for: "screening", "tuning", "final", ...
        scoring: what accuracy is measured on: "validation"; `package.module:function`, which gets the
            recipe's DataConfig and returns Arrays; or a name of the data handed to an InlineExecutor.
        ablation: what is changed of the update.
        arm: what the network computes forward: ReLU, or the surrogate's primitive.

    Raises:
        UsageError: a stage that may not be scored on such data, an unknown ablation or arm, or grafting without SUGAR.
    """

    surrogate: Surrogate
    learning_rate: float
    replicate: int
    seed: int
    epochs: int
    stage: str
    scoring: str = VALIDATION
    ablation: Ablation = ""
    arm: TrainingArm = "sugar"

    def __post_init__(self) -> None:
        if self.scoring != VALIDATION and self.stage != FINAL:
            raise UsageError(
                f"a job of stage {self.stage!r} is scored on {self.scoring!r}; only stage {FINAL!r} may be scored on "
                f"other data than {VALIDATION!r}."
            )
        if self.ablation not in get_args(Ablation):
            known = ", ".join(map(repr, get_args(Ablation)))
            raise UsageError(f"ablation {self.ablation!r} is not known; allowed are {known}. Use one of them.")
        if self.arm not in get_args(TrainingArm):
            known = ", ".join(map(repr, get_args(TrainingArm)))
            raise UsageError(f"arm {self.arm!r} is not known; allowed are {known}. Use one of them.")
        if self.arm != "sugar" and self.ablation == "grafted":
            raise UsageError(
                f"ablation 'grafted' takes the direction from SUGAR's gradient, which arm {self.arm!r} does not have; "
                "allowed there are '' and 'adam'."
            )

    @cached_property
    def id(self) -> str:
        """Names the job: equal for equal jobs, in every process."""
        return _digest(self.to_json())

    @property
    def company(self) -> tuple[float, int, str, Ablation, TrainingArm]:
        """What jobs must have in common to be trained as one computation."""
        return self.learning_rate, self.epochs, self.scoring, self.ablation, self.arm

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` turns back into an equal job.

        No ablation is not named, nor is the arm of SUGAR, so that such jobs keep the ids that they had before there
        were others.
        """
        return {
            "surrogate": self.surrogate.to_json(),
            "learning_rate": self.learning_rate,
            "replicate": self.replicate,
            "seed": self.seed,
            "epochs": self.epochs,
            "stage": self.stage,
            "scoring": self.scoring,
            **({"ablation": self.ablation} if self.ablation else {}),
            **({"arm": self.arm} if self.arm != "sugar" else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Job:
        """The job that `to_json` wrote."""
        return cls(**{**value, "surrogate": _surrogate(json.dumps(value["surrogate"]))})


@dataclass(frozen=True)
class Progress:
    """The accuracy of a job at a pruning rung: after `epoch` epochs."""

    job_id: str
    epoch: int
    score: float


Judge = Callable[[Sequence[Progress]], Collection[str]]
"""Asked at each rung, with the progress of every job of the batch that got so far; gives the ids of jobs to stop."""


@dataclass(frozen=True)
class Workload:
    """What all jobs of a study have in common; plain data.

    trial_time_limit: seconds of training that a candidate of the screening may take, its jobs together.
    """

    recipe: Recipe
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    trial_time_limit: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` turns back into an equal workload."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "execution": self.execution.model_dump(mode="json"),
            "trial_time_limit": self.trial_time_limit,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Workload:
        """The workload that `to_json` wrote."""
        return cls(
            Recipe.model_validate_json(json.dumps(value["recipe"])),
            ExecutionConfig.model_validate_json(json.dumps(value["execution"])),
            value["trial_time_limit"],
        )


def seed_of(study_seed: int, stage: str, replicate: int) -> int:
    """The seed of a replicate, common to all candidates, so that comparisons are paired.

    Stages share no seeds. Below 2**53, which any JSON reader keeps exact.
    """
    entropy = [study_seed, int.from_bytes(stage.encode(), "big"), replicate]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(11))


def recipe_hash(recipe: Recipe) -> str:
    """Names a recipe by all that it asks; where the data lies is no part of that."""
    return _digest(recipe.model_dump(mode="json", exclude={"data": {"root"}}))


def _digest(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@lru_cache(maxsize=4096)
def _surrogate(text: str) -> Surrogate:
    """Reading back a long log would parse each candidate's expression once per run."""
    return Surrogate.from_json(json.loads(text))

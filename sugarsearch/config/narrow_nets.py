"""The schema of baselines of deep narrow nets: a cell is a target with an arm, its result a loss a run."""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from sugarsearch.config.baseline import Baseline, Count, Key, Percent, Words
from sugarsearch.config.fields import LearningRate, Strict, SurrogateText, fault

TargetName = Literal["f1", "f2", "f3", "f4"]
Initialisation = Literal["he", "rai"]
Loss = Annotated[float, Field(ge=0)]
Factor = Annotated[float, Field(gt=0, lt=1)]

_ROUNDING = 0.051  # percent, of a share printed with one digit


class NarrowNets(Strict):
    """How deep narrow nets are trained: Adam on the squared error, the rate times `factor` at each milestone.

    loss_samples: the loss that is reported is the squared error summed over so many samples and over all outputs.
    """

    hidden_layers: Count
    width: Count
    samples: Count
    batch_size: Count
    loss_samples: Count
    epochs: Count
    learning_rate: LearningRate
    milestones: tuple[Count, ...] = ()
    factor: Factor = 0.1


class Changes(Strict):
    """Settings of `NarrowNets` that the cells of one target or arm have of their own; None where they have none."""

    hidden_layers: Count | None = None
    width: Count | None = None
    samples: Count | None = None
    batch_size: Count | None = None
    loss_samples: Count | None = None
    epochs: Count | None = None
    learning_rate: LearningRate | None = None
    milestones: tuple[Count, ...] | None = None
    factor: Factor | None = None

    def given(self) -> dict[str, Any]:
        """By name."""
        return self.model_dump(exclude_none=True)


if Changes.model_fields.keys() != NarrowNets.model_fields.keys():
    raise ImportError(f"settings that cannot change: {sorted(NarrowNets.model_fields.keys() ^ Changes.model_fields)}")


class Outcome(Strict):
    """A class of final losses.

    printed: the smallest and the largest loss that the source gives for it.
    above: its losses are those above this and not above the class before; None for the last class, which has the rest.
    """

    meaning: Words
    printed: tuple[Loss, Loss]
    above: Loss | None = None


class Target(Strict):
    """A function to be learned, with the classes of its losses, from the highest down. The first is tested.

    experiment: what its cells have otherwise than the baseline's `experiment`.
    caution: what a reader must know before believing the comparison; empty where nothing.
    """

    experiment: Changes = Changes()
    classes: Annotated[dict[str, Outcome], Field(min_length=2)]
    caution: str = ""

    @model_validator(mode="after")
    def _covers_the_line(self) -> Target:
        *others, last = self.classes.values()
        bounds = [outcome.above for outcome in others]
        known = [bound for bound in bounds if bound is not None]
        falling = all(high > low for high, low in itertools.pairwise(known))
        if last.above is not None or len(known) < len(bounds) or not falling:
            raise fault("each class but the last needs above, falling from class to class; the last has the rest.")
        ends = [float("inf"), *known, float("-inf")]
        for (name, outcome), (high, low) in zip(self.classes.items(), itertools.pairwise(ends), strict=True):
            smallest, largest = outcome.printed
            if not low < smallest <= largest <= high:
                raise fault(f"class {name} is printed as {smallest:g} to {largest:g}, which is not within its bounds.")
        return self

    @property
    def tested(self) -> str:
        """The class whose share is tested against the printed one."""
        return next(iter(self.classes))

    def class_of(self, loss: float | None) -> str:
        """The class of a final loss; None, of a run that did not stay finite, counts as the highest."""
        bounds = ((name, outcome.above) for name, outcome in self.classes.items())
        return next(name for name, above in bounds if above is None or loss is None or loss > above)


class Printed(Strict):
    """Shares that the source gives, in percent by target and class. A class left out has the rest.

    runs: of each cell there.
    """

    runs: Count
    percent: dict[TargetName, dict[str, Percent]]


class Arm(Strict):
    """A way of training: how weights begin, and the surrogate; None is plain ReLU.

    experiment: what its cells have otherwise than their target's.
    """

    title: Words
    initialisation: Initialisation
    surrogate: SurrogateText | None = None
    experiment: Changes = Changes()
    printed: Printed | None = None


class NarrowNetsBaseline(Baseline):
    """Deep narrow nets that learn a function or collapse.

    runs: of each cell, where the command asks for no other number.
    experiment: of every cell, but for what its target changes, and over that its arm.
    """

    kind: Literal["deep_narrow_nets"]
    runs: Count
    experiment: NarrowNets
    targets: Annotated[dict[TargetName, Target], Field(min_length=1)]
    arms: Annotated[dict[Key, Arm], Field(min_length=1)]

    @field_validator("arms")
    @classmethod
    def _differ(cls, arms: dict[str, Arm]) -> dict[str, Arm]:
        seen: dict[tuple[str, str | None, Changes], str] = {}
        for name, arm in arms.items():
            same = seen.setdefault((arm.initialisation, arm.surrogate, arm.experiment), name)
            if same != name:
                raise fault(f"{name} trains as {same} does; one of them will do.")
        return arms

    @model_validator(mode="after")
    def _prints_what_there_is(self) -> NarrowNetsBaseline:
        for name, arm in self.arms.items():
            for target, shares in arm.printed.percent.items() if arm.printed else ():
                _check_shares(f"arms.{name}.printed.percent.{target}", shares, self.targets.get(target))
        return self

    def settings(self, target: TargetName, arm: str) -> NarrowNets:
        """How the nets of a cell are trained."""
        changes = self.targets[target].experiment.given() | self.arms[arm].experiment.given()
        return NarrowNets.model_validate(self.experiment.model_dump() | changes)

    def printed(self, target: TargetName, arm: str) -> dict[str, float] | None:
        """The printed share of every class, from 0 to 1; None where the source has none."""
        found = self.arms[arm].printed
        if found is None or target not in found.percent:
            return None
        given = found.percent[target]
        rest = 100 - sum(given.values())
        # Rounded, for 93.6 / 100 is 0.9359999999999999.
        return {name: round(given.get(name, max(rest, 0.0)) / 100, 6) for name in self.targets[target].classes}


def _check_shares(place: str, shares: dict[str, float], target: Target | None) -> None:
    if target is None:
        raise fault(f"{place}: the baseline has no such target.")
    unknown = sorted(shares.keys() - target.classes.keys())
    if unknown:
        raise fault(f"{place}.{unknown[0]}: no such class; its classes are {', '.join(target.classes)}.")
    if target.tested not in shares:
        raise fault(f"{place} needs the share of {target.tested}, which is tested.")
    total, missing = sum(shares.values()), len(target.classes) - len(shares)
    slack = _ROUNDING * len(shares)
    if missing > 1 or total > 100 + slack or (not missing and total < 100 - slack):
        raise fault(f"{place} adds up to {total:g} %; give all classes, with 100 %, or all but one.")

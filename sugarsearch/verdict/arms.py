"""Who stands in a verdict: candidates that are re-run, finalists, and the controls that each claim needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import numpy as np

from sugarsearch.config.ablation import Ablation
from sugarsearch.config.schema import Recipe, SearchSpace, StudyConfig
from sugarsearch.config.verdict import VerdictConfig
from sugarsearch.errors import AdmissionError, UsageError
from sugarsearch.nn.admission import admit
from sugarsearch.symbolic.grammar import Grammar
from sugarsearch.symbolic.library import surrogate as named_surrogate
from sugarsearch.symbolic.surrogate import Surrogate

UNIT_GAIN_TOLERANCE: Final = 1e-3
_RANDOM_TRIES: Final = 300

RELU: Final = named_surrogate("relu")

Against = Literal["relu", "unit", "random"]

_BY_ABLATION: Final[Mapping[Ablation, str]] = {"adam": "by Adam", "grafted": "grafted"}


class Experiment(Protocol):
    """What a verdict is asked of: a study, or a comparison."""

    @property
    def recipe(self) -> Recipe:
        """How all arms are trained, but for ablations."""

    @property
    def space(self) -> SearchSpace | None:
        """Where random g's come from; None: there are none."""

    @property
    def seed(self) -> int:
        """What all seeds come from."""

    @property
    def final(self) -> VerdictConfig:
        """Budgets, controls and ablations."""


@dataclass(frozen=True)
class Screened:
    """A finished candidate of the screening: g as trained, its best learning rate and its score there."""

    surrogate: Surrogate
    learning_rate: float
    score: float


@dataclass
class Entrant:
    """An arm before its runs.

    Attributes:
        surrogate: what is trained.
        role: "finalist" or "control".
        title: what it is called beside the others.
        ablation: what is changed of the recipe's update.
        against: of a finalist: the entrants that it is compared with.
    """

    surrogate: Surrogate
    role: str
    title: str
    ablation: Ablation = ""
    against: dict[Against, Entrant] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Tells it from all others of its table."""
        label = label_of(self.surrogate)
        return f"{label} {_BY_ABLATION[self.ablation]}" if self.ablation else label


def label_of(surrogate: Surrogate) -> str:
    """A surrogate's label, with its scale where that is not 1, so that arms of one shape are told apart."""
    if abs(surrogate.scale - 1) < 1e-9:
        return surrogate.label
    if abs(surrogate.gain - 1) < 1e-9:
        return f"{surrogate.label} at unit gain"
    return f"{surrogate.scale:.6g} * ({surrogate.label})"


def controls_of(experiment: Experiment) -> list[Surrogate]:
    """ReLU, the experiment's own controls, and B-SiLU unless one of those is a B-SiLU."""
    given = [named_surrogate(text) for text in experiment.final.controls]
    if not any(control.name == "b_silu" for control in given):
        given.append(named_surrogate("b_silu"))
    return [RELU, *(control for control in given if not is_relu(control))]


def is_relu(surrogate: Surrogate) -> bool:
    """Whether it is ReLU's own derivative, whose gain by quadrature may miss 1 by a rounding."""
    return surrogate.identity == RELU.identity and abs(surrogate.scale - 1) < 1e-9


def to_rerun(screened: Sequence[Screened], study: StudyConfig) -> list[Screened]:
    """The candidates to re-run: the best that are no controls, for those stand in the table anyway."""
    known = {control.identity for control in controls_of(study)}
    found = [candidate for candidate in screened if candidate.surrogate.identity not in known]
    return found[: study.final.rerun.candidates]


def entrants(
    finalists: Mapping[str, Surrogate], experiment: Experiment, candidates: Collection[str] = ()
) -> list[Entrant]:
    """Finalists, then controls, then ablations; what is the same function at the same scale stands once.

    The first control is ReLU. Each finalist is also there at unit gain, unless that is its own, and has beside it a
    random g of its gain, unless there is no space or it holds none.

    Args:
        finalists: by title.
        experiment: for its controls, its space and its seed.
        candidates: identities that a random g must not have.
    """
    table: dict[tuple[str, str, Ablation], Entrant] = {}

    def enter(surrogate: Surrogate, role: str, title: str, ablation: Ablation = "") -> Entrant:
        key = surrogate.identity, f"{surrogate.scale:.9g}", ablation
        return table.setdefault(key, Entrant(surrogate, role, title, ablation))

    entered = [enter(g, "finalist", title) for title, g in finalists.items() if not is_relu(g)]
    found = list({id(one): one for one in entered}.values())
    relu, *_ = [enter(g, "control", label_of(g)) for g in controls_of(experiment)]
    known = {*candidates, *(identity for identity, *_ in table)}
    shape = _random_shape(experiment, known, max(one.surrogate.gain for one in found)) if found else None
    digits = _digits([one.surrogate.gain for one in found])
    for finalist in found:
        finalist.against["relu"] = relu
        gain = finalist.surrogate.gain
        if abs(gain - 1) > UNIT_GAIN_TOLERANCE:
            unit = finalist.surrogate.at_unit_gain()
            finalist.against["unit"] = enter(unit, "control", f"{finalist.title} at unit gain")
        if shape is not None:
            scaled = dataclasses.replace(shape, scale=shape.scale * gain)
            finalist.against["random"] = enter(scaled, "control", f"random g of gain {gain:.{digits}g}")
    for ablation in experiment.final.ablations:
        # Grafted, ReLU is itself.
        for arm in (relu, *found) if ablation == "adam" else found:
            enter(arm.surrogate, "ablation", f"{arm.title} {_BY_ABLATION[ablation]}", ablation)
    return list(table.values())


def _digits(gains: Sequence[float]) -> int:
    """The fewest digits, three at least, that tell gains apart which are not one and the same."""
    return next(
        n for n in range(3, 10) if n == 9 or len({f"{g:.{n}g}" for g in gains}) == len({f"{g:.9g}" for g in gains})
    )


def titles_of(finalists: Sequence[Surrogate]) -> dict[str, Surrogate]:
    """What finalists of a search are called: their names, where they have one, after their role."""
    roles = ["found"] if len(finalists) == 1 else [f"found {rank}" for rank in range(1, len(finalists) + 1)]
    alone = "best found" if len(finalists) == 1 else ""
    return {
        (f"{role}: {label_of(g)}" if g.name else alone or role): g for role, g in zip(roles, finalists, strict=True)
    }


def _random_shape(experiment: Experiment, known: Collection[str], largest_gain: float) -> Surrogate | None:
    """A random g of the space at unit gain, by the experiment's seed: none of `known`, and fit for training."""
    if experiment.space is None:
        return None
    rng = np.random.default_rng([experiment.seed, *b"random control"])
    grammar = Grammar(experiment.space)
    for _ in range(_RANDOM_TRIES):
        try:
            drawn = _member(grammar, experiment.space, rng).at_unit_gain()
            admit(dataclasses.replace(drawn, scale=drawn.scale * max(largest_gain, 1.0)))
        except (AdmissionError, UsageError):
            continue
        if drawn.identity not in known:
            return drawn
    return None


def _member(grammar: Grammar, space: SearchSpace, rng: np.random.Generator) -> Surrogate:
    if space.template != "family":
        return grammar.surrogate(grammar.sample(rng))
    drawn = {}
    for name, bounds in space.parameters.items():
        low, high = (np.log(bounds.low), np.log(bounds.high)) if bounds.log else (bounds.low, bounds.high)
        value = rng.uniform(low, high)
        drawn[name] = float(np.exp(value) if bounds.log else value)
    return grammar.at(**drawn)

"""Who stands in a verdict: candidates that are re-run, finalists, and the controls that each claim needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from sugarsearch.config.schema import SearchSpace, StudyConfig
from sugarsearch.errors import AdmissionError, UsageError
from sugarsearch.nn.admission import admit
from sugarsearch.symbolic.grammar import Grammar
from sugarsearch.symbolic.library import surrogate as named_surrogate
from sugarsearch.symbolic.surrogate import Surrogate

UNIT_GAIN_TOLERANCE: Final = 1e-3
_RANDOM_TRIES: Final = 300

RELU: Final = named_surrogate("relu")

Against = Literal["relu", "unit", "random"]


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
        against: of a finalist: the entrants that it is compared with.
    """

    surrogate: Surrogate
    role: str
    title: str
    against: dict[Against, Entrant] = field(default_factory=dict)


def label_of(surrogate: Surrogate) -> str:
    """A surrogate's label, with its scale where that is not 1, so that arms of one shape are told apart."""
    if abs(surrogate.scale - 1) < 1e-9:
        return surrogate.label
    if abs(surrogate.gain - 1) < 1e-9:
        return f"{surrogate.label} at unit gain"
    return f"{surrogate.scale:.4g} * ({surrogate.label})"


def controls_of(study: StudyConfig) -> list[Surrogate]:
    """ReLU, the study's own controls, and B-SiLU unless one of those is a B-SiLU."""
    given = [named_surrogate(text) for text in study.final.controls]
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


def entrants(finalists: Sequence[Surrogate], screened: Sequence[Screened], study: StudyConfig) -> list[Entrant]:
    """Finalists, then controls; what is the same function at the same scale stands once.

    The first control is ReLU. Each finalist is also there at unit gain, unless that is its own, and has beside it a
    random g of its gain that was no candidate, unless the space holds none.
    """
    table: dict[tuple[str, str], Entrant] = {}

    def enter(surrogate: Surrogate, role: str, title: str) -> Entrant:
        key = surrogate.identity, f"{surrogate.scale:.9g}"
        return table.setdefault(key, Entrant(surrogate, role, title))

    found = [enter(g, "finalist", title) for g, title in zip(finalists, _titles(finalists), strict=True)]
    relu, *_ = [enter(g, "control", label_of(g)) for g in controls_of(study)]
    known = {candidate.surrogate.identity for candidate in screened} | {identity for identity, _ in table}
    shape = _random_shape(study, known, max(g.gain for g in finalists)) if finalists else None
    for finalist in found:
        finalist.against["relu"] = relu
        gain = finalist.surrogate.gain
        if abs(gain - 1) > UNIT_GAIN_TOLERANCE:
            unit = finalist.surrogate.at_unit_gain()
            finalist.against["unit"] = enter(unit, "control", f"{finalist.title} at unit gain")
        if shape is not None:
            scaled = dataclasses.replace(shape, scale=shape.scale * gain)
            finalist.against["random"] = enter(scaled, "control", f"random g of gain {gain:.3g}")
    return list(table.values())


def _titles(finalists: Sequence[Surrogate]) -> list[str]:
    """What finalists are called: their names, where they have one, after their role."""
    roles = ["found"] if len(finalists) == 1 else [f"found {rank}" for rank in range(1, len(finalists) + 1)]
    alone = "best found" if len(finalists) == 1 else ""
    return [f"{role}: {label_of(g)}" if g.name else alone or role for role, g in zip(roles, finalists, strict=True)]


def _random_shape(study: StudyConfig, known: set[str], largest_gain: float) -> Surrogate | None:
    """A random g of the study's space at unit gain, by the study's seed: none of `known`, and fit for training."""
    rng = np.random.default_rng([study.search.seed, *b"random control"])
    grammar = Grammar(study.space)
    for _ in range(_RANDOM_TRIES):
        try:
            drawn = _member(grammar, study.space, rng).at_unit_gain()
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

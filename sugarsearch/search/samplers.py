"""Who is tried next: the queue first, then random trees, evolution over trees, or a family's parameters.

Each is an Optuna sampler. A candidate is a function of the study's seed, its logical index (the trial's
number) and what was told before; nothing else is remembered, so a resumed study proposes what an
uninterrupted one would have.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from sugarsearch.config.schema import SearchConfig, SearchSpace
from sugarsearch.errors import AdmissionError
from sugarsearch.nn.admission import admit
from sugarsearch.search import trials
from sugarsearch.symbolic.expression import Expression, call, constant
from sugarsearch.symbolic.grammar import Grammar
from sugarsearch.symbolic.surrogate import Surrogate

EVOLUTION_TRIES = 30
RANDOM_TRIES = 300
CROSSOVER_SHARE = 0.2  # of evolved candidates; the rest are mutations of one parent


class SpaceExhaustedError(Exception):
    """No new, admissible candidate was found in a bounded number of tries."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A candidate and where it came from (one of `trials.ORIGINS`)."""

    surrogate: Surrogate
    origin: str


@dataclass(frozen=True, slots=True)
class Parent:
    """A told candidate that may have children."""

    expression: Expression
    score: float


class ProposingSampler(BaseSampler):
    """Turns a proposal into Optuna's terms: numbers that describe it are the trial's parameters."""

    def __init__(self, space: SearchSpace, config: SearchConfig, queue: Sequence[Surrogate]) -> None:
        self._grammar, self._space, self._config, self._queue = Grammar(space), space, config, queue
        self._proposals: dict[int, Proposal] = {}

    def proposal(self, number: int) -> Proposal:
        """What trial `number`, suggested in this process, stands for."""
        return self._proposals[number]

    @abstractmethod
    def propose(self, study: Study, trial: FrozenTrial) -> Proposal:
        """A candidate for `trial`, whose number lies after the queue.

        Raises:
            SpaceExhaustedError: none was found.
        """

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        if trial.number < len(self._queue):
            proposal = Proposal(self._queue[trial.number], "queue")
        else:
            proposal = self.propose(study, trial)
        self._proposals[trial.number] = proposal
        return {name: distribution for name, (_, distribution) in self._described(trial).items()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {name: value for name, (value, _) in self._described(trial).items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        raise NotImplementedError(f"{param_name}: a candidate is proposed whole, not parameter by parameter.")

    def _described(self, trial: FrozenTrial) -> dict[str, tuple[Any, BaseDistribution]]:
        proposal = self._proposals[trial.number]
        return trials.described(proposal.surrogate, proposal.origin, self._space)


class RandomTreeSampler(ProposingSampler):
    """Trees drawn from the grammar, each function once."""

    def __init__(self, space: SearchSpace, config: SearchConfig, queue: Sequence[Surrogate]) -> None:
        super().__init__(space, config, queue)
        self._expressions: list[Expression] = []  # by trial number
        self._known: set[str] = set()

    def propose(self, study: Study, trial: FrozenTrial) -> Proposal:
        self._learn(study.get_trials(deepcopy=False)[: trial.number])
        for candidate in self._candidates(study, np.random.default_rng([self._config.seed, trial.number])):
            if _trained_identity(candidate.surrogate) not in self._known and _admitted(candidate.surrogate):
                return candidate
        raise SpaceExhaustedError

    def _candidates(self, study: Study, rng: np.random.Generator) -> Iterator[Proposal]:
        for _ in range(RANDOM_TRIES):
            yield Proposal(self._grammar.surrogate(self._grammar.sample(rng)), "random")

    def _learn(self, earlier: Sequence[FrozenTrial]) -> None:
        """Take in the candidates of `earlier` trials: of this batch from memory, of a resumed study from their rows."""
        for trial in earlier[len(self._expressions) :]:
            running = self._proposals.get(trial.number)
            surrogate = running.surrogate if running else trials.row_of(trial).restore()
            self._expressions.append(surrogate.bound)
            self._known.add(_trained_identity(surrogate))


class EvolutionSampler(RandomTreeSampler):
    """Regularised evolution: parents win tournaments among the youngest `population` told candidates.

    Ageing instead of elitism (Real et al. 2019, arXiv:1802.01548): who was lucky once leaves the population
    in time. Candidates are random until `population` are told, and when evolution finds nothing new.
    """

    def __init__(self, space: SearchSpace, config: SearchConfig, queue: Sequence[Surrogate]) -> None:
        super().__init__(space, config, queue)
        self._breeding: dict[Expression, bool] = {}

    def _candidates(self, study: Study, rng: np.random.Generator) -> Iterator[Proposal]:
        told = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        if len(told) >= self._config.population:
            parents = self._parents(told[-self._config.population :])
            for _ in range(EVOLUTION_TRIES if parents else 0):
                yield self._child(parents, rng)
        yield from super()._candidates(study, rng)

    def _parents(self, youngest: Sequence[FrozenTrial]) -> list[Parent]:
        """Those that the grammar could have written; a queued surrogate of another template is no parent."""
        known = [(self._expressions[trial.number], trial.value) for trial in youngest]
        return [
            Parent(expression, value)
            for expression, value in known
            if value is not None and self._may_breed(expression)
        ]

    def _may_breed(self, expression: Expression) -> bool:
        if expression not in self._breeding:
            self._breeding[expression] = self._grammar.accepts(expression)
        return self._breeding[expression]

    def _child(self, parents: Sequence[Parent], rng: np.random.Generator) -> Proposal:
        first = self._winner(parents, rng)
        if rng.random() < CROSSOVER_SHARE:
            crossed = self._grammar.cross(first, self._winner(parents, rng), rng)
            return Proposal(self._grammar.surrogate(crossed), "crossover")
        return Proposal(self._grammar.surrogate(self._grammar.mutate(first, rng)), "mutation")

    def _winner(self, parents: Sequence[Parent], rng: np.random.Generator) -> Expression:
        entrants = rng.choice(len(parents), size=min(self._config.tournament, len(parents)), replace=False)
        best = max((parents[int(entrant)] for entrant in entrants), key=lambda parent: parent.score)
        return best.expression


class FamilySampler(ProposingSampler):
    """A family's parameters, from one of Optuna's own samplers made anew with its own seed for each candidate."""

    def propose(self, study: Study, trial: FrozenTrial) -> Proposal:
        seed = int(np.random.default_rng([self._config.seed, trial.number]).integers(2**31))
        random = self._config.sampler == "random"
        inner = RandomSampler(seed) if random else TPESampler(seed=seed)
        ranges = trials.parameter_distributions(self._space.parameters)
        values = inner.sample_relative(study, trial, ranges)
        for name, distribution in ranges.items():
            if name not in values:
                values[name] = inner.sample_independent(study, trial, name, distribution)
        return Proposal(self._grammar.at(**values), self._config.sampler)


def make_sampler(space: SearchSpace, config: SearchConfig, queue: Sequence[Surrogate]) -> ProposingSampler:
    """The sampler that a study asks for; `queue` is tried first."""
    if space.template == "family":
        return FamilySampler(space, config, queue)
    kind = EvolutionSampler if config.sampler == "evolution" else RandomTreeSampler
    return kind(space, config, queue)


def _trained_identity(surrogate: Surrogate) -> str:
    """The identity of g with its scale: at unit gain, 2*sigmoid(x) and 3*sigmoid(x) are one candidate."""
    if surrogate.scale == 1:
        return surrogate.identity
    return Surrogate.of(call("mul", constant(surrogate.scale), surrogate.bound)).identity


def _admitted(surrogate: Surrogate) -> bool:
    try:
        admit(surrogate)
    except AdmissionError:
        return False
    return True

"""Samplers: what is proposed depends on the seed, the index and what was told; nothing twice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import optuna
import pytest

from sugarsearch.config.schema import SearchConfig, SearchSpace
from sugarsearch.runs.load import load_space
from sugarsearch.runs.results import ScreeningRow
from sugarsearch.search import trials
from sugarsearch.search.samplers import Proposal, ProposingSampler, SpaceExhaustedError, make_sampler
from sugarsearch.symbolic.expression import Expression
from sugarsearch.symbolic.grammar import Grammar
from sugarsearch.symbolic.library import surrogate
from sugarsearch.symbolic.surrogate import Surrogate

optuna.logging.set_verbosity(optuna.logging.WARNING)
TREES = load_space("whole_line")
QUEUE = [surrogate("relu"), surrogate("b_silu").at_unit_gain()]
Score = Callable[[Surrogate], float]


def settings(sampler: str, seed: int = 0, population: int = 6) -> SearchConfig:
    return SearchConfig.model_validate(
        {"sampler": sampler, "candidates": 99, "learning_rates": (0.1,), "seed": seed, "population": population}
    )


def at_zero(g: Surrogate) -> float:
    """A score with a slope: evolution can climb it."""
    return float(np.clip(g.at_zero, 0, 1))


def tell(study: optuna.Study, trial: optuna.Trial, proposal: Proposal, score: Score) -> None:
    g, value = proposal.surrogate, score(proposal.surrogate)
    row = ScreeningRow(
        index=trial.number, label=g.label, surrogate=g.to_json(), origin=proposal.origin, status="COMPLETED",
        score=value, best_learning_rate=0.1, scores_by_learning_rate={}, epochs_scores=[], gain=1.0, at_zero=0.0,
        reason="", seconds=0.0,
    )  # fmt: skip
    trials.attach(trial, row)
    study.tell(trial, value)


def run(
    space: SearchSpace,
    config: SearchConfig,
    count: int,
    score: Score = at_zero,
    batch: int = 4,
    before: optuna.Study | None = None,
) -> tuple[optuna.Study, list[Proposal]]:
    """Ask and tell in batches; `before` is resumed by a sampler that has seen nothing itself."""
    sampler = make_sampler(space, config, QUEUE)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.add_trials(before.trials if before else [])
    proposals: list[Proposal] = []
    start = len(study.trials)
    while (told := start + len(proposals)) < count:
        asked = [ask(study, sampler) for _ in range(min(batch, count - told))]
        for trial, proposal in asked:
            tell(study, trial, proposal, score)
        proposals += [proposal for _, proposal in asked]
    return study, proposals


def ask(study: optuna.Study, sampler: ProposingSampler) -> tuple[optuna.Trial, Proposal]:
    trial = study.ask()
    trials.suggest(trial)
    return trial, sampler.proposal(trial.number)


@pytest.mark.parametrize(
    ("space", "sampler"),
    [
        (TREES, "random"),
        (TREES, "evolution"),
        (load_space("b_silu_alpha"), "tpe"),
        (load_space("nelu_alpha"), "random"),
    ],
)
def test_a_resumed_study_proposes_what_an_uninterrupted_one_does(space: SearchSpace, sampler: str) -> None:
    _, whole = run(space, settings(sampler), 20)
    study, first = run(space, settings(sampler), 8)
    _, rest = run(space, settings(sampler), 20, before=study)
    assert first + rest == whole
    assert run(space, settings(sampler, seed=1), 20)[1] != whole


def test_the_queue_comes_first() -> None:
    for sampler in ("random", "evolution"):
        _, proposals = run(TREES, settings(sampler), 4)
        assert [p.surrogate for p in proposals[:2]] == QUEUE
        assert [p.origin for p in proposals] == ["queue", "queue", "random", "random"]


@pytest.mark.parametrize("sampler", ["random", "evolution"])
def test_no_function_is_trained_twice_and_all_have_unit_gain(sampler: str) -> None:
    """Small trees with a constant factor are mostly the same function at unit gain."""
    space = SearchSpace(name="small", template="gate", unary=("tanh",), binary=("mul",), max_depth=4, max_nodes=9)
    _, proposals = run(space, settings(sampler), 40, score=lambda g: -g.expression.nodes, batch=7)
    x = np.linspace(-5, 5, 101)
    assert len({np.round(p.surrogate(x), 6).tobytes() for p in proposals}) == 40
    assert [p.surrogate.gain for p in proposals] == pytest.approx([1.0] * 40)


def test_evolution_beats_random_on_a_score_with_a_slope() -> None:
    def target(g: Surrogate) -> float:
        x = np.linspace(-3, 3, 61)
        return float(1 / (1 + np.mean((g(x) - surrogate("gelu").at_unit_gain()(x)) ** 2)))

    def late_mean(sampler: str) -> float:
        _, proposals = run(TREES, settings(sampler, population=10), 70, target)
        return float(np.mean([target(p.surrogate) for p in proposals[35:]]))

    assert late_mean("evolution") > late_mean("random") + 0.05


def test_only_the_youngest_told_candidates_have_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """However good an older one is; here ReLU, the first of all."""
    parents: list[Expression] = []
    mutate = Grammar.mutate

    def noted(grammar: Grammar, expression: Expression, rng: np.random.Generator) -> Expression:
        parents.append(expression)
        return mutate(grammar, expression, rng)

    monkeypatch.setattr(Grammar, "mutate", noted)
    config = settings("evolution", population=5)
    study, proposals = run(TREES, config, 20, score=lambda g: 0.9 if g == QUEUE[0] else 0.5)
    parents.clear()
    run(TREES, config, 24, before=study)
    assert parents
    assert set(parents) <= {p.surrogate.bound for p in proposals[15:]}


def test_tpe_finds_the_peak_of_a_family_and_learns_from_the_queue() -> None:
    def peak(g: Surrogate) -> float:
        return -abs(dict(g.parameters).get("alpha", 9.0) - 3.0) / 10

    study, proposals = run(load_space("b_silu_alpha"), settings("tpe"), 40, peak)
    best = max(proposals, key=lambda p: peak(p.surrogate)).surrogate
    assert dict(best.parameters)["alpha"] == pytest.approx(3.0, abs=0.2)
    assert "alpha" not in study.trials[0].params  # ReLU has none
    assert study.trials[1].params.get("alpha") == 1.67  # the queue's B-SiLU is a member of the family
    assert {p.origin for p in proposals[2:]} == {"tpe"}


def test_an_exhausted_space_says_so() -> None:
    space = SearchSpace(name="tiny", template="negative_side", unary=("tanh",), max_depth=2, max_nodes=5)
    sampler = make_sampler(space, settings("random"), [])
    study = optuna.create_study(direction="maximize", sampler=sampler)

    def until_the_end() -> None:
        while True:
            tell(study, *ask(study, sampler), at_zero)

    with pytest.raises(SpaceExhaustedError):
        until_the_end()


def test_importances_of_the_descriptors_can_be_computed() -> None:
    study, _ = run(TREES, settings("random"), 40, score=lambda g: g.at_zero)
    importances = optuna.importance.get_param_importances(study)
    assert set(importances) == set(trials.DESCRIPTORS)
    assert importances["g(0)"] > 2 * importances["nodes"]


def test_a_queued_surrogate_that_is_not_finite_is_still_a_trial() -> None:
    wild = surrogate("1/x")
    described = trials.described(wild, "queue", TREES)
    assert all(np.isfinite(value) for name, (value, _) in described.items() if name != "origin")
    assert all(d._contains(d.to_internal_repr(value)) for value, d in described.values())

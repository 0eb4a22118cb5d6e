"""Ablations in a verdict: which arms they add, how those are run, what is compared, and that they decide nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from sugarsearch.config.comparison import Compared, ComparisonConfig
from sugarsearch.config.schema import DataConfig, ModelConfig, Recipe, SearchSpace
from sugarsearch.config.verdict import VerdictConfig
from sugarsearch.evaluation.jobs import Job, seed_of
from sugarsearch.evaluation.records import Record, Status
from sugarsearch.symbolic.library import surrogate
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.verdict.arms import entrants
from sugarsearch.verdict.final import comparison_table
from sugarsearch.verdict.pairs import ADAM, ADAM_ALONE, FINALISTS, GRAFTED, NORM, Pair
from sugarsearch.verdict.statistics import holm
from sugarsearch.verdict.table import FinalTable

ONE, TWO = surrogate("sigmoid(4*x)"), surrogate("elu")
SEED = 3
# By g and ablation: what a run gives, before noise.
LEVELS = {
    (ONE.label, ""): 0.70, (ONE.label, "adam"): 0.66, (ONE.label, "grafted"): 0.64,
    (TWO.label, ""): 0.68, (TWO.label, "adam"): 0.61, (TWO.label, "grafted"): 0.69,
    ("relu", ""): 0.60, ("relu", "adam"): 0.63,
}  # fmt: skip


class Trainer:
    """Scores by LEVELS, with noise of the seed; the best rate is 0.03, and 0.001 by Adam.

    contrary: ablations go against the noise of the others, so that all arms together do not go with their seeds.
    own: noise of each run by itself.
    """

    def __init__(self, contrary: bool = False, own: float = 0.0) -> None:
        self.jobs, self.contrary, self.own = list[Job](), contrary, own

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Record]:
        for job in jobs:
            self.jobs.append(job)
            noise = 0.02 * np.random.default_rng(job.seed).normal()
            if self.contrary and job.ablation:
                noise *= -1.2
            noise += self.own * np.random.default_rng([job.seed, *job.id.encode()]).normal()
            best = 0.001 if job.ablation == "adam" else 0.03
            level = LEVELS.get((job.surrogate.label, job.ablation), 0.6)
            score = level + noise - 0.05 * abs(math.log(job.learning_rate / best))
            yield Record(
                job=job, recipe="r", mode="eager", device="cpu", status=Status.COMPLETED, classes=10, seconds=1.0,
                versions={}, scores=(0.1, score),
            )  # fmt: skip


def comparison(*ablations: str, space: bool = False) -> ComparisonConfig:
    final = {"learning_rates": (0.01, 0.03, 0.1), "replicates": 9, "ablations": ablations}
    return ComparisonConfig(
        name="c",
        surrogates={"one": Compared(g=ONE.label), "two": Compared(g=TWO.label)},
        recipe=Recipe(data=DataConfig(name="digits"), model=ModelConfig(name="small"), epochs=2),
        space=SearchSpace(name="p", template="gate", unary=("sigmoid", "tanh")) if space else None,
        seed=SEED,
        final=VerdictConfig.model_validate(final),
    )


def table_of(trainer: Trainer, *ablations: str, **surrogates: Surrogate) -> FinalTable:
    return comparison_table(trainer, surrogates or {"one": ONE, "two": TWO}, comparison(*ablations), scoring=None)


PLAIN = ["one", "one at unit gain", "two", "two at unit gain", "relu", "b_silu(alpha=1.67)"]


@pytest.mark.parametrize(
    ("ablations", "added"),
    [
        ((), []),
        (("adam",), ["relu by Adam", "one by Adam", "two by Adam"]),
        (("grafted",), ["one grafted", "two grafted"]),
        (("adam", "grafted"), ["relu by Adam", "one by Adam", "two by Adam", "one grafted", "two grafted"]),
    ],
)
def test_ablations_add_their_arms_once_after_the_others(ablations: tuple[str, ...], added: list[str]) -> None:
    arms = entrants({"one": ONE, "two": TWO}, comparison(*ablations))
    assert sorted(arm.title for arm in arms) == sorted([*PLAIN, *added])
    assert [arm.title for arm in arms if arm.role == "ablation"] == added
    assert [arm.title for arm in arms][-len(added) or len(arms) :] == added
    assert len({arm.label for arm in arms}) == len(arms)
    assert {arm.ablation for arm in arms} == {"", *ablations}


def test_random_controls_of_nearly_one_gain_have_names_and_labels_of_their_own() -> None:
    near = {"a": surrogate("b_silu(alpha=1.67)"), "b": surrogate("b_silu(alpha=1.6701)")}
    arms = entrants(near, comparison(space=True))
    titles = [arm.title for arm in arms]
    assert len([title for title in titles if title.startswith("random g of gain 1.3")]) == 2
    assert len(set(titles)) == len({arm.label for arm in arms}) == len(arms)


def test_a_surrogate_that_is_relu_or_a_control_stands_once() -> None:
    arms = entrants({"plain": surrogate("relu"), "b_silu": surrogate("b_silu"), "one": ONE}, comparison("adam"))
    titles = [arm.title for arm in arms]
    assert titles[:3] == ["b_silu", "one", "relu"]
    assert titles.count("relu by Adam") == 1
    assert not any("1.67" in title for title in titles)
    assert next(arm for arm in arms if arm.title == "b_silu").role == "finalist"


def test_sweeps_of_adam_begin_at_rates_of_their_own() -> None:
    trainer = Trainer()
    table_of(trainer, "adam", "grafted")
    swept: dict[str, set[float]] = {"": set(), "adam": set(), "grafted": set()}
    for job in trainer.jobs:
        if job.stage == "tuning":
            swept[job.ablation].add(job.learning_rate)
    assert swept == {"": {0.01, 0.03, 0.1}, "grafted": {0.01, 0.03, 0.1}, "adam": {3e-4, 1e-3, 3e-3}}
    finals = {(job.ablation, job.learning_rate) for job in trainer.jobs if job.stage == "final" and job.ablation}
    assert finals == {("adam", 0.001), ("grafted", 0.03)}


def test_ablations_share_the_seeds_of_the_arms_they_belong_to() -> None:
    trainer = Trainer()
    table_of(trainer, "adam", "grafted")
    for stage, count in (("tuning", 3), ("final", 9)):
        seeds: dict[Any, set[int]] = {}
        for job in trainer.jobs:
            if job.stage == stage:
                seeds.setdefault((job.surrogate, job.ablation), set()).add(job.seed)
        assert len(seeds) == 11
        assert all(used == {seed_of(SEED, stage, r) for r in range(count)} for used in seeds.values())


def pairs_by_title(table: FinalTable) -> dict[tuple[str, str], Pair]:
    titles = {arm.label: arm.title for arm in table.rows}
    return {(titles[pair.first], titles[pair.second]): pair for pair in table.pairs}


def test_further_comparisons_have_the_right_arms_signs_and_questions() -> None:
    made = pairs_by_title(table_of(Trainer(), "adam", "grafted"))
    expected = {
        ("one", "two"): (0.02, FINALISTS),
        ("one by Adam", "relu by Adam"): (0.03, ADAM),
        ("one", "relu by Adam"): (0.07, ADAM_ALONE),
        ("one grafted", "relu"): (0.04, GRAFTED),
        ("one", "one grafted"): (0.06, NORM),
        ("two by Adam", "relu by Adam"): (-0.02, ADAM),
        ("two", "relu by Adam"): (0.05, ADAM_ALONE),
        ("two grafted", "relu"): (0.09, GRAFTED),
        ("two", "two grafted"): (-0.01, NORM),
    }
    assert {key: pair.asks for key, pair in made.items()} == {key: asks for key, (_, asks) in expected.items()}
    for key, (difference, _) in expected.items():
        assert made[key].mean == pytest.approx(difference)
        assert made[key].n == 9


def test_only_what_was_asked_for_is_compared() -> None:
    assert set(pairs_by_title(table_of(Trainer()))) == {("one", "two")}
    assert table_of(Trainer(), one=ONE).pairs == []
    assert set(pairs_by_title(table_of(Trainer(), "grafted", one=ONE))) == {
        ("one grafted", "relu"), ("one", "one grafted")
    }  # fmt: skip


def test_p_values_are_corrected_over_all_further_comparisons_and_over_no_others() -> None:
    pairs = table_of(Trainer(own=0.05), "adam", "grafted").pairs
    assert len(pairs) == 9
    expected = [p for p, _ in holm([pair.p for pair in pairs])]
    assert [pair.p_holm for pair in pairs] == pytest.approx(expected)
    assert min(pairs, key=lambda pair: pair.p).p_holm == pytest.approx(9 * min(pair.p for pair in pairs))


@pytest.mark.parametrize("contrary", [False, True])
def test_ablations_decide_nothing(contrary: bool) -> None:
    without = table_of(Trainer(contrary))
    beside = table_of(Trainer(contrary), "adam", "grafted")
    assert beside.verdicts == without.verdicts
    assert all(comparison.paired for comparison in beside.comparisons)
    plain = [arm for arm in beside.rows if not arm.ablation]
    assert plain == without.rows


def test_a_table_with_ablations_comes_back_from_its_file() -> None:
    table = table_of(Trainer(), "adam", "grafted")
    assert FinalTable.from_json(table.to_json()) == table

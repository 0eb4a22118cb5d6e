"""The verdict's table: which jobs it asks for, and what it makes of their records.

The trainer is replaced by a formula, so that sweeps have their best rate where the test puts it. That real
training gives such records is tested with the executors and with the search.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sugarsearch.config.schema import (
    DataConfig,
    ModelConfig,
    ParameterRange,
    Recipe,
    SearchConfig,
    SearchSpace,
    StudyConfig,
)
from sugarsearch.config.verdict import FinalConfig
from sugarsearch.errors import DataError, NothingFinishedError
from sugarsearch.evaluation.jobs import Job, seed_of
from sugarsearch.evaluation.records import Record, Status
from sugarsearch.nn.admission import admit
from sugarsearch.symbolic.grammar import Grammar
from sugarsearch.symbolic.library import surrogate
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.verdict import test_data
from sugarsearch.verdict.arms import Screened
from sugarsearch.verdict.final import collapse_limit, final_table
from sugarsearch.verdict.table import Arm, FinalTable

FINALIST = surrogate("sigmoid(4*x)").at_unit_gain()
FOUND = FINALIST.label
B_SILU = "b_silu(alpha=1.67)"


def screened(*found: Surrogate) -> list[Screened]:
    return [Screened(g, 0.02, 0.9 - 0.01 * rank) for rank, g in enumerate(found)]


def study(**final: object) -> StudyConfig:
    settings = {"learning_rates": (0.01, 0.03, 0.1), "replicates": 7, **final}
    return StudyConfig(
        name="s",
        space=SearchSpace(name="p", template="gate", unary=("sigmoid", "tanh", "exp")),
        recipe=Recipe(data=DataConfig(name="digits"), model=ModelConfig(name="small"), epochs=3),
        search=SearchConfig(candidates=1, learning_rates=(0.01,), seed=5),
        final=FinalConfig.model_validate(settings),
    )


class Trainer:
    """Accuracy falls with the distance of the rate from `peak[label]`; sigmoid(4*x) is 0.1 better than the rest."""

    def __init__(self, peak: dict[str, float], status: dict[tuple[str, str, int], Status] | None = None) -> None:
        self.peak, self.status, self.jobs = peak, status or {}, list[Job]()

    def stage(self, name: str) -> list[Job]:
        return [job for job in self.jobs if job.stage == name]

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Record]:
        for job in reversed(jobs):  # records come in any order
            self.jobs.append(job)
            label = job.surrogate.label
            noise = np.random.default_rng(job.seed).normal(0, 0.02)
            best = 0.7 if label == FOUND else 0.6
            score = best + noise - 0.1 * abs(np.log(job.learning_rate / self.peak.get(label, 0.03)))
            status = self.status.get((label, job.stage, job.replicate), Status.COMPLETED)
            scores = (0.1, score) if status == Status.COMPLETED else ()
            yield Record(
                job=job,
                recipe="r",
                mode="eager",
                device="cpu",
                status=status,
                classes=10,
                seconds=1.0,
                versions={},
                scores=scores,
            )

    def rates(self, label: str) -> list[float]:
        return sorted(
            {job.learning_rate for job in self.jobs if job.stage == "tuning" and job.surrogate.label == label}
        )


def test_each_arm_has_its_own_best_rate_and_sweeps_grow_while_the_best_lies_at_an_end() -> None:
    trainer = Trainer({"relu": 0.03, "b_silu(alpha=1.67)": 0.0012, FOUND: 5.0})
    table = final_table(trainer, screened(FINALIST), study(), scoring=None)
    best = {row.label: row.learning_rate for row in table.rows}
    assert best["relu"] == 0.03
    assert trainer.rates("b_silu(alpha=1.67)") == [0.0011, 0.0033, 0.01, 0.03, 0.1]
    assert best["b_silu(alpha=1.67)"] == 0.0011
    # two extensions, no more; and ReLU's own best rate, for a comparison at one rate, which it has already
    assert trainer.rates(FOUND) == [0.01, 0.03, 0.1, 0.33, 1.1]
    assert best[f"{FOUND} at unit gain"] == 1.1
    assert trainer.rates("relu") == [0.01, 0.03, 0.1, 1.1], "ReLU is also run at the finalist's best rate"
    assert next(row for row in table.rows if row.label == "relu").tuning.keys() == {"0.01", "0.03", "0.1"}


def test_seeds_are_fresh_paired_and_none_is_shared_between_stages() -> None:
    trainer = Trainer({})
    final_table(trainer, screened(FINALIST, surrogate("tanh(x)+1")), study(), scoring=None)
    seeds: dict[str, dict[Surrogate, set[int]]] = {"rerun": {}, "tuning": {}, "final": {}}
    for job in trainer.jobs:
        seeds[job.stage].setdefault(job.surrogate, set()).add(job.seed)
    for by_arm in seeds.values():
        assert len({frozenset(used) for used in by_arm.values()}) == 1, "arms must share their seeds"
    rerun, tuning, final = ({seed for used in by_arm.values() for seed in used} for by_arm in seeds.values())
    screening = {seed_of(5, "screening", replicate) for replicate in range(100)}
    assert (len(rerun), len(tuning), len(final)) == (6, 3, 7)
    assert len(rerun | tuning | final | screening) == 6 + 3 + 7 + 100


def rows_of(table: FinalTable) -> dict[str, Arm]:
    return {row.title: row for row in table.rows}


def test_the_rows_state_what_was_measured() -> None:
    table = final_table(Trainer({}), screened(FINALIST), study(collapse_below=0.6), scoring=test_data.OPEN)
    rows = rows_of(table)
    assert rows.keys() == {"best found", "relu", B_SILU, "random g of gain 1"}
    first, relu = rows["best found"], rows["relu"]
    assert table.rows[0] is first
    assert first.role == "finalist"
    assert {row.role for title, row in rows.items() if title != "best found"} == {"control"}
    noise = [np.random.default_rng(seed_of(5, "final", r)).normal(0, 0.02) for r in range(7)]
    assert first.summary.mean == pytest.approx(0.7 + np.mean(noise))
    assert first.summary.sd == pytest.approx(np.std(noise, ddof=1))
    assert first.difference is not None
    assert first.difference.mean == pytest.approx(0.1)
    assert relu.difference is None
    assert relu.summary.collapse_share == np.mean([0.6 + n <= 0.6 for n in noise])
    assert relu.gain == pytest.approx(1.0)
    assert relu.at_zero == 0.0
    assert table.scored_on == "test"
    assert table.verdict is not None
    assert table.winner == table.verdict.sentence
    assert table.winner.startswith("best found: better than tuned ReLU by 10.0 to 10.0 points (")
    assert FinalTable.from_json(json.loads(json.dumps(table.to_json()))) == table


def test_the_re_run_decides_who_is_tuned() -> None:
    lucky = [surrogate(f"sigmoid({k}*x)").at_unit_gain() for k in (2, 3, 5)]
    trainer = Trainer({})
    given = [*screened(*lucky, surrogate("b_silu").at_unit_gain()), Screened(FINALIST, 0.05, 0.5)]
    given.append(Screened(surrogate("relu"), 0.01, 0.4))
    given.append(Screened(surrogate("sigmoid(9*x)"), 0.01, 0.3))
    table = final_table(trainer, given, study(rerun={"candidates": 4, "replicates": 2}), scoring=None)
    assert {(job.surrogate.label, job.learning_rate) for job in trainer.stage("rerun")} == {
        ("sigmoid(5*x)", 0.02),
        ("sigmoid(2*x)", 0.02),
        ("sigmoid(3*x)", 0.02),
        (FOUND, 0.05),  # a control of the table is passed over
        ("relu", 0.01),
    }
    assert len(trainer.stage("rerun")) == 10
    assert table.rerun[0].label == f"{FOUND} at unit gain"
    assert table.rerun[0].screening == 0.5
    assert table.rerun[0].scores.keys() == {"0", "1"}
    assert rows_of(table)["best found"].label == f"{FOUND} at unit gain"


def test_where_relu_was_no_candidate_its_rate_is_looked_for() -> None:
    config = study()
    config = config.model_copy(update={"search": config.search.model_copy(update={"learning_rates": (0.001, 0.03)})})
    trainer = Trainer({})
    table = final_table(trainer, screened(FINALIST), config, scoring=None)
    rates = {job.learning_rate for job in trainer.stage("rerun") if job.surrogate.label == "relu"}
    assert rates == {0.001, 0.03}
    (relu,) = (row for row in table.rerun if row.label == "relu")
    assert (relu.learning_rate, relu.screening) == (0.03, None)


def test_finalist_and_relu_are_run_to_the_end_at_their_two_best_rates() -> None:
    trainer = Trainer({"relu": 0.02, FOUND: 0.05, B_SILU: 0.02})
    table = final_table(trainer, screened(FINALIST), study(), scoring=None)
    finals = {
        label: {job.learning_rate for job in trainer.stage("final") if job.surrogate.label == label}
        for label in ("relu", FOUND, B_SILU)
    }
    assert finals == {"relu": {0.01, 0.03}, FOUND: {0.03, 0.1}, B_SILU: {0.03}}
    for title in ("relu", "best found"):
        assert rows_of(table)[title].learning_rate == 0.03
        assert rows_of(table)[title].scores.keys() == {str(replicate) for replicate in range(7)}


def test_optimism_is_what_the_re_run_promised_and_the_final_runs_did_not_show() -> None:
    class Lucky(Trainer):
        def __call__(self, jobs: Sequence[Job]) -> Iterator[Record]:
            for record in super().__call__(jobs):
                lucky = record.job.stage == "rerun" and record.job.surrogate.label == FOUND
                yield dataclasses.replace(record, scores=(0.1, record.scores[-1] + 0.05)) if lucky else record

    table = final_table(Lucky({}), [*screened(FINALIST), Screened(surrogate("relu"), 0.02, 0.1)], study(), scoring=None)
    assert table.optimism is not None
    assert table.optimism.promised == pytest.approx(0.15)
    assert table.optimism.shown == pytest.approx(0.1)
    assert table.optimism.points == pytest.approx(5.0)
    assert table.optimism.sd == pytest.approx(0.05 / rows_of(table)["relu"].summary.sd)


def test_every_finalist_has_its_own_controls() -> None:
    strong, weak = surrogate("2*sigmoid(4*x)"), surrogate("sigmoid(3*x)/2")
    config = study(finalists=2, controls=("b_silu(alpha=1)", "elu"), replicates=8)
    table = final_table(Trainer({}), screened(strong, weak, surrogate("tanh(x)+1")), config, scoring=None)
    rows = rows_of(table)
    gains = {title: row.gain for title, row in rows.items()}
    first, second = gains["found 1"], gains["found 2"]
    assert rows.keys() == {
        "found 1", "found 1 at unit gain", f"random g of gain {first:.3g}",
        "found 2", "found 2 at unit gain", f"random g of gain {second:.3g}",
        "relu", "elu(alpha=1)", "b_silu(alpha=1)",
    }  # fmt: skip
    assert gains["found 1 at unit gain"] == pytest.approx(1)
    assert gains["found 2 at unit gain"] == pytest.approx(1)
    assert gains[f"random g of gain {first:.3g}"] == pytest.approx(first)
    shapes = {surrogate_of(rows[f"random g of gain {gain:.3g}"]).identity for gain in (first, second)}
    assert len(shapes) == 1
    assert table.verdict is not None
    made = [(item.arm, item.control, item.against) for item in table.comparisons]
    titles = {row.label: title for title, row in rows.items()}
    assert {(titles[arm], control, titles[against]) for arm, control, against in made} == {
        (found, control, against)
        for found, gain in (("found 1", first), ("found 2", second))
        for control, against in (
            ("relu", "relu"), ("unit", f"{found} at unit gain"), ("random", f"random g of gain {gain:.3g}")
        )
    }  # fmt: skip
    worst = max(table.comparisons, key=lambda item: item.p)
    assert worst.p_holm >= worst.p


def surrogate_of(arm: Arm) -> Surrogate:
    return Surrogate.from_json(arm.surrogate)


def test_the_random_control_is_new_fit_and_the_same_each_time() -> None:
    config = study()
    first = final_table(Trainer({}), screened(FINALIST), config, scoring=None)
    drawn = surrogate_of(rows_of(first)["random g of gain 1"])
    admit(drawn)
    assert Grammar(config.space).accepts(drawn.expression)
    again = final_table(Trainer({}), screened(FINALIST), config, scoring=None)
    assert surrogate_of(rows_of(again)["random g of gain 1"]) == drawn
    taken = final_table(Trainer({}), screened(FINALIST, drawn), config, scoring=None)
    assert surrogate_of(rows_of(taken)["random g of gain 1"]).identity != drawn.identity


def test_for_a_family_the_random_control_is_a_member_at_the_finalists_gain() -> None:
    space = SearchSpace(
        name="f",
        template="family",
        family="b_silu",
        parameters={"alpha": ParameterRange(low=0.5, high=4.0, log=True)},
        gain="own",
    )
    config = study(controls=("relu",)).model_copy(update={"space": space})
    found = surrogate("b_silu", alpha=0.7)
    table = final_table(Trainer({}), screened(found), config, scoring=None)
    drawn = surrogate_of(rows_of(table)[f"random g of gain {found.gain:.3g}"])
    assert drawn.gain == pytest.approx(found.gain)
    assert 0.5 <= dict(drawn.parameters)["alpha"] <= 4
    assert drawn.name == "b_silu"
    assert rows_of(table).keys() >= {"found: b_silu(alpha=0.7)", "found: b_silu(alpha=0.7) at unit gain", B_SILU}


def test_only_final_jobs_are_scored_on_test_data() -> None:
    trainer = Trainer({})
    final_table(trainer, screened(FINALIST), study(), scoring=test_data.OPEN)
    scored = {(job.stage, job.scoring) for job in trainer.jobs}
    assert scored == {("rerun", "validation"), ("tuning", "validation"), ("final", test_data.OPEN)}


def test_the_door_opens_the_test_split() -> None:
    arrays = test_data.open_scoring(DataConfig(name="digits"))
    assert len(arrays) == 359
    assert test_data.OPEN == "sugarsearch.verdict.test_data:open_scoring"


def test_a_data_set_without_test_split_is_refused(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "train" / label).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8), (60 * number, 0, 0)).save(tmp_path / "train" / label / f"{number}.png")
    test_data.require(DataConfig(name="digits"))
    with pytest.raises(DataError, match="test"):
        test_data.require(DataConfig(name=str(tmp_path)))


def test_failures_of_a_candidate_count_as_chance_and_faults_of_the_machine_are_left_out() -> None:
    status = {
        ("relu", "final", 0): Status.DIVERGED,
        (FOUND, "final", 1): Status.CRASHED,
    }
    table = final_table(Trainer({}, status), screened(FINALIST), study(controls=("relu",)), scoring=None)
    rows = rows_of(table)
    assert rows["relu"].scores["0"] == 0.1
    assert rows["relu"].summary.n == 7
    assert rows["relu"].summary.collapse_share == pytest.approx(1 / 7)  # below twice chance
    assert rows["best found"].summary.n == 6
    assert rows["best found"].faults == 1
    difference = rows["best found"].difference
    assert difference is not None
    assert difference.pairs == 6
    assert table.verdict is not None
    assert table.verdict.kind == "no_difference", "six seeds are too few for a statement"
    assert table.verdict.n == 6


def test_an_arm_stands_once_and_scaled_shapes_are_told_apart() -> None:
    elu = surrogate("elu")
    config = study(finalists=2, replicates=8, controls=("elu",))
    table = final_table(Trainer({}), screened(FINALIST, surrogate("sigmoid(4*x)")), config, scoring=None)
    labels = [row.label for row in table.rows]
    assert len(set(labels)) == len(labels)
    assert {FOUND, f"{FOUND} at unit gain", "relu", elu.label, B_SILU} <= set(labels)
    unit = next(row for row in table.rows if row.label == f"{FOUND} at unit gain")
    assert (unit.role, unit.title) == ("finalist", "found 1"), "a finalist that is another's control stays a finalist"
    assert elu.label not in [row.label for row in table.rerun]


def test_when_nothing_finishes_it_says_so() -> None:
    class Broken(Trainer):
        def __call__(self, jobs: Sequence[Job]) -> Iterator[Record]:
            for record in super().__call__(jobs):
                yield dataclasses.replace(record, status=Status.CRASHED, scores=())

    with pytest.raises(NothingFinishedError):
        final_table(Broken({}), screened(FINALIST), study(), scoring=None)


def test_without_a_finalist_there_is_no_verdict_and_it_says_why() -> None:
    table = final_table(Trainer({}), [Screened(surrogate("relu"), 0.01, 0.5)], study(), scoring=None)
    assert table.verdict is None
    assert table.optimism is None
    assert table.winner.startswith("No verdict: there is no surrogate beside the controls. ")
    assert rows_of(table).keys() == {"relu", B_SILU}


@pytest.mark.parametrize(("classes", "limit"), [(2, 0.75), (3, 2 / 3), (4, 0.5), (10, 0.2), (100, 0.02)])
def test_collapse_is_near_chance_and_never_all(classes: int, limit: float) -> None:
    assert collapse_limit(1 / classes) == pytest.approx(limit)


def test_a_sweep_is_not_spoilt_by_the_machine() -> None:
    status = {("relu", "tuning", 0): Status.CRASHED}
    table = final_table(Trainer({}, status), screened(FINALIST), study(controls=("relu",)), scoring=None)
    relu = next(row for row in table.rows if row.label == "relu")
    expected = 0.6 + np.mean([np.random.default_rng(seed_of(5, "tuning", r)).normal(0, 0.02) for r in (1, 2)])
    assert relu.tuning["0.03"] == pytest.approx(expected)

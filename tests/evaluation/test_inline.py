"""Training in this process: real runs on digits, their records, and what befalls them."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from sugarsearch.config.schema import ExecutionConfig, Recipe
from sugarsearch.data.device import DeviceArrays, normalisation
from sugarsearch.data.splits import Split, training_split
from sugarsearch.errors import DataError, SelfTestError, SurgeryError, UsageError
from sugarsearch.evaluation import bench
from sugarsearch.evaluation.executor import InlineExecutor, Judge, Progress, Workload
from sugarsearch.evaluation.jobs import Job
from sugarsearch.evaluation.records import Record, RecordLog, Status
from sugarsearch.training.network import Member
from sugarsearch.training.trainer import TrainingRun

MakeJobs = Callable[..., list[Job]]
MakeRecipe = Callable[..., Recipe]
CPU = torch.device("cpu")
EAGER = ExecutionConfig(device="cpu", mode="eager")


class Mlp(nn.Sequential):
    """A user's network; how many are alive is counted."""

    alive: ClassVar[weakref.WeakSet[Mlp]] = weakref.WeakSet()
    most = 0

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
        Mlp.alive.add(self)
        Mlp.most = max(Mlp.most, len(Mlp.alive))


def run(log: RecordLog, recipe: Recipe, jobs: Sequence[Job], **settings: Any) -> list[Record]:
    execution = settings.pop("execution", ExecutionConfig(device="cpu"))
    limit = settings.pop("trial_time_limit", None)
    asked = {name: settings.pop(name) for name in ("judge", "rungs", "deadline") if name in settings}
    with InlineExecutor(Workload(recipe, execution, limit), log, **settings) as executor:
        return list(executor.evaluate(jobs, **asked))


def by_id(records: Sequence[Record]) -> dict[str, Record]:
    assert len({record.job.id for record in records}) == len(records)
    return {record.job.id: record for record in records}


def keep_all(progress: Sequence[Progress]) -> set[str]:
    return set()


def alone(job: Job, recipe: Recipe) -> list[float]:
    """Accuracy after each epoch of the run that the trainer makes of the job alone: the oracle."""
    split = training_split(recipe.data)
    constants = normalisation(split.train)
    train, validation = DeviceArrays(split.train, constants), DeviceArrays(split.validation, constants)
    member = Member(job.surrogate, job.seed)
    single = TrainingRun([member], job.learning_rate, recipe, job.epochs, train, validation, CPU, "eager")
    return [single.advance()[0].accuracy for _ in range(job.epochs)]


def test_records_say_what_single_runs_give(log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs) -> None:
    recipe, jobs = make_recipe(), make_jobs(replicates=2)
    records = by_id(run(log, recipe, jobs))
    assert records.keys() == {job.id for job in jobs}
    for job in jobs:
        record = records[job.id]
        assert record.status == Status.COMPLETED
        assert record.mode == "population"
        assert record.scores == pytest.approx(alone(job, recipe), abs=0.012)  # one of 90 images may tip over
        assert record.seconds > 0
        assert len(record.sparsity) == len(record.dead_units) == job.epochs
        assert all(0 <= dead <= sparse < 1 for dead, sparse in zip(record.dead_units, record.sparsity, strict=True))
        assert record.versions["torch"] == torch.__version__
    assert len({record.scores for record in records.values()}) > 4
    eager = by_id(run(RecordLog(log.path.with_name("eager")), recipe, jobs[:2], execution=EAGER))
    assert [list(eager[job.id].scores) for job in jobs[:2]] == [alone(job, recipe) for job in jobs[:2]]


def test_what_is_recorded_is_not_run_again(
    log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, jobs = make_recipe(), make_jobs()
    first = run(log, recipe, jobs[:3])
    trained: list[int] = []

    def counting(members: Sequence[Member], *rest: Any) -> TrainingRun:
        trained.append(len(members))
        return TrainingRun(members, *rest)

    monkeypatch.setattr(bench, "TrainingRun", counting)
    again = run(log, recipe, [*jobs, jobs[0]])
    assert by_id(again).items() >= by_id(first).items()
    assert len(again) == 4
    assert trained == [1]
    assert len(log.load()) == 4
    # Records of another recipe are of other jobs.
    assert len(run(log, make_recipe(width=9), jobs[:1])) == 1
    assert len(log.load()) == 5


@pytest.mark.parametrize("mode", ["population", "eager"])
def test_the_judge_sees_all_learning_rates_at_the_rung_and_stops_jobs(
    log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs, mode: str
) -> None:
    recipe, jobs = make_recipe(epochs=3), make_jobs(epochs=3)
    stopped = {jobs[1].id, jobs[2].id}
    seen: list[Sequence[Progress]] = []

    def judge(progress: Sequence[Progress]) -> set[str]:
        seen.append(progress)
        return stopped

    execution = ExecutionConfig.model_validate({"device": "cpu", "mode": mode})
    records = by_id(run(log, recipe, jobs, judge=judge, rungs=(1, 2), execution=execution))
    assert [[p.job_id for p in progress] for progress in seen] == [
        [job.id for job in jobs],
        [jobs[0].id, jobs[3].id],
    ]
    assert [[p.epoch for p in progress] for progress in seen] == [[1] * 4, [2] * 2]
    for job in jobs:
        record = records[job.id]
        assert record.status == (Status.PRUNED if job.id in stopped else Status.COMPLETED)
        assert len(record.scores) == (1 if job.id in stopped else 3)
    told = {p.job_id: p.score for p in seen[0]}
    assert told == {job.id: records[job.id].scores[0] for job in jobs}
    full = by_id(run(RecordLog(log.path.with_name("full")), recipe, jobs, execution=execution))
    assert [records[jobs[i].id].scores for i in (0, 3)] == [full[jobs[i].id].scores for i in (0, 3)]


def test_a_judge_hears_the_same_after_a_resumption(
    log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs
) -> None:
    recipe = make_recipe(epochs=3)
    jobs = make_jobs(surrogates=("relu", "sigmoid(4*x)", "1/x"), rates=(0.003, 0.03, 1e30), epochs=3)
    heard: list[list[Progress]] = []

    def worst(progress: Sequence[Progress]) -> set[str]:
        heard.append(list(progress))
        return {min(progress, key=lambda p: (p.score, p.job_id)).job_id}

    whole = run(log, recipe, jobs, judge=worst, rungs=(1,))
    assert {record.status for record in whole} == {
        Status.COMPLETED, Status.PRUNED, Status.DIVERGED, Status.REJECTED
    }  # fmt: skip
    assert {p.job_id for p in heard[0]} == {job.id for job in jobs}
    cut = RecordLog(log.path.with_name("cut"))
    cut.append([record for record in whole if record.job.learning_rate == 0.003])
    resumed = run(cut, recipe, jobs, judge=worst, rungs=(1,))
    assert heard[1] == heard[0]

    def outcome(records: Sequence[Record]) -> dict[str, Any]:
        return {record.job.id: (record.status, record.scores, record.reason) for record in records}

    assert outcome(resumed) == outcome(whole)


def test_failures_of_candidates_stay_their_own(log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs) -> None:
    # 60 for x > 0 is admitted; 24 layers of it overflow.
    recipe = make_recipe(epochs=3, depth=24)
    jobs = make_jobs(surrogates=("relu", "60 if x > 0 else 30", "exp(x)"), rates=(0.003,), epochs=3)
    relu, wild, rejected = jobs
    records = by_id(run(log, recipe, jobs))
    assert records[rejected.id].status == Status.REJECTED
    assert "is not admitted" in records[rejected.id].reason
    assert records[rejected.id].scores == ()
    assert records[wild.id].status == Status.DIVERGED
    assert records[wild.id].reason == "the loss is not finite after epoch 1"
    assert records[relu.id].scores == by_id(run(RecordLog(log.path.with_name("a")), recipe, [relu]))[relu.id].scores
    assert [r.status for r in log.load()].count(Status.COMPLETED) == 1


class Explosive(Mlp):
    """A user's network that is spoilt by the arithmetic `spoil` on its hidden units."""

    def __init__(self, spoil: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.spoil = spoil

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        hidden = self[2](self[1](self[0](input)))
        logits: torch.Tensor = self[3](hidden + self.spoil(hidden))
        return logits


@pytest.mark.parametrize("batch_size", [64, 1000], ids=["many steps", "one step"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda hidden: 0 * torch.exp(1e4 * hidden),  # zero times infinity
        lambda hidden: torch.exp(1e4 * hidden),  # infinity
        lambda hidden: torch.sqrt(0 * hidden),  # 0 forward; infinite slope backward
        lambda hidden: hidden * 1e38,  # finite in single precision, until the loss takes its exponential
    ],
    ids=["0 * inf", "inf", "gradient", "overflow"],
)
def test_what_is_not_finite_ends_a_job_within_its_epoch_at_chance(
    log: RecordLog,
    make_recipe: MakeRecipe,
    make_jobs: MakeJobs,
    spoil: Callable[[torch.Tensor], torch.Tensor],
    batch_size: int,
) -> None:
    recipe = make_recipe(epochs=3).model_copy(update={"batch_size": batch_size})
    for record in run(log, recipe, make_jobs(epochs=3), model_factory=lambda: Explosive(spoil)):
        assert record.status == Status.DIVERGED
        assert record.reason == "the loss is not finite after epoch 1"
        assert (record.scores, record.value) == ((), 0.1)


def test_populations_are_cut_into_even_chunks(
    log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, jobs = make_recipe(), make_jobs(surrogates=("relu",), rates=(0.01,), replicates=7)
    whole = by_id(run(log, recipe, jobs))
    sizes: list[int] = []

    def counting(members: Sequence[Member], *rest: Any) -> TrainingRun:
        sizes.append(len(members))
        return TrainingRun(members, *rest)

    monkeypatch.setattr(bench, "TrainingRun", counting)
    monkeypatch.setattr(bench, "POPULATION_LIMIT", 3)
    asked: list[int] = []

    def judge(progress: Sequence[Progress]) -> set[str]:
        asked.append(len(progress))
        return set()

    cut = by_id(run(RecordLog(log.path.with_name("cut")), recipe, jobs, judge=judge, rungs=(1,)))
    assert sizes == [2, 2, 3]
    assert asked == [7]
    for job in jobs:
        assert cut[job.id].scores == pytest.approx(whole[job.id].scores, abs=0.012)


@pytest.mark.parametrize(("judge", "most"), [(None, 1), (keep_all, 4)])
def test_no_more_networks_are_in_memory_than_rungs_need(
    log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs, judge: Judge | None, most: int
) -> None:
    Mlp.most = 0
    records = run(log, make_recipe(), make_jobs(), judge=judge, rungs=(1,), model_factory=Mlp)
    assert {record.status for record in records} == {Status.COMPLETED}
    assert {record.mode for record in records} == {"eager"}
    assert Mlp.most == most


def test_your_own_data_is_trained_and_scored_on(log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs) -> None:
    recipe = make_recipe(epochs=2)
    split = training_split(recipe.data)
    # Scored on labels that are off by one, a run that has learned is worse than chance.
    test = split.train.take(np.arange(100))
    wrong = type(test)(test.images, (test.labels + 1) % 10, test.classes, "wrong", "")
    jobs = make_jobs(rates=(0.01,), stage="final", scoring="test")
    settings: dict[str, Any] = {"split": Split(split.train, test), "model_factory": Mlp}
    right = run(log, recipe, jobs, scoring={"test": test}, **settings)
    off = run(RecordLog(log.path.with_name("off")), recipe, jobs, scoring={"test": wrong}, **settings)
    assert min(record.value for record in right) > 0.3
    assert max(record.value for record in off) < 0.2
    with pytest.raises(UsageError, match="no data 'best' to score on; known: validation, test"):
        run(log, recipe, make_jobs(rates=(0.01,), stage="final", scoring="best"), scoring={"test": test}, **settings)


def test_a_candidates_time_is_divided_among_its_jobs(
    log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs
) -> None:
    class Slow(Mlp):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            time.sleep(0.02)
            for layer in self:
                input = layer(input)
            return input

    recipe, jobs = make_recipe(epochs=200), make_jobs(surrogates=("relu",), epochs=200)
    records = run(log, recipe, jobs, trial_time_limit=5.0, model_factory=Slow)
    for record in records:
        assert record.status == Status.TIMEOUT
        assert record.reason.startswith("its 2.5 s were over: cut ")
        assert record.seconds >= 2.5
        assert 0 < len(record.scores) < 50  # an epoch sleeps 0.1 s
        assert record.value == record.scores[-1]
    # The limit is the screening's; and it is no fault of the machine, so it stands.
    assert run(log, recipe, jobs, trial_time_limit=5.0, model_factory=Slow) == records
    final = make_jobs(surrogates=("relu",), rates=(0.003,), epochs=8, stage="final")
    assert run(log, recipe, final, trial_time_limit=0.5, model_factory=Slow)[0].status == Status.COMPLETED


def test_jobs_cut_by_the_deadline_are_not_recorded_and_run_afresh(
    log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs
) -> None:
    recipe, jobs = make_recipe(), make_jobs()
    done = run(log, recipe, jobs[:1])
    late = run(log, recipe, jobs, deadline=time.monotonic() - 1)
    assert [record.status for record in late] == [Status.COMPLETED] + [Status.INTERRUPTED] * 3
    long = make_recipe(epochs=100_000)
    records = run(log, long, make_jobs(epochs=100_000), deadline=time.monotonic() + 0.5)
    assert {record.status for record in records} == {Status.INTERRUPTED}
    assert log.load() == done
    assert {record.status for record in run(log, recipe, jobs)} == {Status.COMPLETED}


class Faulty:
    """A factory that raises when it is called for the first `times` times."""

    def __init__(self, times: int, error: Exception) -> None:
        self.left, self.error, self.calls = times, error, 0

    def __call__(self) -> nn.Module:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return Mlp()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ZeroDivisionError("of yours"), Status.CRASHED),
        (MemoryError(), Status.OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory."), Status.OUT_OF_MEMORY),
        (RuntimeError("[enforce fail at alloc] DefaultCPUAllocator: can't allocate memory"), Status.OUT_OF_MEMORY),
    ],
    ids=["own", "host", "cuda", "torch"],
)
def test_faults_of_the_machine_are_tried_twice_more(
    log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs, error: Exception, status: Status
) -> None:
    recipe, jobs = make_recipe(), make_jobs(surrogates=("relu",), rates=(0.01,))
    mended = run(log, recipe, jobs, model_factory=Faulty(2, error))
    assert [record.status for record in mended] == [Status.COMPLETED]
    assert [record.status for record in log.load()] == [status, status, Status.COMPLETED]
    lasting, other = Faulty(99, error), RecordLog(log.path.with_name("other"))
    (record,) = run(other, recipe, jobs, model_factory=lasting)
    assert (record.status, record.reason, record.value) == (status, f"{type(error).__name__}: {error}", 0.1)
    assert lasting.calls == 3
    assert run(other, recipe, jobs, model_factory=lasting) == [record]
    assert lasting.calls == 3


def test_attempts_of_earlier_sittings_count(log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs) -> None:
    recipe, jobs = make_recipe(), make_jobs(surrogates=("relu",), rates=(0.01,))
    factory = Faulty(99, OSError("gone"))
    run(log, recipe, jobs, model_factory=factory)
    lines = log.path.read_text().splitlines(keepends=True)
    log.path.write_text("".join(lines[:2]))
    factory.calls = 0
    run(log, recipe, jobs, model_factory=factory)
    assert factory.calls == 1


def test_what_cannot_be_run_at_all_ends_the_evaluation(
    log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = make_jobs()
    with pytest.raises(SurgeryError):
        run(log, make_recipe(), jobs, model_factory=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    with pytest.raises(UsageError, match=r"epochs is 2; .* allows 1 to 1"):
        run(log, make_recipe(epochs=1), jobs)
    with pytest.raises(UsageError, match=r"finds [01] CUDA devices"):
        run(log, make_recipe(), jobs, execution=ExecutionConfig(device="cuda:9"))
    other = training_split(make_recipe().data).validation
    two = type(other)(other.images, other.labels % 2, ("even", "odd"), "parity", "")
    with pytest.raises(DataError, match="2 classes that are not those of the training data"):
        run(log, make_recipe(), make_jobs(stage="final", scoring="two"), scoring={"two": two})

    def wrong(*_: object) -> None:
        raise SelfTestError("the gradient is ReLU's")

    monkeypatch.setattr(bench, "self_test", wrong)
    with pytest.raises(SelfTestError):
        run(log, make_recipe(), jobs)
    assert log.load() == []


def test_the_self_test_is_made_in_the_mode_and_form_used_before_anything_else(
    log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested: list[tuple[object, ...]] = []
    monkeypatch.setattr(bench, "self_test", lambda *a: tested.append((*a, len(log.load()))))
    run(log, make_recipe(), make_jobs())
    run(log, make_recipe(), make_jobs(rates=(0.1,)), execution=EAGER)
    assert tested == [("population", CPU, "table", 0), ("eager", CPU, "closed", 4)]

    def broken(*_: object) -> None:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(bench, "self_test", broken)
    with pytest.raises(UsageError, match=r"mode 'eager' does not work here \(RuntimeError: no C\+\+ compiler\)"):
        run(log, make_recipe(), make_jobs(rates=(0.2,)), execution=EAGER)


def test_a_consumer_may_stop_early_and_the_same_seed_gives_the_same_numbers(
    log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs
) -> None:
    recipe, jobs = make_recipe(), make_jobs()
    with InlineExecutor(Workload(recipe, EAGER), log) as executor:
        first = next(iter(executor.evaluate(jobs)))
        assert log.load() == [first]
        rest = list(executor.evaluate(jobs))
    assert rest[0] == first
    again = by_id(run(RecordLog(log.path.with_name("again")), recipe, jobs, execution=EAGER))
    assert {name: r.scores for name, r in again.items()} == {r.job.id: r.scores for r in rest}


def test_threads_are_put_back(log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs) -> None:
    inside: list[int] = []

    def factory() -> nn.Module:
        inside.append(torch.get_num_threads())
        return Mlp()

    execution = ExecutionConfig(device="cpu", threads=2)
    run(log, make_recipe(), make_jobs()[:1], execution=execution, model_factory=factory)
    assert inside == [2]
    assert torch.get_num_threads() == 1


def test_parts_differ_by_one_at_most(make_jobs: MakeJobs) -> None:
    jobs = make_jobs(replicates=10)
    for count in range(1, 41):
        parts = bench.even_parts(jobs, count)
        assert [job for part in parts for job in part] == jobs
        assert {len(part) for part in parts} <= {40 // count, -(-40 // count)}

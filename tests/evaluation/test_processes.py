"""Training in workers: the same records, and what happens when one dies, hangs, or loses its controller."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sugarsearch.config.schema import DataConfig, ExecutionConfig, Recipe
from sugarsearch.errors import RunError, SugarsearchError, SurgeryError
from sugarsearch.evaluation import logged
from sugarsearch.evaluation.executor import InlineExecutor, ProcessExecutor, Progress, Workload
from sugarsearch.evaluation.jobs import Job, recipe_hash
from sugarsearch.evaluation.logged import Place
from sugarsearch.evaluation.process import WorkerProcess
from sugarsearch.evaluation.records import Record, RecordLog, Status

MakeJobs = Callable[..., list[Job]]
MakeRecipe = Callable[..., Recipe]

# A network that misbehaves under the seeds that are written in files of `folder`: the trainer sets the seed before
# it calls the factory.
_NETWORKS = """
import os, signal, sys, time
from pathlib import Path
import torch
from torch import nn

def make(folder):
    print("this is no message")
    fault = Path(folder, str(torch.initial_seed()))
    match fault.read_text() if fault.exists() else "":
        case "exit":
            print("cannot go on", file=sys.stderr, flush=True)
            os._exit(3)
        case "kill":
            fault.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            time.sleep(600)
        case "linear":
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
"""


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where to write which seeds misbehave."""
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def faulty(make_recipe: MakeRecipe, faults: Path) -> Iterator[ProcessExecutor]:
    """An executor of one worker for the network above, whose module only this process's import path leads to.

    Shared, because a worker takes seconds to start.
    """
    (faults / "networks_of_mine.py").write_text(_NETWORKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(faults))
        recipe = make_recipe(model="networks_of_mine:make", folder=str(faults))
        with ProcessExecutor(workload(recipe, limit=10.0), RecordLog(faults / "records.jsonl")) as executor:
            yield executor


def workload(recipe: Recipe, workers: int = 1, limit: float | None = None) -> Workload:
    return Workload(recipe, ExecutionConfig(device="cpu", threads=1, workers=workers), limit)


def outcomes(records: Sequence[Record]) -> dict[str, tuple[Status, tuple[float, ...]]]:
    assert len({record.job.id for record in records}) == len(records)
    return {record.job.id: (record.status, record.scores) for record in records}


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_workers_give_what_this_process_gives_and_share_a_judge(
    log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs
) -> None:
    recipe = make_recipe(epochs=2, model="deep_narrow_mlp")
    jobs = make_jobs(surrogates=("relu", "sigmoid(4*x)", "1/x"), replicates=2)
    heard: list[list[Progress]] = []

    def worse_half(progress: Sequence[Progress]) -> set[str]:
        heard.append(list(progress))
        return {p.job_id for p in sorted(progress, key=lambda p: p.score)[: len(progress) // 2]}

    def interrupt(progress: Sequence[Progress]) -> set[str]:
        raise KeyboardInterrupt

    eager = ExecutionConfig(device="cpu", threads=1, workers=2, mode="eager")
    with InlineExecutor(Workload(recipe, eager), RecordLog(log.path.with_name("inline"))) as inline:
        expected = list(inline.evaluate(jobs, worse_half, (1,)))
    with ProcessExecutor(Workload(recipe, eager), log) as executor:
        records = list(executor.evaluate(jobs, worse_half, (1,)))
        assert outcomes(records) == outcomes(expected)
        assert heard[1] == heard[0]
        assert len(heard) == 2
        assert {record.job.id: record for record in log.load()} == {record.job.id: record for record in records}
        # The executor serves the next batch, without a judge; what is in the log is not run.
        more = list(executor.evaluate([*jobs[:4], *make_jobs(rates=(0.01,))]))
        assert {record.status for record in more} <= {Status.COMPLETED, Status.PRUNED}
        assert len(log.load()) == len(jobs) + 2
        with pytest.raises(KeyboardInterrupt):
            list(executor.evaluate(make_jobs(rates=(0.02,)), interrupt, (1,)))
        assert executor._workers == []
        assert len(log.load()) == len(jobs) + 2


def test_a_worker_that_dies_costs_only_the_job_it_was_at(
    faulty: ProcessExecutor, faults: Path, make_jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logged, "ATTEMPTS", 1)
    jobs = make_jobs(surrogates=("relu",), rates=(0.01,), replicates=4, stage="dies")
    (faults / str(jobs[1].seed)).write_text("exit")
    heard: list[set[str]] = []

    def judge(progress: Sequence[Progress]) -> set[str]:
        heard.append({p.job_id for p in progress})
        return set()

    records = {record.job.id: record for record in faulty.evaluate(jobs, judge, (1,))}
    crashed = records.pop(jobs[1].id)
    assert crashed.status == Status.CRASHED
    assert crashed.reason.startswith("the worker process ended with exit code 3: ")
    assert crashed.reason.endswith("cannot go on")
    assert crashed.value == 0.1
    assert {record.status for record in records.values()} == {Status.COMPLETED}
    assert heard[-1] == records.keys()
    in_log = faulty._log.load()
    assert all(record in in_log for record in (crashed, *records.values()))


def test_a_worker_that_is_killed_is_replaced_and_its_job_run_again(
    faulty: ProcessExecutor, faults: Path, make_jobs: MakeJobs
) -> None:
    jobs = make_jobs(surrogates=("relu",), rates=(0.01,), replicates=3, stage="killed")
    (faults / str(jobs[1].seed)).write_text("kill")
    records = list(faulty.evaluate(jobs))
    assert [record.status for record in records] == [Status.COMPLETED] * 3
    (interrupted,) = [record for record in faulty._log.load() if record.status == Status.INTERRUPTED]
    assert interrupted.job == jobs[1]
    assert "ended by SIGKILL; perhaps the machine ran out of memory" in interrupted.reason


def test_a_worker_that_hangs_is_stopped(faulty: ProcessExecutor, faults: Path, make_jobs: MakeJobs) -> None:
    jobs = make_jobs(surrogates=("relu",), rates=(0.01,), replicates=2)
    (faults / str(jobs[0].seed)).write_text("hang")
    records = {record.job.id: record for record in faulty.evaluate(jobs)}
    assert records[jobs[0].id].status == Status.TIMEOUT
    assert records[jobs[0].id].reason.startswith("did not stop by itself and was killed after 6.")
    assert records[jobs[1].id].status == Status.COMPLETED
    before = faulty._log.load()
    assert all(record in before for record in records.values())
    # Without a limit of its own, at the end of all time.
    started = time.monotonic()
    (record,) = faulty.evaluate([replace(jobs[0], stage="tuning")], deadline=started + 1.0)
    assert record.status == Status.INTERRUPTED
    assert time.monotonic() - started < 20
    assert faulty._log.load() == before


def test_what_a_worker_refuses_is_raised_here(
    faulty: ProcessExecutor, faults: Path, log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs
) -> None:
    jobs = make_jobs(surrogates=("relu",), rates=(0.01,), stage="refused")
    (faults / str(jobs[0].seed)).write_text("linear")
    with pytest.raises(SurgeryError, match="activation"):
        list(faulty.evaluate(jobs))
    recipe = make_recipe()
    lost = workload(recipe.model_copy(update={"data": DataConfig(name="/nowhere/at/all")}))
    with ProcessExecutor(lost, log) as executor, pytest.raises(SugarsearchError, match="/nowhere/at/all") as info:
        list(executor.evaluate(jobs))
    assert info.value.exit_code == 2
    assert log.load() == []


def test_a_worker_that_cannot_start_says_why(
    log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with (
        ProcessExecutor(workload(make_recipe()), log) as executor,
        pytest.raises(RunError, match="a worker cannot start: the worker process ended with exit code 1"),
    ):
        list(executor.evaluate(make_jobs()))


_CONTROLLER = """
import json, sys
from pathlib import Path
from sugarsearch.evaluation.executor import ProcessExecutor, Workload
from sugarsearch.evaluation.jobs import Job, recipe_hash
from sugarsearch.evaluation.process import WorkerProcess
from sugarsearch.evaluation.records import RecordLog

given = json.loads(sys.argv[1])
with ProcessExecutor(Workload.from_json(given["workload"]), RecordLog(given["log"])) as executor:
    executor._place()
    print(executor._workers[0]._process.pid, flush=True)
    for record in executor.evaluate([Job.from_json(value) for value in given["jobs"]]):
        print(record.status, flush=True)
"""


def test_workers_die_with_their_controller_alone(log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs) -> None:
    recipe = make_recipe(epochs=100_000)
    # One short job, and then one that does not end.
    jobs = [*make_jobs(rates=(0.003,), epochs=1)[:1], *make_jobs(rates=(0.03,), epochs=100_000)[:1]]
    execution = ExecutionConfig(device="cpu", threads=1, mode="eager")
    given = {
        "workload": Workload(recipe, execution).to_json(),
        "log": str(log.path),
        "jobs": [job.to_json() for job in jobs],
    }
    command = [sys.executable, "-c", _CONTROLLER, json.dumps(given)]
    controller = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert controller.stdout is not None
    worker = int(controller.stdout.readline())
    try:
        assert controller.stdout.readline() == "COMPLETED\n"
        os.kill(worker, signal.SIGINT)  # the keyboard's interrupt is the controller's business
        time.sleep(0.5)
        assert is_alive(worker)
        controller.kill()
        controller.communicate()
        deadline = time.monotonic() + 5
        while is_alive(worker) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_alive(worker)
    finally:
        if is_alive(worker):
            os.kill(worker, signal.SIGKILL)
    assert [record.status for record in log.load()] == [Status.COMPLETED]


class DeadWorker(WorkerProcess):
    """One that died at two jobs, without ever having been a process."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.number, self.ready, self.busy = 0, True, True
        self._rest()
        self.jobs, self.active = {job.id: job for job in jobs}, [job.id for job in jobs]

    def obituary(self) -> tuple[Status, str]:
        return Status.INTERRUPTED, "killed"

    def close(self) -> None: ...


def test_a_record_written_but_not_reported_counts(
    log: RecordLog, make_recipe: MakeRecipe, make_jobs: MakeJobs, make_record: Callable[..., Record]
) -> None:
    done, lost, *_ = make_jobs()
    load = workload(make_recipe())
    executor = ProcessExecutor(load, log)
    written = replace(make_record(done), recipe=recipe_hash(load.recipe))
    log.append([written])
    dead = DeadWorker([done, lost])
    executor._workers.append(dead)
    executor._told = Place(10, "", "cpu")
    first, second = executor._bury(dead, "eager")
    assert first == written
    assert (second.job, second.status, second.reason) == (lost, Status.INTERRUPTED, "killed")
    assert log.load() == [first, second]

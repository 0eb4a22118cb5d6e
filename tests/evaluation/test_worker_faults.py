"""Whatever a worker does to itself, the others' jobs are run, and the record says what happened."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from sugarsearch.config.schema import ExecutionConfig, Recipe
from sugarsearch.errors import RunError, StoppedError
from sugarsearch.evaluation import executor as executor_module
from sugarsearch.evaluation import logged
from sugarsearch.evaluation.executor import ProcessExecutor, Workload
from sugarsearch.evaluation.jobs import Job, Progress
from sugarsearch.evaluation.records import RecordLog, Status
from sugarsearch.evaluation.stop import Stop

MakeJobs = Callable[..., list[Job]]
MakeRecipe = Callable[..., Recipe]

LIMIT = 1.5

# The trainer sets the seed before it calls the factory, and a file of that name in `folder` says what is to happen.
_NETWORKS = """
import ctypes, os, resource, sys, time
from pathlib import Path
import torch
from torch import nn

class Late(nn.Module):
    def __init__(self, calls):
        super().__init__()
        self.layers, self.calls = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10)), calls
    def forward(self, x):
        self.calls -= 1
        if not self.calls:
            time.sleep(600)
        return self.layers(x)

def make(folder):
    fault = Path(folder, str(torch.initial_seed()))
    match fault.read_text() if fault.exists() else "":
        case "segmentation fault":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "exit":
            os._exit(7)
        case "sys.exit":
            sys.exit("enough")
        case "loop":
            while True:
                pass
        case "call that holds the interpreter":
            ctypes.PyDLL(None).sleep(600)
        case "sleep after two epochs":
            return Late(calls=12)  # four batches and one scoring an epoch
        case "memory":
            here = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
            resource.setrlimit(resource.RLIMIT_AS, (here + (64 << 20), resource.RLIM_INFINITY))
            torch.empty(1 << 30)
        case "memory once":
            fault.write_text("whose worker am I?")
            resource.setrlimit(resource.RLIMIT_DATA, (1 << 20, resource.RLIM_INFINITY))
            bytearray(1 << 30)
        case "whose worker am I?":
            fault.write_text(str(resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY))
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
"""


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where to write which seeds misbehave, and how."""
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def faulty(make_recipe: MakeRecipe, faults: Path) -> Iterator[ProcessExecutor]:
    """An executor of one worker for the network above. Shared, because a worker takes seconds to start."""
    (faults / "faulty_networks.py").write_text(_NETWORKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(faults))
        recipe = make_recipe(model="faulty_networks:make", epochs=8, folder=str(faults))
        execution = ExecutionConfig(device="cpu", threads=1)
        with ProcessExecutor(Workload(recipe, execution, LIMIT), RecordLog(faults / "records.jsonl")) as executor:
            yield executor


def pair(faults: Path, make_jobs: MakeJobs, rate: float, fault: str) -> tuple[Job, Job]:
    """A job that misbehaves and one that does not, of two candidates."""
    bad, good = make_jobs(surrogates=("relu", "sigmoid(4*x)"), rates=(rate,), epochs=8)
    bad = Job(bad.surrogate, rate, 1, 1000 + round(1e6 * rate), 8, "screening")
    (faults / str(bad.seed)).write_text(fault)
    return bad, good


@pytest.mark.parametrize(
    ("number", "fault", "status", "words"),
    [
        (1, "segmentation fault", Status.CRASHED, "ended by SIGSEGV"),
        (2, "abort", Status.CRASHED, "ended by SIGABRT"),
        (3, "exit", Status.CRASHED, "ended with exit code 7"),
        (4, "sys.exit", Status.INTERRUPTED, "called sys.exit('enough')"),
        (5, "memory", Status.OUT_OF_MEMORY, "can't allocate memory"),
    ],
)
def test_a_worker_that_ends_itself_is_replaced(
    faulty: ProcessExecutor,
    faults: Path,
    make_jobs: MakeJobs,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    fault: str,
    status: Status,
    words: str,
) -> None:
    monkeypatch.setattr(logged, "ATTEMPTS", 1)
    bad, good = pair(faults, make_jobs, number / 1000, fault)
    records = {record.job.id: record for record in faulty.evaluate([bad, good])}
    assert records[bad.id].status == status
    assert words in records[bad.id].reason
    assert records[bad.id].value == 0.1
    assert records[good.id].status == Status.COMPLETED
    assert [record for record in faulty._log.load() if record.job == bad] == [records[bad.id]]


@pytest.mark.parametrize(
    ("number", "fault"), [(6, "loop"), (7, "call that holds the interpreter"), (8, "sleep after two epochs")]
)
def test_a_worker_that_hangs_is_killed_within_two_seconds_of_its_limit(
    faulty: ProcessExecutor, faults: Path, make_jobs: MakeJobs, number: int, fault: str
) -> None:
    bad, good = pair(faults, make_jobs, number / 1000, fault)
    records = {record.job.id: record for record in faulty.evaluate([bad, good])}
    record = records[bad.id]
    assert record.status == Status.TIMEOUT
    assert record.reason.startswith("did not stop by itself and was killed after ")
    assert LIMIT < record.seconds < LIMIT + 2
    if "epochs" in fault:
        assert len(record.scores) == 2
        assert record.value == record.scores[-1]  # what it had reached counts
    else:
        assert record.value == 0.1
    assert records[good.id].status == Status.COMPLETED


def test_a_job_too_large_for_the_memory_runs_again_alone_in_a_fresh_worker(
    faulty: ProcessExecutor, faults: Path, make_jobs: MakeJobs
) -> None:
    bad, good = pair(faults, make_jobs, 0.009, "memory once")
    later = make_jobs(surrogates=("relu",), rates=(0.0091,), epochs=8)[0]
    records = list(faulty.evaluate([bad, good, later]))
    assert [record.job for record in records] == [good, later, bad]
    assert {record.status for record in records} == {Status.COMPLETED}
    first, second = [record for record in faulty._log.load() if record.job == bad]
    assert (first.status, first.reason, second.status) == (Status.OUT_OF_MEMORY, "MemoryError: ", Status.COMPLETED)
    assert (faults / str(bad.seed)).read_text() == "True"


def test_memory_that_never_suffices_is_tried_three_times_in_all(
    faulty: ProcessExecutor, faults: Path, make_jobs: MakeJobs
) -> None:
    bad, good = pair(faults, make_jobs, 0.0095, "memory")
    records = {record.job.id: record for record in faulty.evaluate([bad, good])}
    assert records[bad.id].status == Status.OUT_OF_MEMORY
    assert records[bad.id].value == 0.1
    assert records[good.id].status == Status.COMPLETED
    assert [r.status for r in faulty._log.load() if r.job == bad] == [Status.OUT_OF_MEMORY] * 3


_STARTS = """
import os, signal
from pathlib import Path
import numpy as np

def load():
    deaths = Path("{folder}", "deaths")
    count = len(deaths.read_text()) if deaths.exists() else 0
    if count < {times}:
        deaths.write_text("x" * (count + 1))
        os.kill(os.getpid(), signal.SIGKILL)
    part = np.random.default_rng(0).normal(size=(60, 8)).astype("float32"), np.arange(60) % 3
    return part, part
"""


@pytest.mark.parametrize(("times", "starts"), [(3, True), (99, False)])
def test_a_worker_killed_while_it_starts_is_replaced_but_not_for_ever(
    tmp_path: Path,
    make_recipe: MakeRecipe,
    make_jobs: MakeJobs,
    monkeypatch: pytest.MonkeyPatch,
    times: int,
    starts: bool,
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(executor_module, "FALSE_STARTS", 4)
    (tmp_path / f"starts_{times}.py").write_text(_STARTS.format(folder=tmp_path, times=times))
    recipe = make_recipe()
    recipe = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"name": f"starts_{times}:load", "train_limit": None})}
    )
    workload = Workload(recipe, ExecutionConfig(device="cpu", threads=1))
    log = RecordLog(tmp_path / "records.jsonl")
    with ProcessExecutor(workload, log) as executor:
        if starts:
            assert {record.status for record in executor.evaluate(make_jobs())} == {Status.COMPLETED}
        else:
            with pytest.raises(RunError, match="a worker cannot start: the worker process was ended by SIGKILL"):
                list(executor.evaluate(make_jobs()))
    assert all(record.status == Status.COMPLETED for record in log.load())
    assert len((tmp_path / "deaths").read_text()) == (3 if starts else 4)


_CHANGING = """
import numpy as np

def load():
    part = np.random.default_rng().normal(size=(60, 8)).astype("float32"), np.arange(60) % 3
    return part, part
"""


def test_workers_whose_data_differ_are_refused(
    tmp_path: Path, make_recipe: MakeRecipe, make_jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "changing.py").write_text(_CHANGING)
    recipe = make_recipe()
    data = recipe.data.model_copy(update={"name": "changing:load", "train_limit": None})
    workload = Workload(
        recipe.model_copy(update={"data": data}), ExecutionConfig(device="cpu", threads=1, workers=2, mode="eager")
    )

    def until_the_second_worker_has_started(executor: ProcessExecutor) -> None:
        for rate in range(1, 400):
            list(executor.evaluate(make_jobs(rates=(rate / 1000,))))

    with (
        ProcessExecutor(workload, RecordLog(tmp_path / "records.jsonl")) as executor,
        pytest.raises(RunError, match="a loader of yours must give the same each time"),
    ):
        until_the_second_worker_has_started(executor)


# Steps that take long under the seeds that are odd.
_SLOW = """
import time, torch
from torch import nn

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.ReLU())
        self.pause = 0.5 if torch.initial_seed() % 2 else 0.0
    def forward(self, x):
        time.sleep(self.pause)
        return self.layers(x)
"""


@pytest.fixture
def quick_and_slow(
    tmp_path: Path, make_recipe: MakeRecipe, make_jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> tuple[Workload, list[Job]]:
    """Work for two workers that meet at a rung, one of which waits there for the other."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "slow_networks.py").write_text(_SLOW)
    jobs = [
        Job(job.surrogate, job.learning_rate, 0, seed, 2, "screening")
        for seed, job in enumerate(make_jobs(rates=(0.01,)), start=2)
    ]
    execution = ExecutionConfig(device="cpu", threads=1, workers=2, mode="eager")
    return Workload(make_recipe(model="slow_networks:Slow"), execution), jobs


def at_the_rung(executor: ProcessExecutor, act: Callable[[], None]) -> None:
    """Have `act` called, by another thread, when one worker waits at the rung and the other is on its way there."""

    def wait() -> None:
        while sorted(bool(worker.progress) for worker in executor._busy if worker.active) != [False, True]:
            time.sleep(0.01)
        act()

    threading.Thread(target=wait, daemon=True).start()


def test_a_judge_hears_of_all_jobs_together_although_a_worker_dies_on_its_way_to_the_rung(
    log: RecordLog, quick_and_slow: tuple[Workload, list[Job]]
) -> None:
    workload, jobs = quick_and_slow
    heard: list[set[str]] = []
    with ProcessExecutor(workload, log) as executor:

        def kill_the_other() -> None:
            (late,) = [worker for worker in executor._workers if not worker.progress]
            os.kill(late._process.pid, signal.SIGKILL)

        def judge(progress: Sequence[Progress]) -> set[str]:
            heard.append({p.job_id for p in progress})
            return set()

        at_the_rung(executor, kill_the_other)
        records = list(executor.evaluate(jobs, judge, (1,)))
    assert {record.job.id: record.status for record in records} == {job.id: Status.COMPLETED for job in jobs}
    assert [record.status for record in log.load()].count(Status.INTERRUPTED) == 1
    assert heard == [{job.id for job in jobs}]


def test_a_stop_ends_a_worker_that_waits_at_a_rung_for_another(
    log: RecordLog, quick_and_slow: tuple[Workload, list[Job]]
) -> None:
    (workload, jobs), stop = quick_and_slow, Stop()
    with ProcessExecutor(workload, log, stop) as executor:
        at_the_rung(executor, lambda: setattr(stop, "signal", signal.SIGTERM))
        with pytest.raises(StoppedError):
            list(executor.evaluate(jobs, lambda progress: set(), (1,)))
        assert not any(worker.busy for worker in executor._workers)
    assert log.load() == []

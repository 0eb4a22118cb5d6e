"""What a study itself costs, apart from training: 1,000 candidates of the smallest network for one epoch.

Run `python -m benchmarks.overhead` on an otherwise idle core; writes results/overhead.json. Two studies are run: one
that truly trains, whose memory and cost per candidate must stay flat; and one whose jobs are recorded without being
trained, which leaves the overhead: proposing (timed by itself), records on the disk, telling, the database, the hall
of fame. `python -m benchmarks.overhead CANDIDATES` prints the results instead of writing them.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import optuna
import torch
from optuna import Study
from optuna.trial import FrozenTrial

from sugarsearch import __version__
from sugarsearch.evaluation.executor import InlineExecutor
from sugarsearch.evaluation.logged import LoggedExecutor, Place, Round
from sugarsearch.evaluation.records import Record, Status
from sugarsearch.runs.load import load_study
from sugarsearch.runs.observer import Silent, StudyProgress
from sugarsearch.runs.session import MakeExecutor
from sugarsearch.search.samplers import Proposal, RandomTreeSampler
from sugarsearch.search.study import run_study

CANDIDATES = 1_000
BATCH = 20
RESULTS = Path(__file__).parent / "results" / "overhead.json"

STUDY = (
    "recipe.data.train_limit=100",
    "recipe.data.test_limit=100",
    "recipe.model.options.depth=1",
    "recipe.model.options.width=2",
    "recipe.epochs=1",
    "search.replicates=1",
    "final.learning_rates=[0.01]",
    "final.rerun={candidates: 1, replicates: 1}",
    "final.tuning_replicates=3",
    "final.replicates=7",
    "final.finalists=1",
    "execution.device=cpu",
    "execution.threads=1",
)


class UntrainedExecutor(LoggedExecutor):
    """Records every job as completed, without training it."""

    def _place(self) -> Place:
        return Place(10, "none", "cpu")

    def _train(self, task: Round) -> Iterator[Record]:
        # Scores that differ, so that evolution has something to choose from.
        records = [
            self._record(job, "eager", Status.COMPLETED, "", scores=[int(job.id[:4], 16) / 65536])
            for job in task.pending
        ]
        self._log.append(records)
        yield from records


class Meter(Silent):
    """CPU seconds and resident bytes of this process after every batch."""

    def __init__(self) -> None:
        self.seconds = [time.process_time()]
        self.memory = [resident()]

    def progress(self, progress: StudyProgress) -> None:
        self.seconds.append(time.process_time())
        self.memory.append(resident())

    def milliseconds(self, first: int, last: int) -> float:
        """CPU time a candidate, from `first` to `last`: the median batch's, for machines are shared."""
        return 1000 * median(b - a for a, b in pairwise(self.seconds[first // BATCH : last // BATCH + 1])) / BATCH

    def growth(self, first: int, last: int) -> float:
        """MB by which memory has grown meanwhile."""
        return (self.memory[last // BATCH] - self.memory[first // BATCH]) / 2**20


def resident() -> int:
    """Bytes of this process that are in memory (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(make_executor: MakeExecutor, candidates: int) -> dict[str, Any]:
    """One study; its first fifth warms up."""
    config = load_study("quickstart", [*STUDY, f"search.candidates={candidates}", f"search.batch={BATCH}"])
    meter, fifth = Meter(), candidates // 5
    with tempfile.TemporaryDirectory() as folder:
        run_study(config, folder, meter, make_executor)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    fifths = [meter.milliseconds(start, start + fifth) for start in range(0, candidates, fifth)]
    return {
        "cpu_ms_a_candidate": round(meter.milliseconds(fifth, candidates), 2),
        "cpu_ms_a_candidate_by_fifth": [round(value, 2) for value in fifths],
        "last_fifth_over_second": round(fifths[-1] / fifths[1], 3),
        "memory_growth_mb_after_first_fifth": round(meter.growth(fifth, candidates), 1),
        "run_folder_kb_a_candidate": round(size / 1024 / candidates, 1),
    }


def without_training(candidates: int) -> dict[str, Any]:
    """The overhead, with the sampler's share of it."""
    propose, spent = RandomTreeSampler.propose, [0.0]  # evolution's too

    def timed(self: RandomTreeSampler, study: Study, trial: FrozenTrial) -> Proposal:
        started = time.process_time()
        try:
            return propose(self, study, trial)
        finally:
            spent[0] += time.process_time() - started

    RandomTreeSampler.propose = timed  # type: ignore[method-assign]
    try:
        result = measure(UntrainedExecutor, candidates)
    finally:
        RandomTreeSampler.propose = propose  # type: ignore[method-assign]
    sampler = 1000 * spent[0] / candidates
    rest = result["cpu_ms_a_candidate"] - sampler
    return {**result, "sampler_ms_a_candidate": round(sampler, 2), "overhead_ms_a_candidate": round(rest, 2)}


def main() -> None:
    """Measure, and write or print the results."""
    torch.set_num_threads(1)
    candidates = int(sys.argv[1]) if len(sys.argv) > 1 else CANDIDATES
    result = {
        "what": f"{candidates:,} candidates of three jobs, one epoch of a network of 2 units on 100 images, one core",
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, CPU",
        "versions": {"sugarsearch": __version__, "torch": torch.__version__, "optuna": optuna.__version__},
        "training": measure(InlineExecutor, candidates),
        "without_training": without_training(candidates),
    }
    if len(sys.argv) == 1:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

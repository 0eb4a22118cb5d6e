"""The bench: a process's device with the data on it, and batches of jobs trained there."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch

from sugarsearch.config.objects import is_object_name, load_object
from sugarsearch.data.arrays import Arrays
from sugarsearch.data.device import DeviceArrays, normalisation
from sugarsearch.data.splits import Split, training_split
from sugarsearch.errors import AdmissionError, DataError, SugarsearchError, UsageError
from sugarsearch.evaluation.group import Course, Group
from sugarsearch.evaluation.jobs import VALIDATION, Job, Judge, Progress, Workload, recipe_hash
from sugarsearch.evaluation.records import Record, Status
from sugarsearch.nn.admission import admit
from sugarsearch.nn.selftest import self_test
from sugarsearch.training.network import Member, Mode, ModelFactory
from sugarsearch.training.trainer import DeadlineError, TrainingRun

POPULATION_LIMIT: Final = 256
"""Members trained as one computation: beyond that nothing is gained, and memory and lost work grow."""


@dataclass(frozen=True)
class Batch:
    """Jobs that are trained side by side in one process; plain data.

    Attributes:
        jobs: what to train.
        mode: the execution mode of all of them.
        rungs: epochs after which the judge is asked.
        job_limit: seconds of training that each job may take.
        seconds_left: until all training must stop.
    """

    jobs: tuple[Job, ...]
    mode: Mode
    rungs: tuple[int, ...] = ()
    job_limit: float | None = None
    seconds_left: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` turns back into an equal batch."""
        return {
            "jobs": [job.to_json() for job in self.jobs],
            "mode": self.mode,
            "rungs": list(self.rungs),
            "job_limit": self.job_limit,
            "seconds_left": self.seconds_left,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Batch:
        """The batch that `to_json` wrote."""
        jobs = tuple(map(Job.from_json, value["jobs"]))
        return cls(**{**value, "jobs": jobs, "rungs": tuple(value["rungs"])})


class Bench:
    """Trains batches of jobs of one workload in this process.

    Attributes:
        classes: how many classes the data has.
        device_name: of the device, for people.
    """

    def __init__(
        self,
        workload: Workload,
        device: torch.device,
        *,
        split: Split | None = None,
        scoring: Mapping[str, Arrays] | None = None,
        model_factory: ModelFactory | None = None,
    ) -> None:
        """Put the training data on `device`.

        Args:
            workload: what all jobs have in common.
            device: where to train.
            split: training and validation data in place of the recipe's.
            scoring: further data to score on, by the name that jobs give it.
            model_factory: makes the network in place of the recipe's.

        Raises:
            DataError, UsageError: the data cannot be used.
        """
        split = split or training_split(workload.recipe.data)
        self._recipe, self._recipe_hash, self._device = workload.recipe, recipe_hash(workload.recipe), device
        self._factory = model_factory
        self._given = dict(scoring or {})
        self._names = split.train.classes
        self._normalisation = normalisation(split.train)
        self._train_data = DeviceArrays(split.train, self._normalisation, device)
        self._scoring = {VALIDATION: DeviceArrays(split.validation, self._normalisation, device)}
        self._tested: set[Mode] = set()
        self.classes = self._train_data.classes
        self.device_name = device_name(device)

    def train(
        self, batch: Batch, judge: Judge | None = None, active: Callable[[Sequence[Job]], None] | None = None
    ) -> Iterator[list[Record]]:
        """Train a batch; yields the records of each computation when it ends.

        Computations are taken to a rung one after another, then the judge is asked about all jobs still
        training. Without a rung ahead each is trained to its end before the next is made, so that no more than
        one is in memory. When `seconds_left` are over it stops, and jobs not ended have no record.

        Args:
            batch: what to train.
            judge: asked at the rungs; gives the ids of jobs to stop.
            active: told which jobs are worked at from now on.

        Raises:
            SugarsearchError: the data, model, device or mode cannot be used at all.
        """
        deadline = None if batch.seconds_left is None else time.monotonic() + batch.seconds_left
        self._verify(batch.mode)
        admitted, rejected = self._admit(batch)
        if rejected:
            yield rejected
        groups = self._groups(admitted, batch.mode)
        longest = max((group.epochs for group in groups), default=0)
        for stop in (*(rung for rung in batch.rungs if rung < longest), longest):
            for group in [group for group in groups if not group.ended]:
                if active is not None:
                    active(group.living)
                try:
                    group.advance(stop, batch.job_limit, deadline)
                except DeadlineError:
                    return
                if group.ended:
                    yield self._records(group, batch.mode)
            if judge is not None and stop < longest:
                yield from self._prune(groups, stop, batch.mode, judge)

    def _prune(self, groups: Sequence[Group], rung: int, mode: Mode, judge: Judge) -> Iterator[list[Record]]:
        going = [group for group in groups if not group.ended]
        if not going:
            return
        progress = [p for group in going for course in group.courses if (p := self._progress(course, rung, mode))]
        stopped = judge(progress)
        for group in going:
            group.prune(stopped)
            if group.ended:
                yield self._records(group, mode)

    def _progress(self, course: Course, rung: int, mode: Mode) -> Progress | None:
        """Also of a member that has ended, as its record will have it: its computation goes on without it."""
        score = course.scores[-1] if course.status is None else self._record(course, mode).at(rung)
        return None if score is None else Progress(course.job.id, rung, score)

    def _groups(self, jobs: Sequence[Job], mode: Mode) -> list[Group]:
        kinds: dict[tuple[float, int, str], list[Job]] = {}
        for job in jobs:
            kinds.setdefault((job.learning_rate, job.epochs, job.scoring), []).append(job)
        size = POPULATION_LIMIT if mode == "population" else 1
        return [
            Group(part, partial(self._run, part, mode))
            for kind in kinds.values()
            for part in even_parts(kind, math.ceil(len(kind) / size))
        ]

    def _run(self, jobs: Sequence[Job], mode: Mode) -> TrainingRun:
        return TrainingRun(
            [Member(job.surrogate, job.seed) for job in jobs],
            jobs[0].learning_rate,
            self._recipe,
            jobs[0].epochs,
            self._train_data,
            self._scoring_data(jobs[0].scoring),
            self._device,
            mode,
            self._factory,
        )

    def _scoring_data(self, name: str) -> DeviceArrays:
        if name not in self._scoring:
            arrays = self._given[name] if name in self._given else self._open(name)
            if arrays.classes != self._names:
                reason = f"has {len(arrays.classes)} classes that are not those of the training data."
                raise DataError(name, reason, "Score on data of the same classes.")
            self._scoring[name] = DeviceArrays(arrays, self._normalisation, self._device)
        return self._scoring[name]

    def _open(self, name: str) -> Arrays:
        if not is_object_name(name):
            known = ", ".join([VALIDATION, *self._given])
            raise UsageError(f"there is no data {name!r} to score on; known: {known}, or package.module:function.")
        arrays: Arrays = load_object(name)(self._recipe.data)
        return arrays

    def _verify(self, mode: Mode) -> None:
        """Prove once that `mode` gives g's gradient here, in the form in which it is about to be used."""
        if mode in self._tested:
            return
        try:
            self_test(mode, self._device, "closed" if mode == "eager" else "table")
        except SugarsearchError:
            raise
        except Exception as error:  # a compiler that is missing or broken may raise anything
            text = f"mode {mode!r} does not work here ({type(error).__name__}: {error}). Use execution.mode: eager."
            raise UsageError(text) from error
        self._tested.add(mode)

    def _admit(self, batch: Batch) -> tuple[list[Job], list[Record]]:
        refusals: dict[Any, str] = {}
        for surrogate in {job.surrogate for job in batch.jobs}:
            try:
                admit(surrogate)
            except AdmissionError as error:
                refusals[surrogate] = str(error)
        admitted = [job for job in batch.jobs if job.surrogate not in refusals]
        courses = [Course(job) for job in batch.jobs if job.surrogate in refusals]
        for course in courses:
            course.end(Status.REJECTED, refusals[course.job.surrogate])
        return admitted, [self._record(course, batch.mode) for course in courses]

    def _records(self, group: Group, mode: Mode) -> list[Record]:
        return [self._record(course, mode) for course in group.courses]

    def _record(self, course: Course, mode: Mode) -> Record:
        assert course.status is not None
        last = course.last
        return Record(
            job=course.job,
            recipe=self._recipe_hash,
            mode=mode,
            device=self.device_name,
            status=course.status,
            classes=self.classes,
            seconds=round(course.seconds, 3),
            versions=versions(),
            scores=tuple(course.scores),
            dead_units=last.dead_units if last else None,
            sparsity=last.sparsity if last else None,
            reason=course.reason,
        )


def resolve_device(name: str, worker: int = 0) -> torch.device:
    """The device that an execution's `device` means to worker number `worker`; without a number, one GPU each.

    Raises:
        UsageError: there is no such device.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not count):
        return torch.device("cpu")
    number = int(name.partition(":")[2]) if ":" in name else worker % max(count, 1)
    if number >= count:
        raise UsageError(f"execution.device is {name!r}, but torch finds {count} CUDA devices here. Use auto or cpu.")
    return torch.device("cuda", number)


def device_name(device: torch.device) -> str:
    """For people: "cpu", or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@cache
def versions() -> Mapping[str, str]:
    """Of what a result may hang on."""
    return {
        "sugarsearch": version("sugarsearch"),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def even_parts(jobs: Sequence[Job], count: int) -> list[Sequence[Job]]:
    """`jobs` in order, cut into `count` parts that differ by one job at most."""
    ends = [len(jobs) * i // count for i in range(count + 1)]
    return [jobs[start:end] for start, end in pairwise(ends)]

"""The bench: a process's device with the data on it, and batches of jobs trained there."""

from __future__ import annotations

import gc
import hashlib
import importlib
import math
import platform
import time
from collections import deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from sugarsearch.config.objects import is_object_name, load_object
from sugarsearch.data.arrays import Arrays
from sugarsearch.data.device import DeviceArrays, normalisation
from sugarsearch.data.splits import Split, training_split
from sugarsearch.errors import AdmissionError, DataError, SugarsearchError, UsageError
from sugarsearch.evaluation.group import Checkpointing, Course, Group, TooLargeError
from sugarsearch.evaluation.jobs import VALIDATION, Job, Judge, Progress, Workload, recipe_hash
from sugarsearch.evaluation.records import Record, Status
from sugarsearch.evaluation.stop import Stop
from sugarsearch.nn.admission import admit
from sugarsearch.nn.selftest import self_test
from sugarsearch.training.checkpoint import CheckpointFile
from sugarsearch.training.engine import Engines
from sugarsearch.training.network import Member, Mode, ModelFactory, check_arm
from sugarsearch.training.trainer import CutShortError, TrainingRun

POPULATION_LIMIT: Final = 256
"""Members trained as one computation: beyond that nothing is gained, and memory and lost work grow."""


@dataclass(frozen=True)
class Batch:
    """Jobs that are trained side by side in one process; plain data.

    Attributes:
        jobs: what was asked for.
        mode: the execution mode of all of them, but see `mode_of`.
        done: ids of jobs that are not to be trained: they have their records. They still count when jobs are
            divided into computations, so that the others train in the company that they would have had.
        rungs: epochs after which the judge is asked.
        job_limit: seconds that each job may take.
        seconds_left: until all training must stop.
    """

    jobs: tuple[Job, ...]
    mode: Mode
    done: frozenset[str] = frozenset()
    rungs: tuple[int, ...] = ()
    job_limit: float | None = None
    seconds_left: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` turns back into an equal batch."""
        return {
            "jobs": [job.to_json() for job in self.jobs],
            "mode": self.mode,
            "done": sorted(self.done),
            "rungs": list(self.rungs),
            "job_limit": self.job_limit,
            "seconds_left": self.seconds_left,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Batch:
        """The batch that `to_json` wrote."""
        jobs = tuple(map(Job.from_json, value["jobs"]))
        return cls(**{**value, "jobs": jobs, "done": frozenset(value["done"]), "rungs": tuple(value["rungs"])})


class Watcher:
    """Told how a batch goes; this one does not listen."""

    def begin(self, jobs: Sequence[Job], seconds: float | None) -> None:
        """These are worked at from now on, for at most so many seconds."""

    def reached(self, scores: Mapping[str, Sequence[float]]) -> None:
        """The accuracies so far of jobs with a time limit, by id."""


class Bench:
    """Trains batches of jobs of one workload in this process.

    Attributes:
        classes: how many classes the data has.
        fingerprint: of the training and validation data.
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
        checkpoints: Path | None = None,
        stop: Stop | None = None,
    ) -> None:
        """Put the training data on `device`.

        Args:
            workload: what all jobs have in common.
            device: where to train.
            split: training and validation data in place of the recipe's.
            scoring: further data to score on, by the name that jobs give it.
            model_factory: makes the network in place of the recipe's.
            checkpoints: the folder for the state of unfinished jobs; None: no checkpoints.
            stop: looked at before each step.

        Raises:
            DataError, UsageError: the data cannot be used.
        """
        # torch's first optimiser imports this, for 1.5 s or more, which no job's time limit should pay for.
        importlib.import_module("torch._dynamo")
        split = split or training_split(workload.recipe.data)
        self._recipe, self._recipe_hash, self._device = workload.recipe, recipe_hash(workload.recipe), device
        self._factory = model_factory
        self._checkpoints, self._checkpoint_seconds = checkpoints, workload.execution.checkpoint_seconds
        self._stop = stop or Stop()
        self._given = dict(scoring or {})
        self._names = split.train.classes
        self._normalisation = normalisation(split.train, self._recipe.normalisation)
        self._train_data = DeviceArrays(split.train, self._normalisation, device)
        self._scoring = {VALIDATION: DeviceArrays(split.validation, self._normalisation, device)}
        self._tested: set[Mode] = set()
        self._engines = Engines()
        self.classes = self._train_data.classes
        self.fingerprint = _digest(split.train.fingerprint, split.validation.fingerprint)
        self.device_name = device_name(device)

    def train(self, batch: Batch, judge: Judge | None = None, watcher: Watcher | None = None) -> Iterator[list[Record]]:
        """Train a batch; yields the records of each computation when it ends.

        Computations are taken to a rung one after another, then the judge is asked about all jobs still
        training. Without a rung ahead each is trained to its end before the next is made, so that no more than
        one is in memory. One that does not fit into memory is begun anew in two halves. When `seconds_left` are
        over, or somebody asks to stop, it stops, and jobs not ended have no record.

        Args:
            batch: what to train.
            judge: asked at the rungs; gives the ids of jobs to stop.
            watcher: told how it goes.

        Raises:
            SugarsearchError: the data, model, device, mode or arm cannot be used at all.
        """
        deadline = math.inf if batch.seconds_left is None else time.monotonic() + batch.seconds_left
        for job in batch.jobs:
            check_arm(_member(job), self._factory or self._recipe.model, mode_of(job, batch.mode))
        for mode in dict.fromkeys(mode_of(job, batch.mode) for job in batch.jobs):
            self._verify(mode)
        admitted, rejected = self._admit(batch)
        if rejected:
            yield rejected
        groups = self._groups(admitted, batch)
        longest = max((group.epochs for group in groups), default=0)
        for rung in (*(rung for rung in batch.rungs if rung < longest), longest):
            waiting, groups = deque(group for group in groups if not group.ended), []
            while waiting:
                group = waiting.popleft()
                try:
                    self._advance(group, rung, batch.job_limit, deadline, watcher or Watcher())
                except CutShortError:
                    return
                except TooLargeError:
                    waiting.extendleft(reversed(self._halves(group, batch.mode)))
                    continue
                groups.append(group)
                if group.ended:
                    yield self._records(group, batch.mode)
                    group.forget()
            if judge is not None and rung < longest:
                yield from self._prune(groups, rung, batch.mode, judge)

    def _advance(self, group: Group, rung: int, job_limit: float | None, deadline: float, watcher: Watcher) -> None:
        def cut() -> bool:
            return self._stop.requested or time.monotonic() >= deadline

        if job_limit is None:
            watcher.begin(group.living, None)
            group.advance(rung, None, cut)
        else:
            watcher.begin(group.living, group.seconds_left(job_limit))
            group.advance(rung, job_limit, cut, lambda: watcher.reached(group.scores))

    def _prune(self, groups: Sequence[Group], rung: int, mode: Mode, judge: Judge) -> Iterator[list[Record]]:
        going = [group for group in groups if not group.ended]
        if not going:
            return
        progress = [p for group in going for course in group.courses if (p := self._progress(course, rung, mode))]
        stopped = judge(progress)
        for group in going:
            group.prune(stopped, rung)
            if group.ended:
                yield self._records(group, mode)
                group.forget()

    def _progress(self, course: Course, rung: int, mode: Mode) -> Progress | None:
        """Also of a member that has ended, as its record will have it: its computation goes on without it."""
        score = course.scores[rung - 1] if course.status is None else self._record(course, mode).at(rung)
        return None if score is None else Progress(course.job.id, rung, score)

    def _groups(self, jobs: Sequence[Job], batch: Batch) -> list[Group]:
        kinds: dict[Hashable, list[Job]] = {}
        for job in jobs:
            kinds.setdefault(job.company, []).append(job)
        parts: list[Sequence[Job]] = []
        for kind in kinds.values():
            size = POPULATION_LIMIT if mode_of(kind[0], batch.mode) == "population" else 1
            parts += even_parts(kind, math.ceil(len(kind) / size))
        wanted = ([job for job in part if job.id not in batch.done] for part in parts)
        return [self._group(part, batch.mode) for part in wanted if part]

    def _group(self, jobs: Sequence[Job], batch_mode: Mode) -> Group:
        checkpointing, mode = None, mode_of(jobs[0], batch_mode)
        if self._checkpoints is not None:
            name = _digest(self._recipe_hash, mode, self._device.type, *(job.id for job in jobs))
            checkpointing = Checkpointing(CheckpointFile(self._checkpoints / f"{name}.pt"), self._checkpoint_seconds)
        return Group(jobs, partial(self._run, jobs, mode), checkpointing)

    def _halves(self, group: Group, mode: Mode) -> list[Group]:
        gc.collect()  # the computation that was too large may hang in cycles
        self._engines.clear()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return [self._group(part, mode) for part in even_parts([course.job for course in group.courses], 2)]

    def _run(self, jobs: Sequence[Job], mode: Mode) -> TrainingRun:
        return TrainingRun(
            [_member(job) for job in jobs],
            jobs[0].learning_rate,
            self._recipe,
            jobs[0].epochs,
            self._train_data,
            self._scoring_data(jobs[0].scoring),
            self._device,
            mode,
            self._factory,
            jobs[0].ablation,
            self._engines,
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
        courses = [Course(job) for job in batch.jobs if job.surrogate in refusals and job.id not in batch.done]
        for course in courses:
            course.end(Status.REJECTED, refusals[course.job.surrogate])
        return admitted, [self._record(course, batch.mode) for course in courses]

    def _records(self, group: Group, mode: Mode) -> list[Record]:
        return [self._record(course, mode) for course in group.courses]

    def _record(self, course: Course, mode: Mode) -> Record:
        assert course.status is not None
        return Record(
            job=course.job,
            recipe=self._recipe_hash,
            mode=mode_of(course.job, mode),
            device=self.device_name,
            status=course.status,
            classes=self.classes,
            seconds=round(course.seconds, 3),
            versions=versions(),
            scores=tuple(course.scores),
            dead_units=tuple(course.dead_units),
            sparsity=tuple(course.sparsity),
            reason=course.reason,
        )


def _member(job: Job) -> Member:
    return Member(job.surrogate, job.seed, job.arm)


def mode_of(job: Job, mode: Mode) -> Mode:
    """The mode in which a job of a batch is trained.

    A grafted one, which cannot be compiled, is eager in place of that. One of the non-SUGAR arm is always eager: tables
    hold g alone, and compiled code of each f would meet Dynamo's limit.
    """
    if job.arm == "non_sugar" or (mode == "compiled" and job.ablation == "grafted"):
        return "eager"
    return mode


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


def _digest(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:20]


def even_parts(jobs: Sequence[Job], count: int) -> list[Sequence[Job]]:
    """`jobs` in order, cut into `count` parts that differ by one job at most."""
    ends = [len(jobs) * i // count for i in range(count + 1)]
    return [jobs[start:end] for start, end in pairwise(ends)]

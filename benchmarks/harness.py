"""What all measurements share: timing side by side, figures with their spread and target, and what machine it was."""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Settings:
    """How the suite is run.

    Attributes:
        device: what is measured.
        quick: smaller sizes and fewer turns, so that the suite takes minutes.
        threads: of torch, on the CPU.
        data: a folder of CIFAR-10's images, for what needs real ones; None: made-up images.
    """

    device: torch.device
    quick: bool = False
    threads: int = 2
    data: Path | None = None


@dataclass(frozen=True)
class Figure:
    """One ratio, measured side by side.

    Attributes:
        name: what was measured.
        value: the median.
        low, high: its quartiles; equal to the value where there is only one measurement.
        unit: of what it is a multiple, or its unit.
        at_most, at_least: the target; None: a yardstick without one.
        detail: further numbers, such as the times themselves.
    """

    name: str
    value: float
    low: float
    high: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the target is; None without one."""
        if self.at_most is not None:
            return self.value <= self.at_most
        return None if self.at_least is None else self.value >= self.at_least

    @property
    def target(self) -> str:
        """In words; empty without one."""
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return "" if self.at_least is None else f">= {self.at_least:g}"


@dataclass(frozen=True)
class Section:
    """What one module of the suite has measured.

    Attributes:
        title: in a few words.
        what: what was done, so that a reader could do it again.
        figures: the ratios.
        notes: what explains them, a sentence each.
    """

    title: str
    what: str
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values; each figure says whether its target is met."""
        rows = [{**asdict(figure), "met": figure.met} for figure in self.figures]
        return {"title": self.title, "what": self.what, "figures": rows, "notes": list(self.notes)}


def turns(
    ways: Mapping[str, Callable[[], object]], count: int, device: torch.device | str = "cpu"
) -> dict[str, list[float]]:
    """Seconds of each way in each of `count` turns, one way after another, so that a noisy machine is noisy to all.

    One more turn, the first, warms up and is not counted.
    """
    cuda = torch.device(device).type == "cuda"
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(count + 1):
        for name, way in ways.items():
            if cuda:
                torch.cuda.synchronize(device)
            started = time.perf_counter()
            way()
            if cuda:
                torch.cuda.synchronize(device)
            if turn:
                times[name].append(time.perf_counter() - started)
    return times


def ratio(
    name: str,
    own: Sequence[float],
    reference: Sequence[float],
    unit: str,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    detail: Mapping[str, Any] | None = None,
) -> Figure:
    """`own` over `reference`, turn by turn: the median ratio and its quartiles, and both median times."""
    ratios = [a / b for a, b in zip(own, reference, strict=True)]
    low, _, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else (ratios[0],) * 3
    times = {"median_seconds": median(own), "reference_median_seconds": median(reference), "turns": len(ratios)}
    value = median(ratios)
    return Figure(name, value, low, high, unit, at_most, at_least, {**times, **(detail or {})})


def single(
    name: str,
    value: float,
    unit: str,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    detail: Mapping[str, Any] | None = None,
) -> Figure:
    """A figure that was measured once, or that needs no repetition, such as bytes."""
    return Figure(name, value, value, value, unit, at_most, at_least, detail or {})


def machine(settings: Settings) -> dict[str, Any]:
    """Of what the figures may hang on."""
    cuda = settings.device.type == "cuda"
    packages = ("sugarsearch", "torch", "numpy")
    return {
        "date": datetime.date.today().isoformat(),
        "device": torch.cuda.get_device_name(settings.device) if cuda else "cpu",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": settings.threads,
        "python": platform.python_version(),
        "versions": {**{name: version(name) for name in packages}, "torch": torch.__version__},
        "quick": settings.quick,
        "images": "CIFAR-10" if settings.data else "made up",
    }


def _processor() -> str:
    """The processor's name, its kind where the name is hidden."""
    information = Path("/proc/cpuinfo")
    if not information.exists():
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in information.read_text().splitlines() if "model name" in line]
    return f"{names[0] if names else 'unknown'} ({platform.machine()})"

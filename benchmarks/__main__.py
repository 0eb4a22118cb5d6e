"""Run the suite: python -m benchmarks [--quick] [--gpu]. Writes results/DEVICE-DATE.json and a table beside it."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.harness import RESULTS, Settings, machine
from benchmarks.tables import page

CPU: Final = ("activation", "memory", "training", "throughput")
GPU: Final = ("activation", "memory", "gpu_training", "gpu_population", "paper", "throughput")
"""Modules of this package, each with a `measure`, in the order in which they run."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures sugarsearch beside torch and beside the obvious ways to do the same, on an idle machine.",
        epilog="Further measurements are commands of their own: benchmarks.candidates, .overhead, .verdicts, .soak, "
        ".paper_settings.",
    )
    parser.add_argument("--gpu", action="store_true", help="on the first CUDA device, in place of the CPU")
    parser.add_argument("--quick", action="store_true", help="smaller and fewer: under 3 minutes on two cores")
    parser.add_argument("--only", nargs="+", metavar="PART", help=f"of {', '.join(dict.fromkeys((*CPU, *GPU)))}")
    parser.add_argument("--threads", type=int, default=2, help="of torch, on the CPU (default: 2)")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="CIFAR-10 as a folder of images, a folder a class")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, metavar="FOLDER", help="where to write (default: results/)"
    )
    return parser


def _settings(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Settings:
    if given.gpu and not torch.cuda.is_available():
        parser.error("--gpu needs a CUDA device, and torch finds none here. Leave it out to measure the CPU.")
    if given.threads < 1:
        parser.error(f"--threads is {given.threads}; it must be at least 1.")
    if given.data is not None and not given.data.is_dir():
        parser.error(f"--data {given.data} is no folder; give one with a folder for each of CIFAR-10's classes.")
    device = torch.device("cuda", 0) if given.gpu else torch.device("cpu")
    return Settings(device, given.quick, given.threads, given.data)


def _parts(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Sequence[str]:
    there_are = GPU if given.gpu else CPU
    unknown = [part for part in given.only or () if part not in there_are]
    if unknown:
        parser.error(f"--only {unknown[0]} is no part here; there are {', '.join(there_are)}.")
    return [part for part in there_are if given.only is None or part in given.only]


def _name(device: str, date: str, *, quick: bool) -> str:
    """A file's name: cpu-2026-11-28, nvidia-h200-2026-11-28-quick."""
    slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    return f"{slug}-{date}{'-quick' if quick else ''}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, part by part, and write after each; gives the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    settings, parts = _settings(parser, given), _parts(parser, given)
    about = machine(settings)
    path = given.out / f"{_name(about['device'], about['date'], quick=settings.quick)}.json"
    given.out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"machine": about, "sections": {}}
    if path.exists():  # another part, of the same day
        result["sections"] = json.loads(path.read_text())["sections"]
    for part in parts:
        started = time.perf_counter()
        print(f"{part} ...", file=sys.stderr, flush=True)
        section = import_module(f"benchmarks.{part}").measure(settings)
        seconds = round(time.perf_counter() - started, 1)
        result["sections"][part] = {**section.to_json(), "seconds": seconds}
        path.write_text(json.dumps(result, indent=1) + "\n")
        path.with_suffix(".md").write_text(page(result))
        print(f"{part}: {seconds:.0f} s", file=sys.stderr, flush=True)
    print(page(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

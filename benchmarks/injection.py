"""What the ways of giving ReLU a surrogate cost: time of forward and backward, and bytes kept in between.

Run `python -m benchmarks.injection`; writes results/injection.json. The ways are timed one after another, again and
again, and each time is divided by SugarReLU's of the same turn, so that other work on the machine falls on all alike:
only the ratios count. F.relu and F.silu, which torch has as one kernel each, are the yardsticks.
"""

from __future__ import annotations

import datetime
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from weakref import WeakSet

import torch
import torch.nn.functional as F
from torch import Tensor

from sugarsearch import __version__
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.injection import direct, indirect

ELEMENTS = 10_000_000
TURNS = 15
ALPHA = 1.67  # b_silu's default in the library
REFERENCE = "sugar_relu_closed"
RESULTS = Path(__file__).parent / "results" / "injection.json"

Activation = Callable[[Tensor], Tensor]


def b_silu(x: Tensor) -> Tensor:
    """f, as one would write it for an injection."""
    return (x + ALPHA) * torch.sigmoid(x) - ALPHA / 2


def b_silu_slope(x: Tensor) -> Tensor:
    """g likewise."""
    s = torch.sigmoid(x)
    return s + (x + ALPHA) * s * (1 - s)


WAYS: dict[str, Activation] = {
    "relu": F.relu,
    "silu": F.silu,
    REFERENCE: SugarReLU("b_silu", form="closed"),
    "sugar_relu_table": SugarReLU("b_silu", form="table"),
    "indirect": lambda x: indirect(x, b_silu),
    "direct": lambda x: direct(x, b_silu_slope),
}


def seconds(activation: Activation, x: Tensor, grad: Tensor) -> float:
    """Of one forward and backward pass."""
    started = time.perf_counter()
    torch.autograd.grad(activation(x), x, grad)
    return time.perf_counter() - started


class Saved:
    """A tensor that autograd has saved, for as long as the graph that needs it is there."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def saved_bytes(activation: Activation, x: Tensor) -> int:
    """Of all memory that autograd keeps until the backward pass; what is kept twice counts once."""
    saved: WeakSet[Saved] = WeakSet()

    def keep(tensor: Tensor) -> Saved:
        one = Saved(tensor.detach())  # an output that its own graph saves would keep that graph for ever
        saved.add(one)
        return one

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one.tensor):
        output = activation(x)
    storages = {one.tensor.untyped_storage().data_ptr(): one.tensor.untyped_storage().nbytes() for one in saved}
    assert output.requires_grad  # and is here still: its graph holds what was saved
    return sum(storages.values())


def measure() -> dict[str, dict[str, Any]]:
    """Each way's ratios over the reference, turn by turn: their median and quartiles."""
    x, grad = torch.randn(ELEMENTS, requires_grad=True), torch.randn(ELEMENTS)
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for turn in range(TURNS + 1):
        for name, activation in WAYS.items():
            spent = seconds(activation, x, grad)
            if turn:  # the first turn warms up
                times[name].append(spent)
    return {
        name: _row(times[name], times[REFERENCE])
        | {"saved_bytes_an_element": round(saved_bytes(activation, x) / ELEMENTS, 2)}
        for name, activation in WAYS.items()
    }


def _row(times: list[float], reference: list[float]) -> dict[str, Any]:
    ratios = [own / other for own, other in zip(times, reference, strict=True)]
    low, _, high = quantiles(ratios, n=4)
    return {
        "over_sugar_relu_closed": round(median(ratios), 3),
        "quartiles": [round(low, 3), round(high, 3)],
        "median_ns_an_element": round(1e9 * median(times) / ELEMENTS, 2),
    }


def main() -> None:
    """Measure every way and write the results."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    result = {
        "what": f"forward and backward of {ELEMENTS:,} float32 elements, eager, b_silu; {TURNS} turns side by side",
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, CPU",
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "versions": {"sugarsearch": __version__, "torch": torch.__version__},
        "ways": measure(),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

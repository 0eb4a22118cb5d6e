"""The activation alone: time of forward and backward against torch's own activations, and against other ways to do it.

Many large calls of one activation measure little but memory: on the CPU most of the time goes into pages that the
operating system hands out anew for each result. So there is a second size, whose memory is used again.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import Figure, Section, Settings, ratio, single, turns
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.injection import direct, indirect
from sugarsearch.nn.kernels import plain
from sugarsearch.nn.kernels.fused import kernel_of
from sugarsearch.nn.lowering import lower
from sugarsearch.nn.table import look_up, tabulate
from sugarsearch.symbolic.library import LIBRARY, surrogate

LARGE: Final = 10_000_000
SMALL: Final = 1_000_000
CALLS: Final = 20  # of the small size in each turn
ON_CUDA: Final = 256_000_000  # of bf16: a kernel must take longer than its launch
TURNS: Final = 21
QUICK_TURNS: Final = 5
ALPHA: Final = 1.67  # b_silu's default in the library
TREE: Final = "3.11*sigmoid(2.99*x)*softsign(sigmoid(softsign(sech2(x))))"
"""The g that the quickstart found: eight operations."""

Activation = Callable[[Tensor], Tensor]


def b_silu(x: Tensor) -> Tensor:
    """f, as one would write it for an injection."""
    return (x + ALPHA) * torch.sigmoid(x) - ALPHA / 2


def b_silu_slope(x: Tensor) -> Tensor:
    """g likewise."""
    s = torch.sigmoid(x)
    return s + (x + ALPHA) * s * (1 - s)


def b_silu_rule(ctx: Any, grad: Tensor, x: Tensor, **_: Any) -> Tensor:
    """grad * g(x), as one would write it for freegrad."""
    return grad * b_silu_slope(x)


def freegrad_way() -> Activation | None:
    """The package's own activation under such a rule; None where it is not installed."""
    if importlib.util.find_spec("freegrad") is None:
        return None
    freegrad = importlib.import_module("freegrad")
    module = freegrad.Activation(forward="ReLU")

    def activation(x: Tensor) -> Tensor:
        with freegrad.use(b_silu_rule, scope="activations"):
            output: Tensor = module(x)
        return output

    return activation


class Bench:
    """Activations timed on one input, turn by turn.

    Attributes:
        times: seconds by name.
    """

    def __init__(
        self,
        ways: Mapping[str, Activation],
        elements: int,
        settings: Settings,
        dtype: torch.dtype,
        calls: int = 1,
    ) -> None:
        """calls: in each turn, so that what the way before has left in caches and memory does not count."""
        device = settings.device
        torch.manual_seed(0)
        x = torch.randn(elements, device=device).to(dtype).requires_grad_()
        grad = torch.randn(elements, device=device).to(dtype)
        timed = {name: _call(way, x, grad, calls) for name, way in ways.items()}
        self.times = turns(timed, QUICK_TURNS if settings.quick else TURNS, device)

    def figure(self, name: str, way: str, reference: str, **target: Any) -> Figure:
        """One way's time over another's."""
        return ratio(name, self.times[way], self.times[reference], f"of {reference}'s time", **target)


def _call(way: Activation, x: Tensor, grad: Tensor, calls: int) -> Callable[[], None]:
    def call() -> None:
        for _ in range(calls):
            torch.autograd.grad(way(x), x, grad)

    return call


def error(way: Activation, g: str, device: torch.device, dtype: torch.dtype) -> float:
    """The largest error of a gradient against float64, on a stretch that holds nearly all of N(0, 1)."""
    x = torch.linspace(-8, 8, 200_001, device=device).to(dtype).requires_grad_()
    (got,) = torch.autograd.grad(way(x).sum(), x)
    wanted = surrogate(g)(x.detach().double().cpu().numpy())
    return float(np.abs(got.double().cpu().numpy() - wanted).max())


def measure(settings: Settings) -> Section:
    """The activation on the settings' device."""
    return _on_cuda(settings) if settings.device.type == "cuda" else _on_cpu(settings)


def _ours(device: torch.device) -> dict[str, Activation]:
    compiled = {form: torch.compile(SugarReLU("b_silu", form=form).to(device)) for form in ("closed", "table")}
    return {
        "eager, plain torch": SugarReLU("b_silu").to(device),
        "compiled, closed form": compiled["closed"],
        "compiled, table": compiled["table"],
    }


def _on_cpu(settings: Settings) -> Section:
    torch.set_num_threads(settings.threads)
    ours: dict[str, Activation] = {
        **_ours(settings.device),
        "eager, compiled kernel": SugarReLU("b_silu", form="fused"),
    }
    ways: dict[str, Activation] = {"F.relu": F.relu, "F.silu": F.silu, **ours}
    ways["FGI's detach formula"] = lambda x: indirect(x, b_silu)
    ways["the direct injection"] = lambda x: direct(x, b_silu_slope)
    freegrad = freegrad_way()
    if freegrad is not None:
        ways["freegrad"] = freegrad
    errors = {name: error(way, "b_silu", settings.device, torch.float32) for name, way in ours.items()}
    large = Bench(ways, LARGE, settings, torch.float32)
    named, alone = _named(settings), _kernels_alone(settings)  # before the heap is changed
    # Once so much has been given back, glibc keeps what is given back later, up to twice as much.
    torch.empty(7_500_000).fill_(1)
    small = Bench(ways, SMALL, settings, torch.float32, CALLS)
    rivals = [name for name in ("FGI's detach formula", "the direct injection", "freegrad") if name in ways]
    figures = [*_against_torch(large, errors), *_against_rivals(large, rivals), *_memory_used_again(small)]
    notes = [f"largest errors against float64: {', '.join(f'{name} {value:.1e}' for name, value in errors.items())}"]
    notes.append(
        f"kernels alone, on {LARGE:,} elements and memory at hand, show where the time goes: most of F.relu's own is "
        "that of fresh pages for its two results, which any surrogate pays too, so a ratio below 1 is out of reach"
    )
    if freegrad is None:
        notes.append("freegrad was not installed (pip install freegrad)")
    return Section(
        "The activation on the CPU",
        f"forward and backward of {LARGE:,} and {SMALL:,} float32 elements, b_silu, {settings.threads} threads, "
        "side by side in one process; compiled F.relu is no yardstick on the CPU, eager F.relu is",
        (*figures, *named, *alone),
        tuple(notes),
    )


def _against_torch(bench: Bench, errors: Mapping[str, float]) -> list[Figure]:
    def detail(way: str) -> dict[str, Any]:
        return {"largest_error": errors[way]}

    closed, table, plain, kernel = (
        "compiled, closed form",
        "compiled, table",
        "eager, plain torch",
        "eager, compiled kernel",
    )
    return [
        bench.figure(closed, closed, "F.relu", at_most=0.9, detail=detail(closed)),
        bench.figure(table, table, "F.relu", at_most=1.05, detail=detail(table)),
        bench.figure(kernel, kernel, "F.silu", at_most=1.0, detail=detail(kernel)),
        bench.figure(plain, plain, "F.silu", at_most=1.15, detail=detail(plain)),
    ]


def _against_rivals(bench: Bench, rivals: Sequence[str]) -> list[Figure]:
    figures = []
    for rival in rivals:
        figures.append(bench.figure(f"{rival} over our plain torch", rival, "eager, plain torch", at_least=2))
        figures.append(bench.figure(f"{rival} over our compiled kernel", rival, "eager, compiled kernel"))
        figures.append(bench.figure(f"{rival} over ours compiled", rival, "compiled, closed form", at_least=4))
    return figures


def _memory_used_again(bench: Bench) -> list[Figure]:
    own = [name for name in bench.times if name not in ("F.relu", "F.silu")]
    return [
        bench.figure(f"{name}, {SMALL:,} elements", name, "F.relu" if name.startswith("compiled") else "F.silu")
        for name in own
    ]


def _kernels_alone(settings: Settings) -> list[Figure]:
    """Where the time goes: the same kernels on the large size, but writing to memory that is at hand.

    What is left of the time above is the operating system's, which hands out fresh pages for each result.
    """
    torch.manual_seed(0)
    x, grad, output, result = (torch.randn(LARGE) for _ in range(4))
    g = surrogate("b_silu")
    kernel, cells = kernel_of(lower(g)), tabulate([g]).cells
    table = torch.compile(lambda: result.copy_(look_up(cells, x) * grad))
    aten = torch.ops.aten
    backward: dict[str, Callable[[], object]] = {
        "F.relu's backward": lambda: aten.threshold_backward.grad_input(grad, output, 0, grad_input=result),
        "F.silu's backward": lambda: aten.silu_backward.grad_input(grad, x, grad_input=result),
        "grad * g(x), plain torch": lambda: plain.write(grad, x, lower(g), result),
        "grad * g(x), table, compiled": table,
    }
    if kernel is not None:
        backward["grad * g(x), compiled kernel"] = lambda: kernel(grad, x, result)
    ways = {"relu's forward": lambda: torch.clamp(x, min=0, out=output), **backward}
    times = turns(ways, QUICK_TURNS if settings.quick else TURNS)
    return [
        single(f"kernel alone, memory at hand: {name}", 1e9 * median(seconds) / LARGE, "ns an element")
        for name, seconds in times.items()
    ]


def _named(settings: Settings) -> list[Figure]:
    """Every surrogate of the library in plain torch, and a found one."""
    own = {name: SugarReLU(name) for name in LIBRARY} | {"the quickstart's": SugarReLU(TREE)}
    bench = Bench({"F.silu": F.silu, **own}, LARGE, settings, torch.float32)
    return [
        bench.figure(f"plain torch: {name}", name, "F.silu", at_most=1.15 if name in LIBRARY else None) for name in own
    ]


def _on_cuda(settings: Settings) -> Section:
    device, dtype = settings.device, torch.bfloat16
    ours = _ours(device)
    ways = {"F.relu": F.relu, "compiled F.relu": torch.compile(F.relu), **ours}
    ways["eager, table"] = SugarReLU("b_silu", form="table").to(device)
    ways["FGI's detach formula"] = lambda x: indirect(x, b_silu)
    errors = {name: error(way, "b_silu", device, torch.float32) for name, way in ours.items()}
    bench = Bench(ways, ON_CUDA // (10 if settings.quick else 1), settings, dtype)
    return Section(
        "The activation on a GPU",
        f"forward and backward of {ON_CUDA:,} bf16 elements, b_silu, side by side; eager: one Triton kernel",
        (
            bench.figure("compiled, closed form", "compiled, closed form", "compiled F.relu", at_most=1.05),
            bench.figure("compiled, table", "compiled, table", "compiled F.relu", at_most=1.15),
            bench.figure("eager", "eager, plain torch", "F.relu", at_most=1.1),
            bench.figure("eager, table", "eager, table", "F.relu"),
            bench.figure("FGI's detach formula over ours eager", "FGI's detach formula", "eager, plain torch"),
        ),
        (f"largest errors in float32: {', '.join(f'{name} {value:.1e}' for name, value in errors.items())}",),
    )

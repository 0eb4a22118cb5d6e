"""What a surrogate keeps in memory from forward to backward: bytes an element of the activation more than ReLU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn

from benchmarks.activation import b_silu
from benchmarks.harness import Figure, Section, Settings, single
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.codes import BITS, codebook
from sugarsearch.nn.injection import indirect
from sugarsearch.symbolic.library import surrogate

CHANNELS: Final = 32
SIZE: Final = 34
BATCH: Final = 64


class Indirect(nn.Module):
    """The paper's first formula, as written with detach."""

    def forward(self, x: Tensor) -> Tensor:
        """relu(x), with the gradient of b_silu."""
        return indirect(x, b_silu)


def saved_bytes(activation: nn.Module, device: torch.device, *, compiled: bool) -> int:
    """Of all memory that autograd keeps of conv, batch norm, activation, conv; what is kept twice counts once."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, CHANNELS, 3, bias=False), nn.BatchNorm2d(CHANNELS), activation, nn.Conv2d(CHANNELS, 8, 3)
    ).to(device)
    storages: dict[int, int] = {}
    alive: list[Tensor] = []  # memory that is given back and used again would count once

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor.detach())
        return tensor

    run: Callable[[Tensor], Tensor] = torch.compile(network) if compiled else network
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = run(torch.randn(BATCH, 3, SIZE, SIZE, device=device))
    assert output.requires_grad  # and is here still: its graph holds what was saved
    return sum(storages.values())


def measure(settings: Settings) -> Section:
    """Eager and compiled, on the settings' device."""
    elements = BATCH * CHANNELS * (SIZE - 2) ** 2

    def extra(name: str, activation: nn.Module, *, compiled: bool = False, at_most: float | None = None) -> Figure:
        own, plain = (saved_bytes(one, settings.device, compiled=compiled) for one in (activation, nn.ReLU()))
        share = (own - plain) / elements
        return single(name, share, "bytes an element more than ReLU", at_most=at_most)

    figures = [
        extra("compiled, closed form", SugarReLU("b_silu"), compiled=True, at_most=0.001),
        extra("compiled, table", SugarReLU("b_silu", form="table"), compiled=True, at_most=0.02),
        extra("eager", SugarReLU("b_silu")),
        extra("eager, FGI's detach formula", Indirect()),
    ]
    notes = ["the table itself, 32 KiB for the whole network, is all that is kept more in compiled code with tables"]
    for bits in BITS:
        figures.append(extra(f"eager, lean={bits}", SugarReLU("b_silu", lean=bits), at_most=bits / 8 + 0.01))
        books = {name: codebook(surrogate(name), bits) for name in ("b_silu", "nelu")}
        errors = ", ".join(
            f"{name} {book.rms_error:.1e} (at most {book.max_error:.1e})" for name, book in books.items()
        )
        notes.append(f"lean={bits}: root mean square error of g under N(0, 1): {errors}")
    return Section(
        "Memory kept for the backward pass",
        f"Conv-BatchNorm-activation-Conv, {elements:,} activations, float32, saved tensors counted by torch's hooks",
        tuple(figures),
        tuple(notes),
    )

"""grad * g(x) on CUDA in eager mode: one Triton kernel, where Triton works."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

from sugarsearch.nn.kernels import plain, triton_gradient
from sugarsearch.nn.lowering import Lowered

_log = logging.getLogger(__name__)
_TOLERANCE: Final = 1e-4


def cuda_gradient(grad: Tensor, x: Tensor, derivative: Lowered | Tensor) -> Tensor | None:
    """grad * g(x) in the memory format of x; None where no kernel can give it.

    derivative: g in closed form, which 16-bit x looks up by its bits, all 65,536 of them; or the cells of a table.
    """
    if x.dtype == torch.float64 or not _works(x.device):
        return None
    if isinstance(derivative, Tensor):
        return triton_gradient.times_cells(grad, x, derivative)
    if x.dtype in (torch.bfloat16, torch.float16):
        return triton_gradient.times_bits(grad, x, _values(derivative, x.dtype, x.device))
    return triton_gradient.times_closed(grad, x, derivative)


@lru_cache(maxsize=64)  # of 256 KiB each
def _values(closed: Lowered, dtype: torch.dtype, device: torch.device) -> Tensor:
    return triton_gradient.bit_values(closed, dtype).unsqueeze(0).to(device)


@lru_cache
def _works(device: torch.device) -> bool:
    """Whether Triton is there, can launch (it needs a C compiler), and gives what plain torch gives."""
    if not triton_gradient.is_available():
        _log.warning("no Triton here: surrogates take several kernels each on %s.", device)
        return False
    x, grad = torch.linspace(-4, 4, 64, device=device), torch.linspace(1, 2, 64, device=device)
    cells = torch.zeros(2, 1, 8, device=device)
    cells[0, 0] = torch.arange(8, device=device)
    try:
        error = (triton_gradient.times_cells(grad, x, cells) - plain.product(grad, x, cells)).abs().max().item()
    except Exception as fault:  # a compiler or driver that is missing or broken may raise anything
        reason = str(fault).strip().partition("\n")[0]
        _log.warning("Triton does not work on %s (%s: %s); plain torch is used.", device, type(fault).__name__, reason)
        return False
    if not error <= _TOLERANCE:
        _log.warning("a Triton kernel errs by %.2g on %s and is not used; plain torch is.", error, device)
    return error <= _TOLERANCE

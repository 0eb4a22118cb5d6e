"""Whether a g may be trained with: finite, real and bounded wherever it is looked at."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from sugarsearch.errors import AdmissionError
from sugarsearch.nn.lowering import lower
from sugarsearch.symbolic.surrogate import REACH, Surrogate

LARGEST_SLOPE = 100.0
"""The largest |g| admitted: a gradient so magnified in every layer trains nothing."""

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def admit(surrogate: Surrogate) -> None:
    """Returns if `surrogate` may be trained with. About 0.1 ms.

    g is computed in closed form, as it is in training, on a grid of numbers of float32, bfloat16 and float16: evenly
    over [-8, 8] in steps of 1/64, and by magnitude from each type's smallest number to its largest.

    Raises:
        AdmissionError: g is not finite or not real somewhere, exceeds LARGEST_SLOPE, or is 0 everywhere.
    """
    probe, starts = _probe()
    g = lower(surrogate)(probe)
    good = g.abs() <= LARGEST_SLOPE  # False for NaN
    if not good.all():
        at = int(good.int().argmin())
        dtype = _DTYPES[sum(start <= at for start in starts) - 1]
        value = abs(g[at].item())
        finite = math.isfinite(value)
        reason = f"|g| = {value:g} is above {LARGEST_SLOPE:g}" if finite else "g is not a finite real number"
        raise AdmissionError(surrogate.formula, probe[at].item(), str(dtype).removeprefix("torch."), reason)
    if not g.any():
        raise AdmissionError(surrogate.formula, None, "float32", "g is 0 everywhere, so that nothing would be learned")


@cache
def _probe() -> tuple[Tensor, tuple[int, ...]]:
    """The grid as float32, and where each dtype's part starts."""
    even = torch.linspace(-8, 8, 1025, dtype=torch.float64)
    parts: list[Tensor] = []
    starts = []
    for dtype in _DTYPES:
        limits = torch.finfo(dtype)
        exponents = torch.linspace(math.log2(limits.tiny), math.log2(limits.max), 200, dtype=torch.float64)
        sizes = torch.exp2(exponents).clamp(limits.tiny, limits.max)
        numbers = torch.cat([even, sizes, -sizes, torch.tensor([REACH, -REACH], dtype=torch.float64)])
        starts.append(sum(map(len, parts)))
        parts.append(numbers.to(dtype).float())
    return torch.cat(parts), tuple(starts)

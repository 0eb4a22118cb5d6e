"""The functions that deep narrow nets are to learn (Lu et al. 2019), and the data of each run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, get_args

import numpy as np
import torch
from torch import Tensor

from sugarsearch.config.narrow_nets import TargetName
from sugarsearch.reproduction.narrow.seeds import DATA, generator

REACH: Final = math.sqrt(3)
"""Inputs are uniform on [-REACH, REACH], which has variance 1."""


@dataclass(frozen=True)
class Function:
    """A target: `values` takes x [inputs, ...] to [outputs, ...]."""

    formula: str
    inputs: int
    outputs: int
    values: Callable[[Tensor], Tensor]


FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        "f1": Function("|x|", 1, 1, torch.abs),
        "f2": Function("x sin 5x", 1, 1, lambda x: x * torch.sin(5 * x)),
        "f3": Function("1[x > 0] + 0.2 sin 5x", 1, 1, lambda x: (x > 0) + 0.2 * torch.sin(5 * x)),
        "f4": Function(
            "(|x1 + x2|, |x1 - x2|)", 2, 2, lambda x: torch.stack([(x[0] + x[1]).abs(), (x[0] - x[1]).abs()])
        ),
    }
)
"""By name."""

if FUNCTIONS.keys() != set(get_args(TargetName)):
    raise ImportError(f"targets without a function, or the reverse: {sorted(FUNCTIONS.keys() ^ get_args(TargetName))}")


def sample(run: int, inputs: int, samples: int) -> Tensor:
    """The inputs of one run, float32 [inputs, samples]; the same for all arms."""
    drawn = generator(DATA, run).uniform(-REACH, REACH, (inputs, samples))
    return torch.from_numpy(drawn.astype(np.float32))

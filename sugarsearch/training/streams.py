"""Random numbers of a member's seed: a stream for each purpose, so that none depends on what another draws."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What numbers are drawn for."""

    ORDER = 0
    AUGMENTATION = 1
    MODEL = 2
    IMAGE = 3
    MIXING = 4


def number(seed: int, epoch: int, stream: Stream, *place: int) -> int:
    """The seed of what is drawn in an epoch; `place`: which of several draws, in a stream that has them."""
    return int(np.random.SeedSequence([seed, epoch, stream, *place]).generate_state(1, np.uint64)[0])


def generator(seed: int, epoch: int, stream: Stream, device: torch.device) -> torch.Generator:
    """A generator of `device` at the beginning of a stream."""
    return torch.Generator(device).manual_seed(number(seed, epoch, stream))


@contextmanager
def seeded(value: int) -> Iterator[None]:
    """The global generators of Python, NumPy and torch's CPU seeded with `value`, and afterwards as they were."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.default_generator.manual_seed(value)  # torch.manual_seed would seed the GPU as well, in mid-epoch
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)

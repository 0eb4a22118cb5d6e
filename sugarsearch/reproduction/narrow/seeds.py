"""Random numbers of a run. Each run has streams of its own, so that it is the same however many are asked for."""

from __future__ import annotations

from typing import Final

import numpy as np

WEIGHTS: Final = 0
DATA: Final = 1
ORDER: Final = 2
"""Streams."""


def generator(stream: int, number: int) -> np.random.Generator:
    """Of a run's weights or data, or of an epoch's order."""
    return np.random.default_rng((stream, number))

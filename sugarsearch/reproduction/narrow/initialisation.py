"""How weights begin: He-normal, or randomized asymmetric (RAI)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sugarsearch.config.narrow_nets import Initialisation
from sugarsearch.reproduction.narrow.seeds import WEIGHTS, generator

Array = NDArray[np.float64]
Layer = tuple[Array, Array]  # weights [outputs, inputs], biases [outputs]

RAI_DEVIATION: Final = 0.6007


def he(rng: np.random.Generator, inputs: int, outputs: int) -> Layer:
    """Weights N(0, 2 / inputs), biases 0 (He et al. 2015)."""
    return rng.normal(0, np.sqrt(2 / inputs), (outputs, inputs)), np.zeros(outputs)


def rai(rng: np.random.Generator, inputs: int, outputs: int) -> Layer:
    """Randomized asymmetric initialisation (Lu et al. 2019, algorithm 1).

    The vector of a unit's weights and bias is N(0, 0.6007**2 / inputs); then one of its entries, any with the same
    chance, is drawn anew from Beta(2, 1).
    """
    vectors = rng.normal(0, RAI_DEVIATION / np.sqrt(inputs), (outputs, inputs + 1))
    vectors[np.arange(outputs), rng.integers(0, inputs + 1, outputs)] = rng.beta(2, 1, outputs)
    return vectors[:, :-1], vectors[:, -1]


DRAW: Mapping[Initialisation, Callable[[np.random.Generator, int, int], Layer]] = MappingProxyType(
    {"he": he, "rai": rai}
)
"""By name."""


def initial(name: Initialisation, run: int, sizes: Sequence[int]) -> list[Layer]:
    """The layers of one run's net, whose layers have so many units, inputs first."""
    rng = generator(WEIGHTS, run)
    return [DRAW[name](rng, inputs, outputs) for inputs, outputs in itertools.pairwise(sizes)]

"""What a profile says, in words that each rest on a number in them; and the remedies that can be tried."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from sugarsearch.analysis.profile import LayerProfile, dead_share, profile
from sugarsearch.config.arm import TrainingArm
from sugarsearch.symbolic.surrogate import Surrogate

DEAD_NOTABLE: Final = 0.1
"""Share of a layer's units from which on their death is told: of ten units, one."""
LINEAR_NOTABLE: Final = 0.5
"""Share of a layer's units that act linearly, from which on it is told: such a layer is more linear than not."""
BIASES: Final = (0.01, 0.1)
"""Small positive biases that people begin with; 0.1 is what Goodfellow, Bengio & Courville (2016, 6.3.1) name."""
DRAWS: Final = 5
"""Of weights: one alone would not tell another distribution from another draw."""
NAMED: Final = 4
"""Layers that a sentence names; the table has them all."""

_CONVOLUTIONS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Remedy:
    """A way of training that might leave fewer units dead.

    Attributes:
        title: for people.
        surrogate: its name.
        arm: how it is used.
        bias: what is added to each bias at initialisation.
    """

    title: str
    surrogate: str
    arm: TrainingArm = "sugar"
    bias: float = 0.0


REMEDIES: Final = (
    Remedy("ReLU", "relu"),
    Remedy("SUGAR: b_silu", "b_silu"),
    Remedy("SUGAR: elu's derivative", "elu"),
    Remedy("non-SUGAR: leaky_relu, slope 0.01", "leaky_relu", "non_sugar"),
    Remedy("non-SUGAR: prelu, slope 0.25, not learned", "prelu", "non_sugar"),
    Remedy("non-SUGAR: elu", "elu", "non_sugar"),
    Remedy(f"ReLU, {BIASES[-1]:g} added to each bias", "relu", bias=BIASES[-1]),
)
"""First the plain network, beside which the others stand."""


@dataclass(frozen=True)
class Beginning:
    """The network at initialisation, and what other beginnings would give.

    Attributes:
        seed: of the weights.
        layers: profiled over the samples of the profile that it stands beside.
        samples: over which the shares below were counted.
        dead: dead units as a share of all.
        with_bias: the same with this much added to each bias; empty if the network has no bias.
        with_kaiming: the same with He-normal weights (fan in) and biases as they are, of each of some draws.
        largest_bias: the size of the largest; 0 if all are 0 or there is none.
        batch_norm: whether the network has any.
    """

    seed: int
    layers: Sequence[LayerProfile]
    samples: int
    dead: float
    with_bias: Mapping[float, float]
    with_kaiming: Sequence[float]
    largest_bias: float
    batch_norm: bool

    def to_json(self) -> dict[str, Any]:
        """Plain data, fit for `json.dump`; without the layers."""
        return {
            "seed": self.seed,
            "samples": self.samples,
            "dead": self.dead,
            "with_bias": {f"{amount:g}": share for amount, share in self.with_bias.items()},
            "with_kaiming": list(self.with_kaiming),
            "largest_bias": self.largest_bias,
        }


def look_at_beginning(
    make: Callable[[], nn.Module], layers: Sequence[LayerProfile], batches: Sequence[Tensor], seed: int
) -> Beginning:
    """Count dead units of other beginnings.

    Args:
        make: the network at initialisation, the same each time, on the device of `batches`.
        layers: its profile.
        batches: few will do.
        seed: that `make` uses.
    """
    network = make()
    with_bias = {amount: dead_share(profile(raise_biases(make(), amount), batches)) for amount in BIASES}
    return Beginning(
        seed,
        layers,
        sum(map(len, batches)),
        dead_share(profile(network, batches)),
        with_bias if list(_biases(network)) else {},
        [dead_share(profile(_with_kaiming(make(), draw), batches)) for draw in range(seed, seed + DRAWS)],
        max((float(bias.detach().abs().max()) for bias in _biases(network)), default=0.0),
        any(isinstance(module, _BATCH_NORMS) for module in network.modules()),
    )


@torch.no_grad()
def raise_biases(network: nn.Module, amount: float) -> nn.Module:
    """`network`, with `amount` added in place to each bias of its linear and convolutional layers and batch norms."""
    for bias in _biases(network):
        bias += amount
    return network


def advise(
    layers: Sequence[LayerProfile], beginning: Beginning, surrogate: Surrogate, *, trained: bool, seed_known: bool
) -> list[str]:
    """What the profile says, a sentence or two each.

    Args:
        layers: the network now.
        beginning: the same network at initialisation, over the same samples.
        surrogate: that it was or would be trained with.
        trained: whether it is no longer at initialisation.
        seed_known: whether its weights came of `beginning`'s seed for certain.
    """
    said = [
        *_dead(layers),
        *(_since(layers, beginning, seed_known) if trained else ()),
        *_at_zero(beginning, surrogate),
        *_other_beginnings(beginning),
        *_linear(layers),
    ]
    if not _where(layers, DEAD_NOTABLE, _dead_units) and not _where(layers, LINEAR_NOTABLE, _linear_units):
        said.append(
            f"Nothing stands out: no layer has {_percent(DEAD_NOTABLE)} or more of its units dead, or "
            f"{_percent(LINEAR_NOTABLE)} or more always on."
        )
    return said


def sampling_noise(accuracies: Sequence[float], samples: int) -> float:
    """How far two accuracies measured on so many samples can lie apart by the draw of samples alone (95 %).

    As for independent draws, at the accuracy where it is largest. What another seed would change comes on top.
    """
    return 1.96 * math.sqrt(2 * max(share * (1 - share) for share in accuracies) / samples)


def _dead(layers: Sequence[LayerProfile]) -> Iterator[str]:
    dead, units, samples = sum(map(_dead_units, layers)), sum(layer.units for layer in layers), layers[0].samples
    if not dead:
        yield f"No unit is dead: each of the {units} fires for at least one of {samples} samples."
        return
    struck = _where(layers, DEAD_NOTABLE, _dead_units)
    spread = (
        f"They are {_percent(DEAD_NOTABLE)} or more of the units in {len(struck)} of {len(layers)} layers, the first "
        f"being {struck[0].name}: {_named(struck, _dead_units)}."
        if struck
        else f"In no layer are they {_percent(DEAD_NOTABLE)} or more."
    )
    share = _percent(dead / units)
    yield f"{dead} of {units} units ({share}) are dead: they fire for none of {samples} samples. {spread}"
    whole = [layer for layer in layers if layer.dead == layer.units]
    if whole:
        first = whole[0]
        yield (
            f"{len(whole)} of {len(layers)} layers are wholly dead, first {first.name}: of its {first.units} units "
            f"none fires for any of {samples} samples. Without a path around it the network gives one answer to all."
        )


def _since(layers: Sequence[LayerProfile], beginning: Beginning, seed_known: bool) -> Iterator[str]:
    pairs = [(set(now.silent), set(then.silent)) for now, then in zip(layers, beginning.layers, strict=True)]
    born = sum(len(now & then) for now, then in pairs)
    died = sum(len(now - then) for now, then in pairs)
    revived = sum(len(then - now) for now, then in pairs)
    if not born + died + revived:
        return
    text = (
        f"Dead units: {born} from initialisation on (seed {beginning.seed}), {died} since; dead at initialisation and "
        f"firing now: {revived}."
    )
    if not seed_known:
        text += f" That holds if the weights were trained from seed {beginning.seed}; --seed says another."
    yield text


def _at_zero(beginning: Beginning, surrogate: Surrogate) -> Iterator[str]:
    """Above a dead layer inputs are 0; where biases are too, so is what ReLU sees, and g(0) alone decides."""
    whole = [layer.dead == layer.units for layer in beginning.layers]
    if not any(whole) or beginning.largest_bias > 0:
        return
    first = whole.index(True)
    above = len(whole) - first - 1
    if not above or not all(whole[first:]):  # a path around it brings other inputs
        return
    at_zero = surrogate.at_zero
    outcome = (
        "so no gradient comes back through them and nothing below learns"
        if at_zero == 0
        else "so gradient comes back through them"
    )
    yield (
        f"At initialisation {beginning.layers[first].name} is wholly dead and all biases are 0: in all "
        f"activations above it ({above}) each input is exactly 0, where g(0) alone decides. {surrogate.label} has "
        f"g(0) = {at_zero:.3g}, {outcome}."
    )


def _other_beginnings(beginning: Beginning) -> Iterator[str]:
    if beginning.dead == 0:
        return
    others = [f"{_percent(share)} with {amount:g} added to each bias" for amount, share in beginning.with_bias.items()]
    low, high = (_percent(end(beginning.with_kaiming)) for end in (min, max))
    drawn = f"{low} to {high} with {len(beginning.with_kaiming)} draws of He-normal (Kaiming) weights"
    listed = ", ".join([*others, drawn])
    text = f"At initialisation {_percent(beginning.dead)} of units are dead over {beginning.samples} samples; {listed}."
    if beginning.batch_norm:
        text += " Batch norm has seen no data there: it takes a mean of 0 and a variance of 1."
    yield text


def _linear(layers: Sequence[LayerProfile]) -> Iterator[str]:
    found = _where(layers, LINEAR_NOTABLE, _linear_units)
    if found:
        yield (
            f"In {len(found)} of {len(layers)} layers {_percent(LINEAR_NOTABLE)} or more of the units are above 0 for "
            f"all {layers[0].samples} samples at every position, and so act linearly: {_named(found, _linear_units)}."
        )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


Count = Callable[[LayerProfile], int]


def _dead_units(layer: LayerProfile) -> int:
    return layer.dead


def _linear_units(layer: LayerProfile) -> int:
    return layer.always_on


def _where(layers: Sequence[LayerProfile], share: float, count: Count) -> list[LayerProfile]:
    return [layer for layer in layers if count(layer) >= share * layer.units]


def _named(layers: Sequence[LayerProfile], count: Count) -> str:
    shown = ", ".join(f"{layer.name} ({count(layer)} of {layer.units})" for layer in layers[:NAMED])
    return shown if len(layers) <= NAMED else f"{shown} and {len(layers) - NAMED} more"


def _biases(network: nn.Module) -> Iterator[Tensor]:
    for module in network.modules():
        if isinstance(module, (nn.Linear, *_CONVOLUTIONS, *_BATCH_NORMS)) and module.bias is not None:
            yield module.bias


def _with_kaiming(network: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, (nn.Linear, *_CONVOLUTIONS)):
            drawn = torch.empty(module.weight.shape)
            nn.init.kaiming_normal_(drawn, nonlinearity="relu", generator=generator)
            module.weight.data.copy_(drawn)
    return network

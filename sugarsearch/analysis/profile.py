"""What each unit of a network does over many samples: which are dead, always on, and how often they fire."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from sugarsearch.errors import UsageError
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.kinds import kind_of
from sugarsearch.nn.primitive import Primitive

BINS: Final = 20
"""Of a histogram, between never and always."""


@dataclass(frozen=True)
class LayerProfile:
    """What the units of one call of an activation did.

    A unit is a channel of [B, C, H, W], else an entry of the last dimension. It fires for a sample if its output is
    above 0 at any of the sample's positions.

    Attributes:
        name: path of the module; of one that is called more than once in a forward pass with "#1", "#2", ...
        samples: how many were seen.
        fired: of each unit, for how many samples it fired.
        linear: the units that were above 0 for every sample at every position, by number: there ReLU is the identity.
        fewest, mean, most: units that fire for one sample.
        zeros: outputs that are 0, as a share of all.
    """

    name: str
    samples: int
    fired: tuple[int, ...]
    linear: tuple[int, ...]
    fewest: int
    mean: float
    most: int
    zeros: float

    @property
    def units(self) -> int:
        """How many units the layer has."""
        return len(self.fired)

    @property
    def silent(self) -> tuple[int, ...]:
        """The dead units, by number: they fired for no sample."""
        return tuple(unit for unit, count in enumerate(self.fired) if count == 0)

    @property
    def dead(self) -> int:
        """How many units are dead."""
        return len(self.silent)

    @property
    def always_on(self) -> int:
        """How many units are linear."""
        return len(self.linear)

    @property
    def shares(self) -> tuple[float, ...]:
        """Of each unit, the share of samples for which it fires."""
        return tuple(count / self.samples for count in self.fired)

    @property
    def histogram(self) -> tuple[int, ...]:
        """Units by share of samples: exactly 0, `BINS` equal bins between, exactly 1.

        A share on the edge of two bins counts in the upper one.
        """
        counts = [0] * (BINS + 2)
        for count in self.fired:
            inner = 1 + count * BINS // self.samples  # whole numbers: 3 of 20 lies on an edge, whatever 0.15 is
            counts[0 if count == 0 else BINS + 1 if count == self.samples else inner] += 1
        return tuple(counts)

    def to_json(self) -> dict[str, Any]:
        """Plain data, fit for `json.dump`; dead and linear units by number."""
        return {
            "layer": self.name,
            "units": self.units,
            "samples": self.samples,
            "dead_units": list(self.silent),
            "always_on_units": list(self.linear),
            "histogram": list(self.histogram),
            "firing_units": {"fewest": self.fewest, "mean": self.mean, "most": self.most},
            "zeros": self.zeros,
        }


def profile(network: nn.Module, batches: Iterable[Tensor]) -> list[LayerProfile]:
    """Run `network` over `batches` once, in evaluation mode, and count what each call of an activation does.

    Calls come in the order of the forward pass. Memory does not grow with the number of samples. Activations are the
    modules that `sugarsearch.nn.kinds` knows, SugarReLU, Primitive and PReLU; functions (F.relu) cannot be seen. Each
    module's mode is left as it was.

    Args:
        network: on the device of the batches.
        batches: inputs [B, ...] each.

    Raises:
        UsageError: no activation or no sample was seen, or an output is not finite.
    """
    names = {module: path for path, module in network.named_modules() if is_activation(module)}
    counts: dict[tuple[nn.Module, int], _Counts] = {}
    calls: Counter[nn.Module] = Counter()

    def count(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        calls[module] += 1
        call = module, calls[module]
        if call not in counts:
            counts[call] = _Counts(_by_unit(output).shape[0], output.device)
        counts[call].add(output)

    with _hooked(names, count), _evaluating(network), torch.no_grad():
        for batch in batches:
            calls.clear()
            network(batch)
    if not counts:
        raise UsageError(
            f"nothing was counted: {len(names)} activation modules, none of them called. Give a network that calls its "
            "activations as modules (nn.ReLU, not F.relu) and is not compiled, and at least one batch."
        )
    reused = {module for module, number in counts if number > 1}
    return [
        one.finish(f"{names[module]}#{number}" if module in reused else names[module])
        for (module, number), one in counts.items()
    ]


def dead_share(layers: Sequence[LayerProfile]) -> float:
    """Dead units as a share of all units."""
    return sum(layer.dead for layer in layers) / sum(layer.units for layer in layers)


def is_activation(module: nn.Module) -> bool:
    """Whether `profile` looks at this module."""
    return isinstance(module, (SugarReLU, Primitive, nn.PReLU)) or kind_of(module) is not None


class _Counts:
    """Running counts of one call, on the device: counting waits for nothing."""

    def __init__(self, units: int, device: torch.device) -> None:
        self._samples = self._outputs = 0
        self._fired = torch.zeros(units, dtype=torch.int64, device=device)
        self._linear = torch.ones(units, dtype=torch.bool, device=device)
        self._firing = torch.zeros((), dtype=torch.int64, device=device)
        self._zeros = torch.zeros((), dtype=torch.int64, device=device)
        self._fewest = torch.tensor(units, device=device)
        self._most = torch.tensor(0, device=device)
        self._finite = torch.tensor(True, device=device)

    def add(self, output: Tensor) -> None:
        samples = len(output)
        on = _by_unit(output > 0).reshape(len(self._fired), samples, -1)  # [units, samples, positions]
        fires = on.any(2)
        firing = fires.sum(0)
        self._samples += samples
        self._outputs += output.numel()
        self._fired += fires.sum(1)
        self._linear &= on.flatten(1).all(1)
        self._firing += firing.sum()
        self._zeros += (output == 0).sum()
        self._fewest = torch.minimum(self._fewest, firing.min())
        self._most = torch.maximum(self._most, firing.max())
        self._finite &= output.isfinite().all()

    def finish(self, name: str) -> LayerProfile:
        if not self._finite:  # NaN > 0 is false: every unit would look dead
            raise UsageError(
                f"outputs of {name} are not finite, so its units cannot be profiled: the network has diverged. Train "
                "it with a lower learning rate, or give weights from before."
            )
        return LayerProfile(
            name,
            self._samples,
            tuple(self._fired.tolist()),
            tuple(self._linear.nonzero().flatten().tolist()),
            int(self._fewest),
            int(self._firing) / self._samples,
            int(self._most),
            int(self._zeros) / self._outputs,
        )


@contextmanager
def _hooked(modules: Iterable[nn.Module], hook: Callable[[nn.Module, tuple[Any, ...], Tensor], None]) -> Iterator[None]:
    with ExitStack() as open_hooks:
        for module in modules:
            open_hooks.enter_context(module.register_forward_hook(hook))
        yield


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode; then each module's own mode again: some may be frozen in a network that trains."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _by_unit(values: Tensor) -> Tensor:
    """[B, C, H, W] or [..., units] to [units, samples]."""
    if values.ndim == 4:
        return values.transpose(0, 1).flatten(1)
    return values.flatten(0, -2).t()

"""What the callbacks have in common: SUGAR in and out of a network, and a look at its units now and then."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final

from torch import nn

from sugarsearch.errors import SugarsearchWarning, UsageError
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.surgery import apply, remove
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.training.metrics import Activity, watch, watch_gain

WATCHED: Final = (nn.ReLU, SugarReLU)

Given = Surrogate | str | Mapping[str, Surrogate | str]
"""What `sugarsearch.apply` takes: a g, its name or text, or a g for each pattern of paths."""


class Monitor:
    """Watches every n-th training step of a network; see `lightning` and `transformers` for what it serves.

    The metrics of a watched step:

    - sugar/dead_units: the share of units that are 0 for the whole step's batch, over all layers.
    - sugar/dead_units_worst: the same of the layer where it is highest.
    - sugar/sparsity: the share of outputs that are 0.
    - sugar/gain: with SUGAR, in the first step only: how much stronger than ReLU's the backward signal is per layer,
      measured on the network's own pre-activations, as the mean over layers.

    Args:
        surrogate: put in by `sugarsearch.apply` at the start; None: nothing is put in, ReLUs are watched.
        every_n_steps: of the training.
        remove_at_end: turn SugarReLUs into nn.ReLU when training ends; only if a surrogate was put in.
        options: further arguments of `sugarsearch.apply`.

    Raises:
        UsageError: every_n_steps below 1, or options without a surrogate.
    """

    def __init__(
        self, surrogate: Given | None, every_n_steps: int, remove_at_end: bool, options: Mapping[str, Any]
    ) -> None:
        if every_n_steps < 1:
            raise UsageError(f"every_n_steps = {every_n_steps} is not allowed; give 1 or more.")
        if options and surrogate is None:
            raise UsageError(f"{', '.join(options)}: options of sugarsearch.apply; give a surrogate to apply too.")
        self.surrogate, self.options = surrogate, options
        self._every, self._remove = every_n_steps, remove_at_end
        self._steps = 0
        self._open = ExitStack()
        self._activity: Activity | None = None
        self._gains: list[float] = []

    def begin(self, network: nn.Module) -> None:
        """Training begins: put SUGAR in, if asked for.

        Raises:
            SurgeryError: a network that `sugarsearch.apply` refuses.
            UsageError: a network without an activation to watch.
        """
        self._open.close()
        self._steps = 0
        if self.surrogate is not None:
            apply(network, self.surrogate, **self.options)
        if not any(isinstance(module, WATCHED) for module in network.modules()):
            raise UsageError("the network has no nn.ReLU and no SugarReLU to watch; functions (F.relu) cannot be seen.")

    def before_step(self, network: nn.Module) -> None:
        """A training step begins."""
        if self._steps % self._every == 0:
            self._activity = self._open.enter_context(watch(network, kinds=WATCHED))
            if self._steps == 0:
                self._gains = self._open.enter_context(watch_gain(network))
        self._steps += 1

    def after_step(self) -> dict[str, float]:
        """The metrics of the step just made; empty if it was not watched."""
        self._open.close()
        activity, self._activity = self._activity, None
        if activity is None:
            return {}
        if not activity.units:
            warnings.warn(
                "no activation was seen in a training step; a network that torch.compile has run before cannot be "
                "watched: begin training with it not yet compiled.",
                SugarsearchWarning,
                stacklevel=2,
            )
            return {}
        dead = [int(layer) for layer in activity.dead]
        metrics = {
            "sugar/dead_units": sum(dead) / sum(activity.units),
            "sugar/dead_units_worst": max(map(operator.truediv, dead, activity.units)),
            "sugar/sparsity": float(activity.sparsity()),
        }
        gains, self._gains = self._gains, []
        return {**metrics, "sugar/gain": sum(gains) / len(gains)} if gains else metrics

    def end(self, network: nn.Module) -> None:
        """Training ends, or was broken off: take SUGAR out, if it was put in and is to go."""
        self._open.close()
        self._activity = None
        has_sugar = any(isinstance(module, SugarReLU) for module in network.modules())
        if self.surrogate is not None and self._remove and has_sugar:
            remove(network)

"""The gradient of an optimisation step, collected from the losses of its batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sugarsearch.nn.function import relus_own_gradient
from sugarsearch.training.optim import clip_gradients, graft_gradients


class Gradients:
    """Adds up what losses give `parameters` as gradients; grafting and clipping act on the sum."""

    def __init__(
        self, parameters: Sequence[nn.Parameter], *, stacked: bool, grafted: bool, limit: float | None
    ) -> None:
        """Collect for a network, or for a population of them.

        Args:
            parameters: of the network; [members, ...] if stacked.
            stacked: members are grafted and clipped apart.
            grafted: the step goes SUGAR's way and is as long as ReLU's own, in each parameter.
            limit: the norm to which the whole is clipped; None: not at all.
        """
        self._parameters, self._stacked, self._grafted, self._limit = parameters, stacked, grafted, limit
        self._directions: list[Tensor | None] = []

    def clear(self) -> None:
        """Begin a step: no gradient yet."""
        for parameter in self._parameters:
            parameter.grad = None
        self._directions = [None for _ in self._parameters]

    def add(self, loss: Tensor) -> None:
        """Go back through the loss's graph; for grafting twice through the one graph, for SUGAR and for ReLU."""
        if not self._grafted:
            torch.autograd.backward(loss)
            return
        self._swap()
        torch.autograd.backward(loss, retain_graph=True)
        self._swap()
        with relus_own_gradient():
            torch.autograd.backward(loss)

    def finish(self) -> None:
        """The sum is whole: make it the step's gradient."""
        if self._grafted:
            graft_gradients(self._parameters, self._directions, self._stacked)
        if self._limit is not None:
            clip_gradients(self._parameters, self._limit, self._stacked)

    def _swap(self) -> None:
        """autograd adds to `grad` alone, so the one of two sums that is to grow is put there."""
        for index, parameter in enumerate(self._parameters):
            parameter.grad, self._directions[index] = self._directions[index], parameter.grad

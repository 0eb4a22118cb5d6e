"""A whole optimisation step as one CUDA graph: forward, losses, backward, clipping and update in a single launch.

A step of a small network is a few hundred kernels of microseconds each, which the processor cannot launch as fast as
the GPU computes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from sugarsearch.nn.activation import SugarReLU
from sugarsearch.symbolic.library import surrogate

Step = Callable[[Tensor, Tensor], Tensor]
"""From inputs and targets to the members' losses, detached; updates the weights."""

Pool = Any
"""What torch.cuda.graph_pool_handle gives."""

_WARM_UP: Final = 3  # as torch's documentation has it: libraries choose and allocate in their first calls


class StepGraph:
    """`step`, captured; called with inputs and targets of the captured shapes."""

    def __init__(
        self,
        step: Step,
        inputs: Tensor,
        targets: Tensor,
        state: Callable[[], Iterable[Tensor]],
        pool: Pool | None = None,
    ) -> None:
        """Capture. What `state` gives, and the device's random state, are afterwards what they were.

        Args:
            step: reads and writes the same tensors at each call, but for what it makes itself.
            inputs: those of a step to come.
            targets: likewise.
            state: all tensors that `step` changes; those that its first call makes are set to 0.
            pool: the memory that graphs share which are never replayed at once; None: its own.

        Raises:
            RuntimeError: it cannot be captured.
        """
        device = inputs.device
        self._inputs, self._targets = inputs.clone(), targets.clone()
        self._graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        current = torch.cuda.current_stream(device)
        # The second stream context leaves the capture's stream where a capture that fails does not.
        with torch.cuda.device(device), torch.cuda.stream(current), unchanged(state), _same_random_state(device):
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP):
                    step(self._inputs, self._targets)
            current.wait_stream(stream)
            # Threads that load images may allocate meanwhile.
            with torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                self._losses = step(self._inputs, self._targets)

    def fits(self, inputs: Tensor, targets: Tensor) -> bool:
        """Whether these have the captured shapes."""
        return inputs.shape == self._inputs.shape and targets.shape == self._targets.shape

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Do the step; gives the losses, which the next call overwrites."""
        self._inputs.copy_(inputs)
        self._targets.copy_(targets)
        self._graph.replay()
        return self._losses


@contextmanager
def unchanged(state: Callable[[], Iterable[Tensor]]) -> Iterator[None]:
    """Whatever is done inside, the tensors of `state` are afterwards what they were; those made inside are 0."""
    before = [(tensor, tensor.detach().clone()) for tensor in state()]
    try:
        yield
    finally:
        known = {id(tensor): value for tensor, value in before}
        with torch.no_grad():
            for tensor in state():
                if id(tensor) in known:
                    tensor.copy_(known[id(tensor)])
                else:
                    tensor.zero_()


@contextmanager
def _same_random_state(device: torch.device) -> Iterator[None]:
    before = torch.cuda.get_rng_state(device)
    try:
        yield
    finally:
        torch.cuda.set_rng_state(before, device)


@cache
def prove(device: torch.device) -> None:
    """Check once that captured steps give g's gradient here, and another g's when its table is written over.

    Raises:
        RuntimeError: they do not, or nothing can be captured.
    """
    activation = SugarReLU("relu", form="table").to(device)
    x, grad = torch.linspace(-4, 4, 64, device=device), torch.linspace(1, 2, 64, device=device)

    def gradient(x: Tensor, grad: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        (result,) = torch.autograd.grad(activation(x), x, grad)
        return result

    captured = StepGraph(gradient, x, grad, lambda: ())
    for text in ("0.5 + sigmoid(x) if x > 0 else 0.25*softsign(x) - 0.125", "b_silu"):
        g = surrogate(text)
        activation.set_surrogate(g)
        error = np.abs((captured(x, grad) / grad).double().cpu().numpy() - g(x.double().cpu().numpy())).max()
        if not error <= 1e-4:
            raise RuntimeError(f"captured on {device}, g's gradient errs by {error:.2g}")

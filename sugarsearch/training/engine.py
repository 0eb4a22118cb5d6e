"""What one training run can take over from another: the network's memory, its compiled code, and the captured step.

Compiled code serves every network of one architecture, but a CUDA graph only the tensors that it was captured with. So
a finished run's are kept, and the next candidate's weights and table of g are written into them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from sugarsearch.nn.activation import SugarReLU
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.training.graph import Pool, StepGraph
from sugarsearch.training.network import Member, Network

_SEEDS: Final = 16  # whose weights are kept; replicates are fewer


@dataclass
class Engine:
    """A network and its optimiser, the step that was captured of them, if one was, and the memory of such graphs."""

    network: Network
    optimizer: torch.optim.Optimizer
    graph: StepGraph | None = None
    pool: Pool | None = None

    def state(self) -> Iterator[Tensor]:
        """All tensors that training changes."""
        yield from self.network.module.parameters()
        yield from self.network.module.buffers()
        for values in self.optimizer.state.values():
            yield from (value for value in values.values() if isinstance(value, Tensor))

    def become(self, weights: Mapping[str, Tensor], surrogate: Surrogate) -> None:
        """Hold a fresh network with these weights and this g, and its optimiser, in the memory at hand.

        The optimiser's settings are the recipe's, but for those that its schedule sets before each step.
        """
        self.network.module.load_state_dict(weights)
        for module in self.network.module.modules():
            if isinstance(module, SugarReLU):
                module.set_surrogate(surrogate)
        for values in self.optimizer.state.values():
            for value in values.values():
                if isinstance(value, Tensor):
                    value.zero_()  # as before the first step: momentum and Adam's moments and count are 0


class Engines:
    """The engines of a process, one for each run at work of a kind, and the weights that seeds begin with.

    Drawing those of a ResNet-18 takes 0.11 s on one core, and all candidates begin with the same.
    """

    def __init__(self) -> None:
        self._engines: dict[Hashable, list[tuple[Engine, weakref.ref[object]]]] = {}
        self._weights: dict[tuple[Hashable, int], dict[str, Tensor]] = {}
        self._pool: Pool | None = None

    def take(self, kind: Hashable, member: Member, make: Callable[[], Engine], user: object) -> Engine:
        """An engine of a fresh run of `member`, for as long as `user` lives.

        Args:
            kind: what networks and optimisers must have in common to be exchanged.
            member: its seed gives the weights.
            make: a fresh engine of the member, where none is free or the seed's weights are not known.
            user: the run.
        """
        known, weights = self._engines.setdefault(kind, []), self._weights.get((kind, member.seed))
        free = next((place for place, (_, last) in enumerate(known) if last() is None), None)
        if weights is None or free is None:
            fresh = make()
            fresh.pool = self._shared_pool()
            weights = self._remember(kind, member.seed, fresh)
            if free is None:
                known.append((fresh, weakref.ref(user)))
                return fresh
        engine, _ = known[free]
        engine.become(weights, member.surrogate)
        known[free] = engine, weakref.ref(user)
        return engine

    def _remember(self, kind: Hashable, seed: int, engine: Engine) -> dict[str, Tensor]:
        weights = {name: value.detach().clone() for name, value in engine.network.module.state_dict().items()}
        if len(self._weights) >= _SEEDS:
            self._weights.pop(next(iter(self._weights)))
        self._weights[kind, seed] = weights
        return weights

    def _shared_pool(self) -> Pool | None:
        if self._pool is None and torch.cuda.is_available():
            self._pool = torch.cuda.graph_pool_handle()
        return self._pool

    def clear(self) -> None:
        """Forget engines that no run uses, for their memory's sake."""
        self._weights.clear()
        for kind, known in self._engines.items():
            self._engines[kind] = [(engine, user) for engine, user in known if user() is not None]

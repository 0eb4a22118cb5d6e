"""What one training run can take over from another: the network's memory, its compiled code, and the captured step.

Compiled code serves every network of one architecture, but a CUDA graph only the tensors that it was captured with. So
a finished run's are kept, and the next candidate's weights and table of g are written into them.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sugarsearch.nn.activation import SugarReLU
from sugarsearch.training.graph import Pool, StepGraph
from sugarsearch.training.network import Network
from sugarsearch.training.optim import take_settings


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

    def become(self, network: Network, optimizer: torch.optim.Optimizer) -> None:
        """Hold what a fresh network and its optimiser do, in the memory at hand."""
        self.network.module.load_state_dict(network.module.state_dict())
        # The same architecture, so modules() gives the same sites in the same order; a shared one once.
        for own, other in zip(_sites(self.network), _sites(network), strict=True):
            own.set_surrogate(other.surrogate)
        for values in self.optimizer.state.values():
            for value in values.values():
                if isinstance(value, Tensor):
                    value.zero_()  # as before the first step: momentum and Adam's moments and count are 0
        take_settings(self.optimizer, optimizer)


class Engines:
    """The engines of a process, one for each run at work of a kind."""

    def __init__(self) -> None:
        self._engines: dict[Hashable, list[tuple[Engine, weakref.ref[object]]]] = {}
        self._pool: Pool | None = None

    def take(self, kind: Hashable, network: Network, optimizer: torch.optim.Optimizer, user: object) -> Engine:
        """An engine that holds what these do, for as long as `user` lives.

        kind: what the networks and optimisers must have in common to be exchanged.
        """
        known = self._engines.setdefault(kind, [])
        for place, (engine, last) in enumerate(known):
            if last() is None:
                engine.become(network, optimizer)
                known[place] = engine, weakref.ref(user)
                return engine
        if self._pool is None and torch.cuda.is_available():
            self._pool = torch.cuda.graph_pool_handle()
        engine = Engine(network, optimizer, pool=self._pool)
        known.append((engine, weakref.ref(user)))
        return engine

    def clear(self) -> None:
        """Forget engines that no run uses, for their memory's sake."""
        for kind, known in self._engines.items():
            self._engines[kind] = [(engine, user) for engine, user in known if user() is not None]


def _sites(network: Network) -> list[SugarReLU]:
    return [module for module in network.module.modules() if isinstance(module, SugarReLU)]

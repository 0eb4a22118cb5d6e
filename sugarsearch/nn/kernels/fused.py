"""grad * g(x) as one kernel for each g in closed form, compiled by torch's Inductor and called in eager mode.

It passes over the data once, where plain torch passes once for each operation. The first call of a g compiles it, for
a second or so, several where nothing has been compiled yet in the process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Final

import torch
from torch import Tensor

from sugarsearch.nn.kernels.sigmoids import share_exponentials
from sugarsearch.nn.lowering import Lowered

Kernel = Callable[[Tensor, Tensor, Tensor], None]

WORTHWHILE: Final = 2**14
"""Elements from which on a kernel is called: the call itself takes as long as plain torch for these."""

_PROBE: Final = 2**17  # elements; of fewer, the compiler would conclude that threads do not pay
_TOLERANCE: Final = 1e-4
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fused:
    """g in closed form, whose gradient is to be one kernel where it can be compiled."""

    closed: Lowered


@lru_cache(maxsize=1024)
def kernel_of(closed: Lowered) -> Kernel | None:
    """The kernel of a g: of gradient, x and what it writes to, all one-dimensional and of a common dtype.

    None where it cannot be compiled or does not give what plain torch gives; why is logged once.
    """
    if not _compiles():
        return None

    one_kernel = share_exponentials(closed)

    def kernel(grad: Tensor, x: Tensor, out: Tensor) -> None:
        out.copy_(one_kernel(x) * grad)

    # Dynamo counts how often a code object has been compiled, and gives up after a few times: each g has its own.
    own = FunctionType(_renamed(kernel.__code__), globals(), closure=kernel.__closure__)
    compiled: Kernel = torch.compile(own, dynamic=True, fullgraph=True)
    return compiled if _agrees(compiled, closed) else None


def _renamed(code: CodeType) -> CodeType:
    return code.replace(co_name="sugar_gradient")


@lru_cache(maxsize=1)
def _compiles() -> bool:
    """Whether a compiler is at hand; says so once if none is."""
    try:
        torch.compile(_one_more, dynamic=True, fullgraph=True)(torch.ones(_PROBE))
    except Exception as error:  # a compiler that is missing or broken may raise anything
        reason = str(error).strip().partition("\n")[0]
        _log.warning("no compiled backward kernel (%s: %s); plain torch is used.", type(error).__name__, reason)
        return False
    return True


def _one_more(x: Tensor) -> Tensor:
    return x + 1


def _agrees(compiled: Kernel, closed: Lowered) -> bool:
    """The kernel's own self-test: a compiler has been seen to exchange a backward pass without a word."""
    x, grad = torch.linspace(-4, 4, _PROBE), torch.linspace(1, 2, _PROBE)
    wanted, got = closed(x) * grad, torch.full_like(x, torch.nan)
    try:
        compiled(grad, x, got)
        error = (got - wanted).abs().max().item()
    except Exception as fault:  # as above
        _log.warning("a backward kernel does not compile (%s); plain torch is used.", type(fault).__name__)
        return False
    if not error <= _TOLERANCE * max(1.0, wanted.abs().max().item()):
        _log.warning("a compiled backward kernel errs by %.2g and is not used; plain torch is.", error)
        return False
    return True

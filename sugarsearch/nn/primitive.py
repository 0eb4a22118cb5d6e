"""The non-SUGAR arm: f forward, f' = g backward, both in closed form, for comparisons with SugarReLU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sugarsearch.errors import UsageError
from sugarsearch.nn.lowering import Lowered, lower
from sugarsearch.symbolic.library import LIBRARY
from sugarsearch.symbolic.library import surrogate as named_surrogate
from sugarsearch.symbolic.surrogate import Surrogate


class Primitive(nn.Module):
    """f(x), with its true gradient grad * g(x): f' = g, both times the surrogate's scale.

    It has no parameters, no buffers and nothing in its state_dict. The dtype, device, memory format and shape of x
    are kept; f and g are computed in float32, for float64 x in float64. Of relu, both are F.relu's bit for bit.
    Differentiating its gradient raises RuntimeError.

    Args:
        surrogate: g with its primitive f, or its name.

    Raises:
        UsageError: a g whose primitive is not known.
    """

    def __init__(self, surrogate: Surrogate | str) -> None:
        super().__init__()
        self.surrogate = named_surrogate(surrogate) if isinstance(surrogate, str) else surrogate
        primitive = primitive_of(self.surrogate)
        self.formula = primitive.formula
        self.function, self.derivative = lower(primitive), lower(self.surrogate)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = _Primitive.apply(x, self.function, self.derivative)
        return output

    def extra_repr(self) -> str:
        return f"f(x) = {self.formula}"


def primitive_of(surrogate: Surrogate) -> Surrogate:
    """f as an expression without free parameters, and the scale that it has in common with g.

    Raises:
        UsageError: it is not known.
    """
    if surrogate.primitive is None:
        raise UsageError(
            f"{surrogate.label} has no known primitive; the non_sugar arm needs one. Use one of the named surrogates "
            f"that have one: {', '.join(name for name, entry in LIBRARY.items() if entry.primitive)}."
        )
    return Surrogate.of(surrogate.primitive.substitute(dict(surrogate.parameters)), scale=surrogate.scale)


def _evaluate(function: Lowered, x: Tensor) -> Tensor:
    """What `function` says, also beyond +-REACH, where a g keeps its value but an f goes on."""
    f = function.at(x if x.dtype == torch.float64 else x.float())
    # The identity has no steps, and must not give x itself back: a change of the output in place would change x.
    return f if function.steps else f.clone()


class _Primitive(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Lowered, derivative: Lowered) -> Tensor:
        ctx.derivative = derivative
        ctx.save_for_backward(x)
        return _evaluate(function, x).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return _Gradient.apply(grad, x, ctx.derivative), None, None


class _Gradient(torch.autograd.Function):
    """grad * g(x), as a function of its own so that differentiating it is refused, compiled too."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, derivative: Lowered) -> Tensor:
        # In this order the product has the memory format of x.
        return (derivative(x) * grad).to(grad.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> None:
        raise RuntimeError("Primitive cannot be differentiated twice: of f, only f' = g is known in closed form.")

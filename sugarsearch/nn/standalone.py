"""A surrogate as a Python file of its own that needs torch and nothing else.

Its g does step by step what the closed form in `nn.lowering` does, so that the numbers are the same, but for the
rounding of the faster kernels in `nn.kernels`, which are left out, as populations are.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sugarsearch.nn.lowering import TORCH, Lowered, lower
from sugarsearch.symbolic.surrogate import REACH, Surrogate

_WIDTH: Final = 110

# Operands are x, names of earlier values and, for some but not all operands, numbers.
_SOURCE: Mapping[str, str] = MappingProxyType(
    {
        "neg": "-{0}",
        "abs": "torch.abs({0})",
        "square": "torch.square({0})",
        "sqrt": "torch.sqrt({0})",
        "exp": "torch.exp({0})",
        "log1p_abs": "torch.log1p(torch.abs({0}))",
        "sigmoid": "torch.sigmoid({0})",
        "softplus": "F.softplus({0}, threshold=50.0)",
        "tanh": "torch.tanh({0})",
        "sech2": "_sech2({0})",
        "erf": "torch.erf({0})",
        "normal_cdf": "0.5 * torch.erfc(-math.sqrt(0.5) * {0})",
        "normal_pdf": "torch.exp(-0.5 * torch.square({0})) * (1 / math.sqrt(2 * math.pi))",
        "gaussian": "torch.exp(-torch.square({0}))",
        "atan": "torch.atan({0})",
        "sin": "torch.sin({0})",
        "cos": "torch.cos({0})",
        "step": "({0} > 0).to({0}.dtype)",
        "softsign": "{0} / (1 + torch.abs({0}))",
        "relu": "torch.relu({0})",
        "add": "{0} + {1}",
        "sub": "{0} - {1}",
        "mul": "{0} * {1}",
        "div": "{0} / {1}",
        "pow": "{0} ** {1}",
        "max": "torch.maximum({0}, {1})",
        "min": "torch.minimum({0}, {1})",
        "if_positive": "torch.where({0} > 0, {1}, {2})",
        "if_nonnegative": "torch.where({0} >= 0, {1}, {2})",
    }
)
"""Each operator of the closed form as a line of torch."""

if _SOURCE.keys() != TORCH.keys():
    raise ImportError(f"operators without a line of torch, or the reverse: {sorted(_SOURCE.keys() ^ TORCH.keys())}")

_SECH2 = """

def _sech2(a: Tensor) -> Tensor:
    tail = torch.exp(-2 * torch.abs(a))  # 1 - tanh(a)**2 would be 0 from a = 9 (float32)
    return 4 * tail / torch.square(1 + tail)
"""

_MODULE = '''\
"""ReLU with another derivative in the backward pass (SUGAR). Needs torch and nothing else.

{about}

SugarReLU() is the module: put it where the network has nn.ReLU(). Its output is torch.relu(x), its gradient
grad * g(x). For inference put nn.ReLU() back, or leave it: the outputs are the same, and there are no weights.
"""

from __future__ import annotations

{imports}

REACH = {reach!r}  # beyond +-REACH, g keeps the value it has there
{helpers}

def g(x: Tensor) -> Tensor:
    """g(x), elementwise; computed and returned in float32, for float64 x in float64."""
    x = torch.clamp(x if x.dtype == torch.float64 else x.float(), -REACH, REACH)
{steps}


def sugar_relu(x: Tensor) -> Tensor:
    """torch.relu(x), bit for bit; its gradient is grad * g(x), in the dtype of x."""
    output: Tensor = _SugarRelu.apply(x)
    return output


class SugarReLU(nn.Module):
    """`sugar_relu` as a module. It has no parameters and nothing in its state_dict."""

    def forward(self, x: Tensor) -> Tensor:
        return sugar_relu(x)


class _SugarRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.relu(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        product: Tensor = _Gradient.apply(grad, x)
        return product


class _Gradient(torch.autograd.Function):
    """grad * g(x), as a function of its own, so that differentiating it is refused."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor) -> Tensor:
        return (g(x) * grad).to(grad.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> None:
        raise RuntimeError("SugarReLU cannot be differentiated twice: g is chosen, not the derivative of its output.")
'''


def standalone_source(surrogate: Surrogate, origin: str = "") -> str:
    """The text of a Python file with g(x), sugar_relu(x) and the module SugarReLU.

    Args:
        surrogate: g.
        origin: where it comes from, for the file's head; characters that are not plain text are escaped.
    """
    closed = lower(surrogate)
    lines = _steps(closed)
    names = {name for name, _ in closed.steps}
    used = "\n".join(lines)
    imports = [*["import math"] * ("math." in used), "from typing import Any", "", "import torch"]
    imports += [*["import torch.nn.functional as F"] * ("F." in used), "from torch import Tensor, nn"]
    return _MODULE.format(
        about=_about(surrogate, origin),
        imports="\n".join(imports),
        reach=REACH,
        helpers=_SECH2 if "sech2" in names else "",
        steps=textwrap.indent("\n".join(lines), "    "),
    )


def _steps(closed: Lowered) -> list[str]:
    def operand(value: int | float) -> str:
        if isinstance(value, float):
            return repr(value)
        return f"v{value}" if value else "x"

    lines = [
        f"v{number} = {_line(name, operands, [operand(value) for value in operands])}"
        for number, (name, operands) in enumerate(closed.steps, start=1)
    ]
    if isinstance(closed.result, float):
        return [*lines, f"return torch.full_like(x, {closed.result * closed.scale!r})"]
    scaled = "" if closed.scale == 1 else f" * {closed.scale!r}"
    return [*lines, f"return {operand(closed.result)}{scaled}"]


def _line(name: str, operands: tuple[int | float, ...], words: list[str]) -> str:
    """One step; torch takes numbers beside tensors in forms of its own here."""
    numbers = [isinstance(value, float) for value in operands]
    if name in ("max", "min") and any(numbers):
        tensor, number = words if numbers[1] else reversed(words)
        return f"torch.clamp({tensor}, {'min' if name == 'max' else 'max'}={number})"
    if name in ("if_positive", "if_nonnegative") and all(numbers[1:]):  # two numbers would take torch's default dtype
        words[1] = f"torch.full_like({words[0]}, {words[1]})"
    return _SOURCE[name].format(*words)


def _about(surrogate: Surrogate, origin: str) -> str:
    facts = [f"g(x) = {surrogate.formula}", f"gain {surrogate.gain:.6g}, g(0) = {surrogate.at_zero:.6g}"]
    if surrogate.name:
        facts.insert(0, surrogate.label)
    if origin:
        facts.append(origin.encode("unicode_escape").decode("ascii").replace("\\", "/").replace('"', "'"))
    return "\n".join(line for fact in facts for line in textwrap.wrap(fact, _WIDTH, break_long_words=False))

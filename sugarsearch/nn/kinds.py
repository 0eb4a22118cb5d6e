"""The activations that surgery knows: by which name, in which classes and functions of which library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from sugarsearch.errors import SurgeryError
from sugarsearch.nn.activation import SugarReLU

KINDS: dict[str, tuple[str, ...]] = {
    "relu": ("torch.ReLU",),
    "relu6": ("torch.ReLU6",),
    "leaky_relu": ("torch.LeakyReLU",),
    "elu": ("torch.ELU",),
    "selu": ("torch.SELU",),
    "celu": ("torch.CELU",),
    "gelu": (
        "torch.GELU",
        "timm.GELU",
        "timm.GELUTanh",
        "timm.QuickGELU",
        "transformers.GELUActivation",
        "transformers.NewGELUActivation",
        "transformers.FastGELUActivation",
        "transformers.QuickGELUActivation",
        "transformers.AccurateGELUActivation",
        "transformers.ClippedGELUActivation",
        "transformers.GELUTanh",
        "transformers.PytorchGELUTanh",
    ),
    "silu": ("torch.SiLU", "timm.Swish", "timm.SwishMe", "transformers.SiLUActivation"),
    "mish": ("torch.Mish", "timm.Mish", "timm.MishMe", "transformers.MishActivation"),
    "hardswish": ("torch.Hardswish", "timm.HardSwish", "timm.HardSwishMe"),
}
"""Name: the classes that compute it, as package.class. The name is also that of torch's function and method.

Gates (Sigmoid, Hardsigmoid, Tanh) are not here, nor are activations with weights (PReLU).
"""

_KIND_OF_CLASS = {name: kind for kind, names in KINDS.items() for name in names}
_KIND_OF_FUNCTION = {
    getattr(home, name): kind
    for kind in KINDS
    for name in (kind, f"{kind}_")
    for home in (torch, F, torch.Tensor)
    if hasattr(home, name)
}

Replaced = str | type[nn.Module]
"""What a caller may name: a key of KINDS, or a class of activations."""


def kind_of(module: nn.Module) -> str | None:
    """The kind that a module computes: that of the class whose forward it has. None: no activation known here."""
    home = next(kind for kind in type(module).__mro__ if "forward" in vars(kind))
    return _KIND_OF_CLASS.get(f"{home.__module__.partition('.')[0]}.{home.__name__}")


def kind_of_function(function: Any) -> str | None:
    """The kind of one of torch's functions, methods (by name) or operators (aten.relu.default)."""
    if isinstance(function, str):
        return kind_of_method(function)
    if isinstance(function, torch._ops.OpOverload):
        return kind_of_method(function.__name__.partition(".")[0])
    try:
        return _KIND_OF_FUNCTION.get(function)
    except TypeError:  # cannot be hashed
        return None


def kind_of_method(name: str) -> str | None:
    """The kind of x.relu(), x.relu_(), ..."""
    return next((kind for kind in (name, name.removesuffix("_")) if kind in KINDS), None)


def is_replaced(module: nn.Module, replace: Sequence[Replaced]) -> bool:
    """Whether a module is of one of these kinds or classes; a SugarReLU always is."""
    return type(module) is SugarReLU or kind_of(module) in replace or type(module) in replace


def check_replace(replace: Sequence[Replaced]) -> None:
    """Refuses what is no kind and no class.

    Raises:
        SurgeryError: with the names that are allowed.
    """
    for one in (replace,) if isinstance(replace, str) else replace:
        if one not in KINDS and not (isinstance(one, type) and issubclass(one, nn.Module)):
            raise SurgeryError(
                f"replace={replace!r}: {one!r} is not known; allowed are classes of modules and {', '.join(KINDS)}."
            )
    if isinstance(replace, str) or not replace:
        raise SurgeryError(f"replace={replace!r} must be a sequence with at least one member, as in ('relu', 'gelu').")

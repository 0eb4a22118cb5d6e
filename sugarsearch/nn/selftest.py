"""A check that the way of running about to be used really gives the surrogate's gradient.

Compilers and transforms have been seen to replace a custom backward by ReLU's own without a word; every
candidate would then score as plain ReLU.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sugarsearch.errors import SelfTestError
from sugarsearch.nn.activation import Form, SugarReLU
from sugarsearch.symbolic.library import surrogate
from sugarsearch.symbolic.surrogate import Surrogate

Mode = Literal["eager", "compiled", "population"]

_MEMBERS = 3
_TOLERANCE = 1e-4


def self_test(mode: Mode, device: torch.device | str = "cpu", form: Form = "closed") -> None:
    """Runs a g that is different on the two sides of 0 at 64 points in `mode`, and compares with float64.

    In a population every member has another constant: one constant alone cannot show swapped halves or members.
    A population is tested in both forms, whatever `form` is: which one it trains in depends on its members.

    Raises:
        SelfTestError: the output is not relu(x) or the gradient not grad * g(x); nothing may be trained in this mode.
    """
    forms: tuple[Form, ...] = ("closed", "table") if mode == "population" else (form,)
    for one in forms:
        _test(mode, device, one)


def _test(mode: Mode, device: torch.device | str, form: Form) -> None:
    members = _MEMBERS if mode == "population" else 1
    shapes = [_asymmetric(member) for member in range(members)]
    x = torch.cat([torch.linspace(-4, 4, 63), torch.tensor([-0.0])]).to(device)
    grad = torch.linspace(1, 2, 64, device=device)
    if mode == "population":
        x, grad = x.repeat(members, 1), grad.repeat(members, 1)
    x.requires_grad_()
    output = _activation(mode, form, str(device))(x)
    (gradient,) = torch.autograd.grad(output, x, grad)
    if not torch.equal(output, torch.relu(x)):
        raise SelfTestError(f"{mode} mode on {device} ({form} form) does not give relu(x); do not train in it.")
    points, upstream = x.detach().double().cpu().numpy().reshape(members, 64), grad.double().cpu().numpy()
    wanted = np.stack([shape(row) for shape, row in zip(shapes, points, strict=True)]) * upstream.reshape(members, 64)
    error = np.abs(gradient.double().cpu().numpy().reshape(members, 64) - wanted).max()
    if not error <= _TOLERANCE:
        raise SelfTestError(
            f"{mode} mode on {device} ({form} form) gives a gradient that errs by {error:.2g} from grad * g(x); "
            "do not train in it. Try another mode, and report this with the versions of torch and Python."
        )


def _asymmetric(member: int) -> Surrogate:
    """Neither even nor odd, with a jump at 0, and with another factor for each member."""
    return surrogate("k*(0.5 + sigmoid(x)) if x > 0 else k*(0.25*softsign(x) - 0.125)", k=1.0 + 0.5 * member)


@cache
def _compiled(form: Form, device: str) -> Callable[[Tensor], Tensor]:
    """Kept for the whole process: compiling again for every run would meet Dynamo's limit of 8."""
    compiled: Callable[[Tensor], Tensor] = torch.compile(
        SugarReLU(_asymmetric(0), form=form).to(device), fullgraph=True
    )
    return compiled


def _activation(mode: Mode, form: Form, device: str) -> Callable[[Tensor], Tensor]:
    if mode == "compiled":
        return _compiled(form, device)
    if mode == "population":
        return SugarReLU([_asymmetric(member) for member in range(_MEMBERS)], form=form).to(device)
    return SugarReLU(_asymmetric(0), form=form).to(device)

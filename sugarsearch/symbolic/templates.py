"""Templates: the fixed part of a search space's trees, around a searched body."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sugarsearch.symbolic.expression import Expression, X, call, constant

ONE = constant(1.0)


@dataclass(frozen=True)
class Template:
    """How a body becomes g, and back.

    Attributes:
        wrap: g from a body and a steepness (used by the gate only).
        unwrap: the body and the steepness, or None for a tree that is not of this template.
        steep: whether the steepness is used.
    """

    wrap: Callable[[Expression, float], Expression]
    unwrap: Callable[[Expression], tuple[Expression, float] | None]
    steep: bool = False


def _unwrap_negative_side(g: Expression) -> tuple[Expression, float] | None:
    return (g.args[2], 1.0) if g.op == "if_positive" and g.args[:2] == (X, ONE) else None


def _wrap_gate(body: Expression, steepness: float) -> Expression:
    return call("mul", call("sigmoid", call("mul", constant(steepness), X)), body)


def _unwrap_gate(g: Expression) -> tuple[Expression, float] | None:
    if g.op != "mul" or g.args[0].op != "sigmoid" or g.args[0].args[0].op != "mul":
        return None
    steepness, subject = g.args[0].args[0].args
    return (g.args[1], steepness.value) if steepness.is_constant and subject == X else None


TEMPLATES: Mapping[str, Template] = MappingProxyType(
    {
        "whole_line": Template(lambda body, _: body, lambda g: (g, 1.0)),
        "negative_side": Template(lambda body, _: call("if_positive", X, ONE, body), _unwrap_negative_side),
        "gate": Template(_wrap_gate, _unwrap_gate, steep=True),
    }
)
"""The templates of trees; a family has parameters instead."""

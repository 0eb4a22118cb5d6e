"""Surrogates: g with its parameter values, its scale, and its properties."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sugarsearch.errors import UsageError
from sugarsearch.symbolic.expression import MAX_CONSTANT, Expression, call, constant, is_real
from sugarsearch.symbolic.interpreter import evaluate
from sugarsearch.symbolic.latex import to_latex
from sugarsearch.symbolic.parser import parse
from sugarsearch.symbolic.sympy_form import to_sympy

REACH: Final = 65504.0
"""The largest half-precision number. Beyond +-REACH, g keeps the value it has there."""

Sign = Literal["zero", "positive", "negative", "mixed"]

_JUST_ABOVE_ZERO: Final = 1e-20
_TOLERANCE: Final = 1e-9
_RESOLUTION: Final = 1e-7


@dataclass(frozen=True)
class Surrogate:
    """g(x) = scale * expression(x): the function that stands in for ReLU's derivative.

    Attributes:
        expression: the shape of g, maybe with free parameters.
        parameters: (name, value) pairs, sorted by name, one for every free parameter.
        scale: a positive factor; see `at_unit_gain`.
        name: a name of the library, or "".
        primitive: f with f' = expression, in the same parameters, where one is known.
    """

    expression: Expression
    parameters: tuple[tuple[str, float], ...] = ()
    scale: float = 1.0
    name: str = ""
    primitive: Expression | None = None

    def __post_init__(self) -> None:
        given = dict(self.parameters)
        if list(self.parameters) != sorted(given.items()):
            raise UsageError(f"parameters {self.parameters} must be sorted by name, without repeats.")
        wanted = self.expression.parameters | (self.primitive.parameters if self.primitive else frozenset())
        if wanted != given.keys():
            names = ", ".join(sorted(wanted)) or "none"
            raise UsageError(f"{self.expression} has the parameters: {names}; given: {', '.join(given) or 'none'}.")
        for name, value in (*self.parameters, ("scale", self.scale)):
            if not is_real(value) or abs(value) > MAX_CONSTANT:
                raise UsageError(f"{name} = {value!r} is not allowed; give a number up to {MAX_CONSTANT:g} in size.")
        if self.scale <= 0:
            raise UsageError(f"scale = {self.scale:g} is not allowed; it must be positive.")
        object.__setattr__(self, "parameters", tuple((name, float(value)) for name, value in self.parameters))
        object.__setattr__(self, "scale", float(self.scale))
        _ = self.bound  # values that make no number of a constant part are refused here, not in training

    @classmethod
    def of(
        cls,
        expression: Expression,
        parameters: Mapping[str, float] | None = None,
        *,
        scale: float = 1.0,
        name: str = "",
        primitive: Expression | None = None,
    ) -> Surrogate:
        """A surrogate whose parameters are given as a mapping."""
        return cls(expression, tuple(sorted((parameters or {}).items())), scale, name, primitive)

    def __call__(self, values: ArrayLike) -> NDArray[np.float64]:
        """g at `values` (any shape), in float64."""
        x = np.clip(np.asarray(values, np.float64), -REACH, REACH)
        with np.errstate(all="ignore"):
            return self.scale * evaluate(self.bound, x)

    @cached_property
    def bound(self) -> Expression:
        """The expression with the parameters' values put in; without the scale."""
        return self.expression.substitute(dict(self.parameters))

    @property
    def gain(self) -> float:
        """sqrt(E[g(z)^2] / 0.5), z ~ N(0, 1): the strength of the backward signal against ReLU's, which has 1.

        By quadrature, exact to about 1e-10 for g whose kinks and jumps lie at multiples of 1/8, and to about
        0.2 % of a jump elsewhere. NaN where g is not finite.
        """
        return self.scale * _gain(self.bound)

    @property
    def at_zero(self) -> float:
        """g(0): what revives a unit whose input is exactly 0."""
        return float(self(0.0)) + 0.0

    @property
    def at_zero_plus(self) -> float:
        """g(0+), the limit from above; equal to g(0) where g is continuous there."""
        above, at = float(self(_JUST_ABOVE_ZERO)), self.at_zero
        return at if abs(above - at) <= _TOLERANCE else above

    @property
    def left_limit(self) -> float | None:
        """The limit at minus infinity to 9 digits; None where g does not settle (sin, or growth)."""
        return self._limit(-1.0)

    @property
    def right_limit(self) -> float | None:
        """The limit at infinity to 9 digits; None where g does not settle (sin, or growth)."""
        return self._limit(1.0)

    def _limit(self, sign: float) -> float | None:
        near, far, farther, end = self(sign * REACH / np.array([8.0, 4.0, 2.0, 1.0]))
        with np.errstate(all="ignore"):
            limit = (8 * farther - 6 * far + near) / 3  # without the terms in 1/x and 1/x^2
            settled = abs(limit - end) <= 1e-3 * max(1.0, abs(limit)) < np.inf
        return round(float(limit), 9) + 0.0 if settled else None

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """Infimum and supremum over the line, by a dense grid refined around its extremes."""
        x = np.concatenate([_LINE, [0.0, _JUST_ABOVE_ZERO]])
        values = self(x)
        ends = [limit for limit in (self.left_limit, self.right_limit) if limit is not None]
        low = min(-self._refined_peak(-1.0, x, values), *ends, values.min())
        high = max(self._refined_peak(1.0, x, values), *ends, values.max())
        return float(low), float(high)

    def _refined_peak(self, sign: float, x: NDArray[np.float64], values: NDArray[np.float64]) -> float:
        peak = int(np.argmax(sign * values))
        spacing = 1e-2 * max(1.0, abs(x[peak]))
        return float(np.max(sign * self(x[peak] + np.linspace(-spacing, spacing, 2001))))

    @cached_property
    def negative_side(self) -> Sign:
        """The sign of g over x < 0, where ReLU's own derivative is zero."""
        values = self(_LINE[_LINE < 0])
        rises, falls = bool((values > _TOLERANCE).any()), bool((values < -_TOLERANCE).any())
        if rises and falls:
            return "mixed"
        return "positive" if rises else "negative" if falls else "zero"

    @cached_property
    def identity(self) -> str:
        """A hash of g's values before scaling: equal for rewrites of one function, whatever their rounding.

        Values count to 1e-7 (absolute for small, relative for large ones), at points no formula is special at,
        and at 0: conventions for 1[x > 0] at 0 are different surrogates.
        """
        return identity_of(self.bound)

    @property
    def label(self) -> str:
        """A short text for people: the name with its parameters, or the expression; without the scale."""
        if not self.name:
            return str(self.bound)
        values = ", ".join(f"{name}={value:.6g}" for name, value in self.parameters)
        return f"{self.name}({values})" if values else self.name

    @property
    def formula(self) -> str:
        """Text of g with all numbers and the scale; it parses to the same g."""
        return str(self.scaled)

    @property
    def scaled(self) -> Expression:
        """g with its numbers and its scale, as one expression."""
        return self.bound if self.scale == 1 else call("mul", constant(self.scale), self.bound)

    def at_unit_gain(self) -> Surrogate:
        """The same shape with gain 1.

        Raises:
            UsageError: a g that is zero or not finite has no such scale.
        """
        gain = _gain(self.bound)
        if not 1e-6 <= gain <= 1e6:
            raise UsageError(f"{self.label} has gain {gain:g}; it cannot be scaled to gain 1.")
        return replace(self, scale=1 / gain)

    def latex(self) -> str:
        """g as LaTeX, with all numbers and the scale to 6 digits."""
        return to_latex(self.scaled, digits=6)

    def sympy(self) -> Any:
        """g as a SymPy expression in the real symbol x."""
        return to_sympy(self.scaled)

    def primitive_values(self, x: ArrayLike) -> NDArray[np.float64] | None:
        """scale * f(x) where f' = g is known, else None."""
        if self.primitive is None:
            return None
        with np.errstate(all="ignore"):
            return self.scale * evaluate(self.primitive, np.asarray(x, np.float64), dict(self.parameters))

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` turns back into an equal surrogate."""
        return {
            "expression": str(self.expression),
            "parameters": dict(self.parameters),
            "scale": self.scale,
            "name": self.name,
            "primitive": None if self.primitive is None else str(self.primitive),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Surrogate:
        """The surrogate that `to_json` wrote.

        Raises:
            ExpressionError: text that is no expression.
        """
        parameters = dict(value["parameters"])
        primitive = value["primitive"]
        return cls.of(
            parse(value["expression"], parameters),
            parameters,
            scale=value["scale"],
            name=value["name"],
            primitive=None if primitive is None else parse(primitive, parameters),
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw g, its primitive where known, and ReLU's derivative; returns the figure.

        The picture is made by the report layer above; it is looked up when asked for, so that expressions stay free of
        matplotlib.
        """
        return importlib.import_module("sugarsearch.report.figures").surrogate_figure(self, ax)

    def _repr_html_(self) -> str:
        """What a notebook shows: formula, gain and plot."""
        html: str = importlib.import_module("sugarsearch.report.notebook").surrogate_html(self)
        return html


def _symmetric(positive: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([-positive[::-1], positive])


_LINE: Final = _symmetric(np.concatenate([np.arange(1, 3001) * 0.01, np.geomspace(30.1, REACH, 400)]))


def _identity_grid() -> NDArray[np.float64]:
    """0, a golden-ratio sequence that is dense on [-4, 4] and thins out to +-300, and points beside 0."""
    golden = (np.sqrt(5.0) - 1) / 2
    even = np.mod(np.arange(1, 513) * golden, 1.0)
    spread = np.sinh(6.4 * (2 * even - 1)) / 2
    centre = 4 * (2 * np.mod(np.arange(1, 513) * np.sqrt(2.0), 1.0) - 1)
    return np.concatenate([[0.0, -golden * 1e-3, golden * 1e-3], spread, centre])


_IDENTITY_GRID: Final = _identity_grid()


def _normal_quadrature() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes and weights of E[.] under N(0, 1): Gauss-Legendre on panels that narrow towards 0."""
    edges = np.concatenate([2.0 ** np.arange(-12, -3), np.arange(1, 81) / 8])
    edges = np.concatenate([-edges[::-1], [0.0], edges])
    nodes, weights = np.polynomial.legendre.leggauss(8)
    half, middle = np.diff(edges)[:, None] / 2, (edges[1:, None] + edges[:-1, None]) / 2
    z = middle + half * nodes
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return z.ravel(), (half * weights * density).ravel()


def identity_of(bound: Expression) -> str:
    """The identity (see `Surrogate.identity`) of an expression without free parameters."""
    # arcsinh is linear for small and logarithmic for large values, without a seam between the two.
    codes = np.arcsinh(evaluate(bound, _IDENTITY_GRID)) / _RESOLUTION
    whole = np.rint(np.nan_to_num(codes, nan=1e15, posinf=2e15, neginf=-2e15)).astype(np.int64)
    return hashlib.blake2b(whole.tobytes(), digest_size=12).hexdigest()


_NODES, _WEIGHTS = _normal_quadrature()


@lru_cache(maxsize=4096)
def _gain(bound: Expression) -> float:
    with np.errstate(all="ignore"):
        return float(np.sqrt(_WEIGHTS @ np.square(evaluate(bound, _NODES)) / 0.5))

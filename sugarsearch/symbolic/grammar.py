"""The grammar of a search space: which expressions it holds, how to draw them and how to list them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from sugarsearch.config.schema import ParameterRange, SearchSpace
from sugarsearch.errors import UsageError
from sugarsearch.symbolic import moves
from sugarsearch.symbolic.enumeration import bodies
from sugarsearch.symbolic.expression import Expression, X
from sugarsearch.symbolic.interpreter import evaluate
from sugarsearch.symbolic.library import canonical_name, family
from sugarsearch.symbolic.parser import MAX_LENGTH
from sugarsearch.symbolic.surrogate import REACH, Surrogate, identity_of
from sugarsearch.symbolic.templates import TEMPLATES

Rng = np.random.Generator

MAX_PEAK: Final = 20.0
"""The largest |g| that a grammar proposes, in units of g's gain."""

STEEPNESS: Final = (0.25, 16.0)
"""The range of k in the gate sigmoid(k*x) * body."""

_TRIES: Final = 100
_DRAWS: Final = 5000
_CENTRE: Final = np.linspace(-8, 8, 513, dtype=np.float32)  # fine enough to see a pole at any place
_TAIL: Final = np.geomspace(8.5, REACH, 24, dtype=np.float32)
_PROBE: Final = np.concatenate([_CENTRE, -_TAIL, _TAIL])
_FAR: Final = np.abs(_PROBE) > 256
_RIGHT: Final = (_PROBE > 0) & (_PROBE < 3)


class Grammar:
    """Draws expressions of a search space.

    Every tree it returns keeps the space's bounds and is usable: finite in fp32, bounded on the line, not constant,
    positive on average over x > 0 (else it reverses the gradient that ReLU passes on), and with g(0), as trained,
    inside the space's `at_zero` where that is set. A family has parameters instead of trees.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.parameters: dict[str, ParameterRange] = dict(space.parameters)
        self._words = moves.Vocabulary(space.unary, space.binary, space.constants.low, space.constants.high)
        if space.template == "family":
            if space.at_zero is not None:
                raise UsageError("at_zero belongs to spaces of trees; a family's g(0) follows from its parameters.")
            self._family = family(str(space.family), space.parameters)
            return
        self._template = TEMPLATES[space.template]
        least = self._template.wrap(X, 1.0)
        if least.nodes > space.max_nodes or least.depth > space.max_depth:
            raise UsageError(
                f"template {space.template!r} needs max_nodes >= {least.nodes} and max_depth >= {least.depth}; "
                f"given: {space.max_nodes} and {space.max_depth}."
            )
        self._body_nodes = space.max_nodes - least.nodes + 1
        self._body_depth = space.max_depth - (0 if least == X else 1)

    def at(self, **parameters: float) -> Surrogate:
        """The family's g at these values, the gain rule applied; parameters left out keep their defaults."""
        if self.space.template != "family":
            raise UsageError(f"space {self.space.name!r} holds trees, not a family with parameters.")
        expression, primitive, defaults = self._family
        word = str(self.space.family).partition("(")[0].strip()
        # "softplus" names an entry, "softplus(k*x)" is an expression: those have no primitive.
        name = (canonical_name(word) or "") if primitive else ""
        return self._with_gain(Surrogate.of(expression, {**defaults, **parameters}, name=name, primitive=primitive))

    def surrogate(self, expression: Expression, **parameters: float) -> Surrogate:
        """The surrogate that a search trains for `expression`: the space's gain rule applied."""
        return self._with_gain(Surrogate.of(expression, parameters))

    def accepts(self, expression: Expression) -> bool:
        """Whether `expression` lies in the space and is usable."""
        self._need_trees()
        return self._in_space(expression) and self._is_usable(expression)

    def sample(self, rng: Rng) -> Expression:
        """A random expression of the space.

        Raises:
            UsageError: the space holds next to nothing usable.
        """
        self._need_trees()
        for _ in range(_DRAWS):
            candidate = self.draw(rng)
            if candidate is not None and self.accepts(candidate):
                return candidate
        raise UsageError(
            f"space {self.space.name!r}: none of {_DRAWS} random expressions is usable (finite, bounded, not constant, "
            "g(0) inside at_zero). Allow more operators, more nodes or a wider at_zero."
        )

    def draw(self, rng: Rng) -> Expression | None:
        """One random tree of about the space's size, usable or not; None where its constants fold to no number."""
        nodes = int(rng.integers(1, self._body_nodes + 1))
        try:
            return self._template.wrap(moves.grow(self._words, nodes, self._body_depth, rng), self._steepness(rng))
        except UsageError:
            return None

    def mutate(self, expression: Expression, rng: Rng) -> Expression:
        """`expression` after one random move.

        An expression that is not of the space's template becomes the body of one; where no move leads back into the
        space, a fresh sample is returned.
        """
        self._need_trees()
        body, steepness = self._template.unwrap(expression) or (expression, 1.0)

        def move() -> Expression:
            if self._template.steep and rng.random() < 0.2:
                return self._template.wrap(body, self._steepness(rng))
            return self._template.wrap(moves.mutate(body, self._words, self._body_depth, rng), steepness)

        return self._first_accepted(move, {expression}, rng)

    def cross(self, first: Expression, second: Expression, rng: Rng) -> Expression:
        """`first` with a part of `second`; where nothing new inside the space comes of it, a fresh sample."""
        self._need_trees()
        body, steepness = self._template.unwrap(first) or (first, 1.0)
        other, _ = self._template.unwrap(second) or (second, 1.0)
        return self._first_accepted(
            lambda: self._template.wrap(moves.cross(body, other, rng), steepness), {first, second}, rng
        )

    def enumerate(self, max_nodes: int) -> Iterator[Expression]:
        """All usable expressions of up to `max_nodes` nodes, smallest bodies first, each function once.

        Constants are the simple ones (halves, ones, twos) inside the space's interval; a gate has k = 1 or 4.
        """
        self._need_trees()
        steepnesses = (1.0, 4.0) if self._template.steep else (1.0,)
        largest = self._body_nodes - max(0, self.space.max_nodes - max_nodes)
        seen: set[str] = set()
        for body in bodies(self._words, largest, self._body_depth):
            for steepness in steepnesses:
                candidate = self._template.wrap(body, steepness)
                if self.accepts(candidate) and (identity := identity_of(candidate)) not in seen:
                    seen.add(identity)
                    yield candidate

    def _first_accepted(self, make: Callable[[], Expression], known: set[Expression], rng: Rng) -> Expression:
        for _ in range(_TRIES):
            try:
                candidate = make()
            except UsageError:  # constants that fold to no number, or an exponent that is none
                continue
            if candidate not in known and self.accepts(candidate):
                return candidate
        return self.sample(rng)

    def _steepness(self, rng: Rng) -> float:
        low, high = STEEPNESS
        return moves.rounded(float(np.exp(rng.uniform(np.log(low), np.log(high)))), low, high)

    def _need_trees(self) -> None:
        if self.space.template == "family":
            raise UsageError(f"space {self.space.name!r} is a family: it has parameters (use `at`), not trees.")

    def _with_gain(self, surrogate: Surrogate) -> Surrogate:
        return surrogate.at_unit_gain() if self.space.gain == "unit" else surrogate

    def _in_space(self, expression: Expression) -> bool:
        if expression.nodes > self.space.max_nodes or expression.depth > self.space.max_depth:
            return False
        parts = self._template.unwrap(expression)
        if parts is None or not STEEPNESS[0] <= parts[1] <= STEEPNESS[1]:
            return False
        return self._is_written_in_words(parts[0]) and len(str(expression)) <= MAX_LENGTH

    def _is_written_in_words(self, node: Expression) -> bool:
        if node.is_constant:
            return self._words.low <= node.value <= self._words.high
        if not node.args:
            return node == X
        if node.op not in self._words.unary and node.op not in self._words.binary:
            return False
        searched = node.args[:1] if node.op == "pow" else node.args  # an exponent has bounds of its own
        return all(self._is_written_in_words(argument) for argument in searched)

    def _is_usable(self, expression: Expression) -> bool:
        values = evaluate(expression, _PROBE)
        if not np.isfinite(values).all() or np.ptp(values[~_FAR]) < 1e-4 or values[_RIGHT].mean() <= 0:
            return False
        if self._has_pole(expression):
            return False
        size = np.abs(values)
        if size[_FAR].max() > 1.25 * size[~_FAR].max():  # still growing: unbounded
            return False
        plain = Surrogate.of(expression)
        if not 1e-3 <= plain.gain <= MAX_PEAK or size.max() > MAX_PEAK * plain.gain:
            return False
        wanted = self.space.at_zero
        return wanted is None or wanted.low <= self._with_gain(plain).at_zero <= wanted.high

    def _has_pole(self, expression: Expression) -> bool:
        """Whether a denominator passes through 0: between the probe's points, the values alone would hide it."""
        parts = self._template.unwrap(expression)
        body = parts[0] if parts else expression
        x = _PROBE[_PROBE <= 0] if self.space.template == "negative_side" else _PROBE
        for node in body.walk():
            if node.op == "div" or (node.op == "pow" and node.args[1].value < 0):
                denominator = evaluate(node.args[node.op == "div"], x)
                if denominator.min() <= 0 <= denominator.max():
                    return True
        return False

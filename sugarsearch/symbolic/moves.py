"""Random moves on trees: growing, mutating and crossing them. Bounds are checked by the grammar afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from sugarsearch.symbolic.expression import Expression, X, call, constant

Rng = np.random.Generator
T = TypeVar("T")

SIMPLE_CONSTANTS: Final = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)
EXPONENTS: Final = (2.0, 3.0, 4.0, -1.0, -2.0)
_DIGITS: Final = 3
_CONSTANT_SHARE: Final = 0.35
_GROWN_NODES: Final = 5


@dataclass(frozen=True)
class Vocabulary:
    """What trees are made of: operators by arity, and the interval of their constants."""

    unary: tuple[str, ...]
    binary: tuple[str, ...]
    low: float
    high: float

    @property
    def simple_constants(self) -> tuple[float, ...]:
        """The simple constants inside the interval; its middle where there are none."""
        inside = tuple(value for value in SIMPLE_CONSTANTS if self.low <= value <= self.high)
        return inside or ((self.low + self.high) / 2,)


def rounded(value: float, low: float, high: float) -> float:
    """`value` to three digits, which people can read, and inside [low, high]."""
    return min(max(float(f"{value:.{_DIGITS}g}"), low), high)


def grow(words: Vocabulary, nodes: int, depth: int, rng: Rng) -> Expression:
    """A random tree that contains x, of about `nodes` nodes and at most `depth` operators deep."""
    may_be_unary = bool(words.unary) and nodes >= 2
    may_be_binary = bool(words.binary) and nodes >= 3
    if depth < 1 or not (may_be_unary or may_be_binary):
        return X
    if may_be_unary and not (may_be_binary and rng.random() < 0.5):
        return call(_pick(words.unary, rng), grow(words, nodes - 1, depth - 1, rng))
    operator = _pick(words.binary, rng)
    if operator == "pow":
        return call(operator, grow(words, nodes - 2, depth - 1, rng), constant(_pick(EXPONENTS, rng)))
    share = int(rng.integers(1, nodes - 1))
    first = grow(words, nodes - 1 - share, depth - 1, rng)
    # Two constants would fold: one side always contains x.
    lonely = share == 1 and rng.random() < _CONSTANT_SHARE / (1 - _CONSTANT_SHARE)
    second = number(words, rng) if lonely else grow(words, share, depth - 1, rng)
    return call(operator, first, second) if rng.random() < 0.5 else call(operator, second, first)


def number(words: Vocabulary, rng: Rng) -> Expression:
    """A random constant: a simple one, or any of the interval."""
    if rng.random() < 0.5:
        return constant(_pick(words.simple_constants, rng))
    return constant(rounded(rng.uniform(words.low, words.high), words.low, words.high))


def mutate(body: Expression, words: Vocabulary, depth: int, rng: Rng) -> Expression:
    """`body` after one random move; it may come back unchanged."""
    move = _pick((_change_operator, _nudge_constant, _regrow, _insert, _hoist), rng)
    return move(body, words, depth, rng)


def cross(first: Expression, second: Expression, rng: Rng) -> Expression:
    """`first` with one of its subtrees replaced by one of `second`'s."""
    donor = second.subtree(int(rng.integers(second.nodes)))
    return first.replace(int(rng.integers(first.nodes)), donor)


def _change_operator(body: Expression, words: Vocabulary, depth: int, rng: Rng) -> Expression:
    index = int(rng.integers(body.nodes))
    node = body.subtree(index)
    choices = {1: words.unary, 2: words.binary}.get(len(node.args), ())
    if not choices:
        return body.replace(index, number(words, rng) if node == X else X)
    return body.replace(index, call(_pick(choices, rng), *node.args))


def _nudge_constant(body: Expression, words: Vocabulary, depth: int, rng: Rng) -> Expression:
    places = [index for index, node in enumerate(body.walk()) if node.is_constant]
    if not places:
        return _insert(body, words, depth, rng)
    index = _pick(tuple(places), rng)
    old = body.subtree(index).value
    spread = 0.1 * (words.high - words.low)
    return body.replace(index, constant(rounded(old + rng.normal(0, spread), words.low, words.high)))


def _regrow(body: Expression, words: Vocabulary, depth: int, rng: Rng) -> Expression:
    nodes = int(rng.integers(1, _GROWN_NODES + 1))
    return body.replace(int(rng.integers(body.nodes)), grow(words, nodes, depth, rng))


def _insert(body: Expression, words: Vocabulary, depth: int, rng: Rng) -> Expression:
    index = int(rng.integers(body.nodes))
    node = body.subtree(index)
    if words.unary and (not words.binary or rng.random() < 0.5):
        return body.replace(index, call(_pick(words.unary, rng), node))
    operator = _pick(words.binary, rng)
    leaf = constant(_pick(EXPONENTS, rng)) if operator == "pow" else _leaf(words, rng)
    pair = (node, leaf) if operator == "pow" or rng.random() < 0.5 else (leaf, node)
    return body.replace(index, call(operator, *pair))


def _hoist(body: Expression, words: Vocabulary, depth: int, rng: Rng) -> Expression:
    index = int(rng.integers(body.nodes))
    node = body.subtree(index)
    return body.replace(index, node.subtree(int(rng.integers(node.nodes))))


def _leaf(words: Vocabulary, rng: Rng) -> Expression:
    return number(words, rng) if rng.random() < 0.5 else X


def _pick(choices: tuple[T, ...], rng: Rng) -> T:
    return choices[int(rng.integers(len(choices)))]

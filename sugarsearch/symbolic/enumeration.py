"""All small trees, each function once: built bottom-up, so that equal parts are met once only."""

from __future__ import annotations

from collections.abc import Iterator

from sugarsearch.errors import UsageError
from sugarsearch.symbolic.expression import Expression, X, call, constant
from sugarsearch.symbolic.moves import EXPONENTS, Vocabulary
from sugarsearch.symbolic.surrogate import identity_of


def bodies(words: Vocabulary, max_nodes: int, max_depth: int) -> Iterator[Expression]:
    """Trees of up to `max_nodes` nodes over x and the simple constants, smallest first.

    Of several trees of one function the first met stands for all, also as a part of larger trees. The number grows
    by about the number of operators per node: this is for small bounds.
    """
    levels: list[list[Expression]] = [[]]
    seen: set[str] = set()
    for nodes in range(1, max_nodes + 1):
        levels.append([])
        for body in _of_size(nodes, levels, words):
            if body.depth > max_depth or body.nodes != nodes:  # fewer nodes: constants that folded
                continue
            identity = identity_of(body)
            if identity not in seen:
                seen.add(identity)
                levels[nodes].append(body)
                yield body


def _of_size(nodes: int, levels: list[list[Expression]], words: Vocabulary) -> Iterator[Expression]:
    if nodes == 1:
        yield from (X, *map(constant, words.simple_constants))
        return
    for operator in words.unary:
        yield from _calls(operator, [(inner,) for inner in levels[nodes - 1]])
    exponents = [constant(exponent) for exponent in EXPONENTS]
    for operator in words.binary:
        for left in range(1, nodes - 1):
            rights = levels[nodes - 1 - left] if operator != "pow" else exponents if left == nodes - 2 else []
            yield from _calls(operator, [(a, b) for a in levels[left] for b in rights])


def _calls(operator: str, arguments: list[tuple[Expression, ...]]) -> Iterator[Expression]:
    for given in arguments:
        try:
            yield call(operator, *given)
        except UsageError:  # constants that fold to no number, or exponents that multiply up
            continue

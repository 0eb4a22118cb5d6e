"""Grammars: bounds kept by every move, usable results, listing against brute force, the shipped search spaces."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sugarsearch.config.loader import load, shipped
from sugarsearch.config.schema import Interval, ParameterRange, SearchSpace
from sugarsearch.errors import UsageError
from sugarsearch.symbolic.expression import Expression, X, call, constant
from sugarsearch.symbolic.grammar import Grammar
from sugarsearch.symbolic.interpreter import evaluate
from sugarsearch.symbolic.library import surrogate
from sugarsearch.symbolic.parser import parse
from sugarsearch.symbolic.surrogate import REACH, Surrogate

SPACES = {name: load(path, SearchSpace) for name, path in shipped("search_spaces").items()}
TREES = [name for name, space in SPACES.items() if space.template != "family"]
FAMILIES = [name for name, space in SPACES.items() if space.template == "family"]
WORDS: dict[str, Any] = {
    "unary": ("neg", "sigmoid", "tanh", "gaussian", "sqrt", "log1p_abs"),
    "binary": ("add", "mul", "div", "pow", "max"),
}


def space(**changes: Any) -> SearchSpace:
    return SearchSpace(**{"name": "test", "template": "whole_line", **WORDS, **changes})


CRAMPED = {
    "cramped_line": space(max_depth=2, max_nodes=4),
    "cramped_side": space(template="negative_side", max_depth=2, max_nodes=6, constants=Interval(low=0.1, high=0.3)),
    "cramped_gate": space(template="gate", max_depth=3, max_nodes=7, binary=()),
    "unary_only": space(binary=(), max_depth=3, max_nodes=5),
    "binary_only": space(template="negative_side", unary=(), binary=("add", "div", "max", "min"), max_nodes=9),
}
ALL_TREES = {**{name: SPACES[name] for name in TREES}, **CRAMPED}


def test_the_spaces_promised_are_shipped():
    assert {"whole_line", "negative_side", "gate", "b_silu_alpha", "nelu_alpha"} <= set(SPACES)
    assert all(space.name == name and space.description for name, space in SPACES.items())


@pytest.mark.parametrize("name", list(ALL_TREES))
def test_two_thousand_random_moves_keep_the_bounds(name):
    space_ = ALL_TREES[name]
    grammar, rng = Grammar(space_), np.random.default_rng(1)
    x = np.concatenate([np.linspace(-9, 9, 801), [-REACH, REACH]])
    population = [grammar.sample(rng) for _ in range(10)]
    for step in range(250):
        a, b = (population[int(rng.integers(len(population)))] for _ in range(2))
        new = (grammar.sample(rng), grammar.mutate(a, rng), grammar.cross(a, b, rng))[step % 3]
        population[int(rng.integers(len(population)))] = new
        _check_bounds(new, space_)
        values = grammar.surrogate(new)(x)
        assert np.isfinite(values).all()
        assert np.abs(values).max() <= 21  # 20 where the grammar looks
        assert np.ptp(values) > 0
        assert parse(str(new)) == new


def _check_bounds(tree: Expression, space_: SearchSpace) -> None:
    assert tree.nodes <= space_.max_nodes
    assert tree.depth <= space_.max_depth
    body = tree
    if space_.template == "negative_side":
        assert tree.args[:2] == (X, constant(1))
        body = tree.args[2]
    elif space_.template == "gate":
        slope = tree.args[0].args[0].args[0].value
        assert 0.25 <= slope <= 16
        assert tree == call("mul", parse(f"sigmoid({slope!r}*x)"), tree.args[1])
        body = tree.args[1]
    exponents = {id(node.args[1]) for node in body.walk() if node.op == "pow"}
    for node in body.walk():
        assert node.op in {"x", "constant", *space_.unary, *space_.binary}
        if node.is_constant and id(node) not in exponents:
            assert space_.constants.low <= node.value <= space_.constants.high


@pytest.mark.parametrize("name", TREES)
def test_moves_change_a_candidate_and_stay_near_it(name):
    grammar, rng = Grammar(SPACES[name]), np.random.default_rng(2)
    kept = 0
    for _ in range(100):
        parent = grammar.sample(rng)
        child = grammar.mutate(parent, rng)
        assert child != parent
        family_tree = {str(node) for node in parent.walk()}
        kept += any(node.args and str(node) in family_tree for node in child.walk())
    assert kept > 60


@pytest.mark.parametrize("name", TREES)
def test_a_good_share_of_raw_draws_is_usable_and_new(name):
    grammar, rng = Grammar(SPACES[name]), np.random.default_rng(3)
    draws = [grammar.draw(rng) for _ in range(400)]
    usable = [draw for draw in draws if draw is not None and grammar.accepts(draw)]
    assert len(usable) >= 0.25 * len(draws)
    assert len({grammar.surrogate(tree).identity for tree in usable}) >= 0.5 * len(usable)


@pytest.mark.parametrize("name", TREES)
def test_same_seed_same_expressions(name):
    def run() -> list[Expression]:
        grammar, rng = Grammar(SPACES[name]), np.random.default_rng(4)
        trees = [grammar.sample(rng) for _ in range(5)]
        return [*trees, grammar.mutate(trees[0], rng), grammar.cross(trees[1], trees[2], rng)]

    assert run() == run()


@pytest.mark.parametrize("gain", ["unit", "own"])
def test_the_gain_rule_of_the_space_is_applied(gain):
    grammar = Grammar(space(gain=gain))
    g = grammar.surrogate(parse("2*sigmoid(x)"))
    assert g.gain == pytest.approx(1 if gain == "unit" else 2 * surrogate("softplus").gain)
    assert (g.scale == 1) is (gain == "own")


@pytest.mark.parametrize("gain", ["unit", "own"])
def test_g_at_zero_as_trained_lies_in_the_knob_s_interval(gain):
    grammar, rng = Grammar(space(gain=gain, at_zero=Interval(low=0.6, high=0.8))), np.random.default_rng(5)
    seen = [grammar.sample(rng) for _ in range(40)]
    seen += [grammar.mutate(tree, rng) for tree in seen]
    assert all(0.6 <= grammar.surrogate(tree).at_zero <= 0.8 for tree in seen)
    assert not grammar.accepts(parse("tanh(x) + gaussian(x) + gaussian(x)"))


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "tanh(x)*x",
        "1 + log1p_abs(x)",
        "1/x",
        "1/(x + -1.23)",
        "0.001/(x + -1.23456)",
        "sigmoid(x) + 0.001*(tanh(x) + -0.5)**-1",
        "sqrt(x)",
        "sigmoid(x) + -sigmoid(x)",
        "-sigmoid(x)",
        "tanh(3*x)",
        "sin(x)",
        "step(x)",
        "sigmoid(x + x + x + x + x + x + x + x)",
        "-(-(-(-(-sigmoid(x)))))",
        "alpha*sigmoid(x)",
    ],
)
def test_what_is_outside_the_space_or_unusable_is_not_accepted(text):
    assert not Grammar(space()).accepts(parse(text, ["alpha"]))


@pytest.mark.parametrize("text", ["sigmoid(x)", "gaussian(x)", "tanh(2*x) + 1", "1/(1 + x**2)", "max(tanh(x), -0.5)"])
def test_what_is_inside_the_space_and_usable_is_accepted(text):
    assert Grammar(space()).accepts(parse(text))


def test_templates_accept_their_own_form_only():
    side, gate = (Grammar(space(template=template)) for template in ("negative_side", "gate"))
    assert side.accepts(parse("1 if x > 0 else 0.25"))
    assert not side.accepts(parse("1 if x >= 0 else 0.25"))
    assert not side.accepts(parse("2 if x > 0 else 0.25"))
    assert not side.accepts(parse("tanh(x) + 1"))
    assert gate.accepts(parse("sigmoid(2*x)*gaussian(x)"))
    assert not gate.accepts(parse("gaussian(x)*sigmoid(2*x)"))
    assert not gate.accepts(parse("sigmoid(40*x)*gaussian(x)"))


@pytest.mark.parametrize("name", TREES)
def test_a_surrogate_from_outside_the_template_can_be_a_parent(name):
    grammar, rng = Grammar(SPACES[name]), np.random.default_rng(6)
    for text in ("relu", "b_silu", "nelu", "straight_through"):
        outsider = surrogate(text).bound
        assert grammar.accepts(grammar.mutate(outsider, rng))
        assert grammar.accepts(grammar.cross(outsider, grammar.sample(rng), rng))
        assert grammar.accepts(grammar.cross(grammar.sample(rng), outsider, rng))


def test_an_outsider_s_parts_are_kept_where_the_space_knows_them():
    grammar, rng = Grammar(space(template="negative_side", max_nodes=15)), np.random.default_rng(7)
    children = [str(grammar.mutate(parse("sigmoid(2*x)*gaussian(x)"), rng)) for _ in range(30)]
    assert sum("sigmoid(2*x)" in child or "gaussian(x)" in child for child in children) > 15


def _all_trees(nodes: int) -> list[Expression]:
    if nodes == 1:
        return [X, *map(constant, (-2, -1, -0.5, 0.5, 1, 2))]
    found = [call(name, inner) for name in ("neg", "sigmoid") for inner in _all_trees(nodes - 1)]
    for left in range(1, nodes - 1):
        pairs = itertools.product(_all_trees(left), _all_trees(nodes - 1 - left))
        found += [call(name, a, b) for a, b in pairs for name in ("add", "mul")]
    return [tree for tree in found if tree.nodes == nodes]  # the others are constants that folded


def _gate(slope: float) -> Callable[[Expression], Expression]:
    return lambda body: call("mul", call("sigmoid", call("mul", constant(slope), X)), body)


@pytest.mark.parametrize(
    ("template", "frames", "size"),
    [
        ("whole_line", [lambda body: body], 0),
        ("negative_side", [lambda body: call("if_positive", X, constant(1), body)], 3),
        ("gate", [_gate(1), _gate(4)], 5),
    ],
)
def test_listing_equals_brute_force_and_has_no_repeats(template, frames, size):
    grammar = Grammar(space(template=template, unary=("neg", "sigmoid"), binary=("add", "mul"), max_depth=8))
    every = [frame(body) for nodes in (1, 2, 3, 4) for body in _all_trees(nodes) for frame in frames]
    wanted = {Surrogate.of(tree).identity for tree in every if grammar.accepts(tree)}
    listed = [Surrogate.of(tree).identity for tree in grammar.enumerate(4 + size)]
    assert len(listed) == len(set(listed)) > 10
    assert set(listed) == wanted


def test_listing_grows_with_the_bound_and_keeps_to_it():
    grammar = Grammar(SPACES["negative_side"])
    small, large = ([str(tree) for tree in grammar.enumerate(nodes)] for nodes in (5, 6))
    assert small == large[: len(small)]
    assert len(large) > len(small)
    assert all(parse(text).nodes <= 6 for text in large)
    assert list(grammar.enumerate(3)) == []


@pytest.mark.parametrize("name", FAMILIES)
def test_families_give_their_surrogate_at_any_values(name):
    grammar = Grammar(SPACES[name])
    assert grammar.parameters == SPACES[name].parameters
    for share in (0.0, 0.5, 1.0):
        values = {key: r.low + share * (r.high - r.low) for key, r in grammar.parameters.items()}
        g = grammar.at(**values)
        assert dict(g.parameters) == values
        assert g.name == SPACES[name].family
        assert g.primitive is not None
        assert np.isfinite(g(np.linspace(-50, 50, 101))).all()
        assert (g.scale == 1) is (SPACES[name].gain == "own")


def test_a_family_may_be_an_expression_or_an_alias():
    ranges = {"k": ParameterRange(low=1.0, high=8.0)}
    grammar = Grammar(SearchSpace(name="f", template="family", family="sigmoid(k*x)", parameters=ranges, gain="own"))
    assert grammar.at(k=4.0).formula == "sigmoid(4*x)"
    like_an_entry = SearchSpace(name="f", template="family", family="gaussian(k*x)", parameters=ranges)
    assert Grammar(like_an_entry).at(k=4.0).label == "gaussian(4*x)"
    with pytest.raises(UsageError, match="the parameters: k"):
        grammar.at()
    fixed = Grammar(SearchSpace(name="f", template="family", family="swish", parameters={"beta": ranges["k"]}))
    assert fixed.at(beta=2.0).name == "silu"
    assert fixed.at(beta=2.0).gain == pytest.approx(1)


def test_trees_and_families_are_not_confused():
    family_, trees = Grammar(SPACES["b_silu_alpha"]), Grammar(SPACES["gate"])
    rng = np.random.default_rng(0)
    for call_ in (
        lambda: family_.sample(rng),
        lambda: family_.mutate(X, rng),
        lambda: family_.cross(X, X, rng),
        lambda: list(family_.enumerate(5)),
        lambda: family_.accepts(X),
    ):
        with pytest.raises(UsageError, match="is a family"):
            call_()
    with pytest.raises(UsageError, match="not a family"):
        trees.at(alpha=1.0)


def test_spaces_that_hold_nothing_are_refused():
    with pytest.raises(UsageError, match="max_nodes >= 6"):
        Grammar(space(template="gate", max_nodes=5))
    with pytest.raises(UsageError, match="max_depth >= 3"):
        Grammar(space(template="gate", max_depth=2))
    with pytest.raises(UsageError, match="none of 5000"):
        Grammar(space(unary=(), binary=("add", "mul"))).sample(np.random.default_rng(0))
    ranges = {"alpha": ParameterRange(low=0.0, high=1.0)}
    with pytest.raises(UsageError, match="at_zero"):
        Grammar(
            SearchSpace(
                name="f", template="family", family="b_silu", parameters=ranges, at_zero=Interval(low=0.0, high=1.0)
            )
        )


def test_sampled_candidates_are_finite_in_single_precision():
    grammar, rng = Grammar(SPACES["negative_side"]), np.random.default_rng(8)
    x = np.concatenate([np.linspace(-8, 8, 513), [-REACH, REACH]]).astype(np.float32)
    assert all(np.isfinite(evaluate(grammar.sample(rng), x)).all() for _ in range(100))

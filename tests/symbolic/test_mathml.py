"""MathML: well-formed for every operator and any tree, with the operands in their order and all brackets needed."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from sugarsearch.config import loader
from sugarsearch.config.schema import SearchSpace
from sugarsearch.symbolic.expression import Expression, call, constant, parameter
from sugarsearch.symbolic.grammar import Grammar
from sugarsearch.symbolic.mathml import to_mathml
from sugarsearch.symbolic.operators import OPERATORS
from sugarsearch.symbolic.parser import parse


def read(text: str, digits: int = 4) -> str:
    """The characters of the formula, as they stand one after another; powers and fractions are marked."""
    root = ElementTree.fromstring(to_mathml(parse(text), digits))
    for node in root.iter():
        if node.tag in ("msup", "mfrac"):
            node[1].text = f"{'^' if node.tag == 'msup' else ' over '}{{{node[1].text or ''}"
            node[1].tail = "}" + (node[1].tail or "")
    return re.sub(r"[\s⁡⁢]+", "", "".join(root.itertext()))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x", "x"),
        ("-x", "−x"),
        ("2*x - (x - 3)", "2x−(x−3)"),
        ("(x + 1)*x", "(x+1)x"),
        ("x*2", "x⋅2"),
        ("2*(3*x)", "2⋅3x"),
        ("-2*x + 1", "−2x+1"),
        ("(1 + x)/(x - 1)", "1+xover{x−1}"),
        ("x**2 + square(x + 1)", "x^{2}+(x+1)^{2}"),
        ("x**-0.5", "x^{−0.5}"),
        ("sigmoid(4*x)", "σ(4x)"),
        ("sech2(x)", "sech^{2}(x)"),
        ("exp(-abs(x))", "e^{−|x|}"),
        ("gaussian(x)", "e^{−(x)^{2}}"),
        ("step(x)", "1[x>0]"),
        ("1 if x > 0 else 0.05", "{1for\xa0x>00.05otherwise".replace("\xa0", "")),
        ("x if x >= 0 else -x", "{xforx≥0−xotherwise"),
        ("max(x, 0.123456789)", "max(x,0.1235)"),
        ("0.0000123*x", "1.23⋅10^{-5}x"),
    ],
)
def test_a_formula_reads_as_it_is_meant(text: str, shown: str) -> None:
    assert read(text) == shown


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_has_a_form_that_shows_each_argument_once(name: str) -> None:
    arity = OPERATORS[name].arity
    arguments = [parameter(f"p{index}") for index in range(arity)]
    if name == "pow":
        arguments[1] = constant(3)
    words = list(ElementTree.fromstring(to_mathml(call(name, *arguments), 4)).itertext())
    for argument in arguments:
        assert words.count(argument.name or "3") == 1


def test_any_tree_is_well_formed() -> None:
    space = loader.load(loader.find("search_spaces", "whole_line"), SearchSpace)
    grammar, rng = Grammar(space), np.random.default_rng(0)
    for _ in range(300):
        tree: Expression = grammar.surrogate(grammar.sample(rng)).bound
        formula = to_mathml(tree, 4)
        ElementTree.fromstring(formula)
        assert formula.count("<mi>x</mi>") == sum(node.op == "x" for node in tree.walk())


def test_nesting_does_not_make_it_grow_out_of_hand() -> None:
    tree = parse("x")
    for _ in range(40):
        tree = call("softsign", call("log1p_abs", tree))
    assert len(to_mathml(tree, 4)) < 20_000

"""Text from strangers: refused with place and reason, or read into a surrogate; fast, and never executed."""

from __future__ import annotations

import random
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sugarsearch.errors import ExpressionError, SugarsearchError
from sugarsearch.symbolic.library import LIBRARY, family, surrogate
from sugarsearch.symbolic.operators import OPERATORS
from sugarsearch.symbolic.parser import parse
from sugarsearch.symbolic.surrogate import Surrogate

POINTS = np.linspace(-5, 5, 41)
LIMIT = 0.05  # seconds of processor time; most take less than one thousandth
ROUNDS = 10_000

CANARY = "canary_of_the_hostile_test"
CODE = [
    f"__import__('os').system('touch {CANARY}')",
    f"open('{CANARY}', 'w')",
    f"exec(\"open('{CANARY}', 'w')\")",
    f'eval(\'open("{CANARY}", "w")\')',
    f"(lambda: open('{CANARY}', 'w'))()",
    f"[open('{CANARY}', 'w') for _ in (1,)]",
    f"f\"{{open('{CANARY}', 'w')}}\"",
    f"(y := open('{CANARY}', 'w'))",
    f"tanh(open('{CANARY}', 'w'))",
    f"b_silu(alpha=open('{CANARY}', 'w'))",
    f"b_silu(**{{'alpha': open('{CANARY}', 'w')}})",
    f"1 if open('{CANARY}', 'w') > 0 else 2",
    f"().__class__.__base__.__subclasses__()[0]('{CANARY}')",
    "tanh.__globals__",
    "x.__class__",
    "x.real",
    "x().x",
    "x[0]",
    "b_silu(alpha=().__class__)",
    "getattr(x, 'shape')",
    "yield x",
    "await x",
    "import os",
    "del x",
    "x = 1",
    "__builtins__",
    "__class__",
]
LOOK_ALIKES = [
    "\u0445",  # Cyrillic
    "4*\u0445",
    "\uff58",  # full width: Python itself would read it as x
    "tanh(\uff58)",
    "\uff54anh(x)",
    "\U0001d431",
    "\uff42_silu(alpha=1)",
    "b_silu(\uff41lpha=1)",
    "b_silu(alpha=\uff11)",
    "x \u2212 1",
    "x\u00a0+ 1",
    "x\u2028+ 1",
    "\u3000x",
    "x\u0085",
    "x\u0301",
    "x\u202e + 1",
    "\ufeffx",
    "\u0663*x",
]
SIZES = [
    "9**9**9",
    "2**2**2**2**2",
    "x**x",
    "x**9",
    "((x**2)**3)**2",
    "x**-1e6",
    "x**8" + "**8" * 150,
    "(" * 3000 + "x" + ")" * 3000,
    "(" * 250 + "x" + ")" * 250,
    "(" * 500,
    "[" * 500,
    "{" * 500,
    "x+" * 5000 + "x",
    "x+" * 255 + "x",
    "-" * 511 + "x",
    "not " * 127 + "x",
    "lambda:" * 73,
    "x if x>0 else " * 36,
    "max(x," * 80 + "x" + ")" * 80,
    "exp(" * 12_500 + "x" + ")" * 12_500,
    "9" * 512,
    "9" * 100_000,
    "0x" + "f" * 510,
    "1e999",
    "-1e999*x",
    "1e400 - 1e400",
    "exp(exp(exp(9)))",
    "'" * 511,
    "x" * 1_000_000,
    "\u0445" * 1_000_000,
    " " * 1_000_000,
    "\n" * 600,
    "b_silu(" * 70,
    "b_silu(alpha=" + "1+" * 240 + "1)",
    "+".join(["(1/3)*x"] * 40),
]
KINDS = [
    "1j", "1J*x", "'x'", "b'x'", "f'{x}'", "...", "True", "None", "True*x", "x if True else 2", "x > 0", "not x", "~x",
    "x @ x", "x % 2", "x // 2", "x << 2", "x & x", "x and x", "x or x", "x is x", "x in x", "(x, x)", "[x]", "{x}",
    "{}", "{x: x}", "*x", "x,", "x;1", "x:=1", "lambda x: x", "[x for x in x]", "{x for x in x}", "(x for x in x)",
    "x!", "$x", "`x`", "\\", "\\x", "x\\\n+ 1", "x\x00", "\x00", "\x1b[31mx", "x\x1c+ 1", "\ud800",
    "tanh(\udfff)", "x # + 1",
    "x # y\n+ 1", "# coding: utf-7\nx", "'''", '"""', "f'", "1__0", "0x", "1e", "1..", "0777", "1if", "", " ", "\t\n",
    "()", "x()", "tanh()", "tanh(x)(x)", "tanh(*[x])", "tanh(**{})", "tanh(x=1)", "max(x)", "if_positive(x, x)",
    "b_silu(1)", "b_silu(x)", "b_silu(*x)", "b_silu(alpha=x)", "b_silu(alpha=1, alpha=2)", "b_silu(alpha=1e999)",
    "b_silu(alpha='1')", "b_silu(alpha=1)(x)", "b_silu(alpha=b_silu(alpha=1))", "0**-1", "(-8)**(1/3)", "1/0", "0/0",
    "sqrt(-1)", "1e6 + 1e6", "x*1000001",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    modules = set(sys.modules)
    yield
    assert list(tmp_path.iterdir()) == []
    assert {name for name in set(sys.modules) - modules if not name.startswith(("sympy", "mpmath"))} == set()


def outcome(read: Callable[[str], object], text: str) -> object:
    """What `text` gives, or the refusal; anything else fails, and so does a warning or a long time."""
    for _ in range(3):  # the garbage collector may fall into one
        start = time.process_time()
        result = read_quietly(read, text)
        if time.process_time() - start < LIMIT:
            return result
    raise AssertionError(f"{text[:100]!r} takes more than {LIMIT} s")


def read_quietly(read: Callable[[str], object], text: str) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return read(text)
        except SugarsearchError as error:
            return error


@pytest.mark.parametrize("text", [*CODE, *LOOK_ALIKES, *SIZES, *KINDS], ids=lambda text: ascii(text[:20]))
def test_hostile_text_is_refused_fast_with_place_and_reason(text: str) -> None:
    for read in (surrogate, family):
        error = outcome(read, text)
        assert isinstance(error, SugarsearchError), f"{text[:80]!r} was read as {error}"
        assert len(str(error)) < 1000
        if not text.isidentifier() or not text.isascii():  # those are unknown surrogates, with the nearest names
            assert isinstance(error, ExpressionError)
            assert error.reason
            assert 0 <= error.position <= max(len(text), 512)


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("4*\u0445", 3, "CYRILLIC SMALL LETTER HA"),
        ("b_silu(\uff41lpha=1)", 8, "FULLWIDTH LATIN SMALL LETTER A"),
        ("x # y\n+ 1", 3, "the character '#'"),
        ("b_silu(alpha=2*y)", 16, "unknown name 'y'"),
        ("  b_silu(alpha =\n 9**9**9)", 20, "the exponent 9 is not allowed"),
        ("tanh(x=1)", 1, "takes no named arguments"),
        ("9" * 100_000, 513, "100,000 characters; at most 512"),
        ("+".join(["(1/3)*x"] * 40), 1, "characters when written with all digits"),
    ],
)
def test_the_message_tells_what_the_eye_does_not_see(text: str, column: int, reason: str) -> None:
    with pytest.raises(ExpressionError, match=reason) as caught:
        surrogate(text)
    assert caught.value.position == column - 1


ACCEPTED = {
    "powers": "((x**2)**2)**2",
    "exponentials": "exp(" * 40 + "x" + ")" * 40,
    # Terms that cancel: an algebra system that simplifies would write the tower's digits out.
    "hidden tower of powers": "square(" * 40 + "3 + x - x" + ")" * 40,
    "hidden tower of exponentials": "exp(" * 30 + "2.5 + x - x" + ")" * 30,
    "hidden large sine": "sin(exp(1e6*(100.5 + x - x)))",
    "deep": "tanh(" * 59 + "x" + ")" * 59,
    "minuses": "-" * 59 + "x",
    "parentheses": "(" * 190 + "x" + ")" * 190,
    "cases": "1 if x > 0 else " * 28 + "x",
    "cases in conditions": "step(" * 59 + "x" + ")" * 59,
    "maxima": "max(" * 40 + "x" + ", x)" * 40,
    "logistic": "sigmoid(" * 50 + "x" + ")" * 50,
    "softsign": "softsign(" * 50 + "x" + ")" * 50,
    "pole": "1/(x - x)",
    "infinity less infinity": "exp(exp(exp(x))) - exp(exp(exp(x)))",
    "not real": "sqrt(x)",
    "smallest": "1e-300*x",
}


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_all_properties_of_what_is_accepted_are_found_fast(text: str) -> None:
    g = outcome(surrogate, text)
    assert isinstance(g, Surrogate), g
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert g(POINTS).shape == POINTS.shape
        facts = (g.gain, g.identity, g.bounds, g.negative_side, g.left_limit, g.right_limit, g.at_zero, g.at_zero_plus)
        written = (g.latex(), g.formula, g.label, repr(g))
    assert len(facts) == 8
    assert all(len(text) < 20_000 for text in written)
    assert Surrogate.from_json(g.to_json()) == g
    assert time.process_time() - start < 1


def random_unicode(rng: random.Random) -> str:
    ranges = ((0, 0x7F), (0, 0x7F), (0x80, 0x2FF), (0x370, 0x5FF), (0x2000, 0x2FFF), (0xD800, 0xFFFF), (0, 0x10FFFF))
    return "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(0, 80)))


WORDS = [
    *OPERATORS, *LIBRARY, "x", "x", "x", "pi", "e", "alpha", "k", "1", "0", "2", "8", "9", "0.5", "1e6", "1e-300",
    "1e999", "+", "-", "*", "/", "**", "**", "(", ")", "(", ")", ",", " if ", " else ", ">", ">=", "<", "<=", "==",
    "=", " ", "\n", ".", ".real", "[", "]", "{", "}", ":", ":=", "lambda", "'", "#", "\\", "not ", " and ", "1j", "_",
    "__class__", "\uff58", "\x00", "alpha=", "slope=2", " for x in ", "@", "%", "//", "~", ";", "*x", "None", "True",
]  # fmt: skip


def mutated(rng: random.Random) -> str:
    """A valid text with a few tokens put in, taken out, doubled or wrapped."""
    parts = [rng.choice(SEEDS)]
    for _ in range(rng.randint(0, 4)):
        text = parts[0]
        at, to = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        kind = rng.randrange(4)
        middle = (rng.choice(WORDS), "", text[at:to] * rng.choice((2, 2, 40)), f"{rng.choice(WORDS)}({text[at:to]})")[
            kind
        ]
        parts[0] = text[:at] + middle + text[to if kind else at :]
    return parts[0]


SEEDS = [
    *(entry.g for entry in LIBRARY.values()), *LIBRARY, "b_silu(alpha=2)", "swish(beta=0.5)", "sigmoid(4*x)", "x",
    "1 if x > 1 else 2 if x >= -x else 3", "max(0, 1 - abs(x))", "-x**2/3", "2**3*x - 1e-3", "exp(-x*x)",
]  # fmt: skip


@pytest.mark.parametrize("make", [random_unicode, mutated], ids=["unicode", "grammar"])
def test_any_text_is_a_surrogate_or_a_refusal(make: Callable[[random.Random], str]) -> None:
    rng = random.Random(20261122)
    accepted = 0
    for _ in range(ROUNDS // 2):
        text = make(rng)
        g = outcome(surrogate, text)
        outcome(family, text)
        outcome(lambda text: family(text, ("alpha", "k")), text)
        if isinstance(g, SugarsearchError):
            continue
        assert isinstance(g, Surrogate)
        accepted += 1
        assert g(POINTS).shape == POINTS.shape
        assert parse(str(g.expression), dict(g.parameters)) == g.expression
        assert g.latex().count("{") == g.latex().count("}")
    assert accepted > (500 if make is mutated else 0)

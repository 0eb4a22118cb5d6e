"""The file that needs torch and nothing else, run by a Python that cannot import sugarsearch."""

from __future__ import annotations

import ast
import dataclasses
import random
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sugarsearch.errors import AdmissionError, SugarsearchError
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.admission import admit
from sugarsearch.nn.lowering import lower
from sugarsearch.nn.standalone import standalone_source
from sugarsearch.symbolic.expression import Expression, X, call, constant
from sugarsearch.symbolic.library import LIBRARY, surrogate
from sugarsearch.symbolic.operators import OPERATORS
from sugarsearch.symbolic.surrogate import Surrogate

EXTREME = [0.0, -0.0, 1e-30, -1e-30, 1e-7, -1e-7, 30.0, -30.0, 6e4, -6e4, 1e30, -1e30, float("inf"), float("-inf")]
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
TREES = 200

# What the other Python does: it gets a folder of files, and writes what each gives.
ALONE = """
import importlib.util, sys
from pathlib import Path

sys.modules["sugarsearch"] = None
import torch
from torch import nn

def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

def gradient(activation, x, grad):
    x = x.detach().requires_grad_()
    output = activation(x)
    (result,) = torch.autograd.grad(output, x, grad)
    assert torch.equal(output, torch.relu(x)) and output.dtype == x.dtype
    return result

def images(activation, x, grad):
    assert x.is_contiguous(memory_format=torch.channels_last)
    result = gradient(activation, x, grad)
    assert result.is_contiguous(memory_format=torch.channels_last)
    return result

def refuses_twice(activation):
    x = torch.randn(3, requires_grad=True)
    (first,) = torch.autograd.grad(activation(x).square().sum(), x, create_graph=True)
    try:
        first.sum().backward()
    except RuntimeError as error:
        return "cannot be differentiated twice" in str(error)
    return False

torch.set_num_threads(1)
folder = Path(sys.argv[1])
cases = torch.load(folder / "cases.pt", weights_only=True)
results = {}
for path in sorted(folder.glob("*.py")):
    module = load(path)
    activation = module.SugarReLU()
    assert not activation.state_dict() and refuses_twice(activation), path
    results[path.stem] = {
        "g": module.g(cases["x"]["float64"]),
        "images": images(activation, *cases["images"]),
        **{kind: gradient(activation, x, cases["grad"][kind]) for kind, x in cases["x"].items()},
    }
torch.save(results, folder / "results.pt")
"""


def points() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    x = torch.cat([torch.randn(300) * 3, torch.tensor(EXTREME)]).double()
    grad = torch.randn(len(x)).double()
    kinds = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES}
    return {k: x.to(d) for k, d in kinds.items()}, {k: grad.to(d) for k, d in kinds.items()}


def tree(chance: random.Random, depth: int) -> Expression:
    """Any operator over any arguments, numbers included."""
    if depth == 0 or chance.random() < 0.15:
        return X if chance.random() < 0.6 else constant(round(chance.uniform(-3, 3), 3))
    op = chance.choice(list(OPERATORS))
    try:
        if op == "pow":
            return call(op, tree(chance, depth - 1), constant(chance.choice([-2.0, -0.5, 0.5, 2.0, 3.0])))
        return call(op, *(tree(chance, depth - 1) for _ in range(OPERATORS[op].arity)))
    except SugarsearchError:  # a part of numbers only that is no number
        return X


def trees() -> Iterator[Surrogate]:
    """Different ones that may be trained with."""
    chance, seen = random.Random(0), {X}
    while True:
        g = Surrogate.of(tree(chance, 5))
        try:
            admit(g)
        except AdmissionError:
            continue
        if g.expression not in seen:
            seen.add(g.expression)
            yield g


@cache
def surrogates() -> dict[str, Surrogate]:
    named = {name: surrogate(name) for name in LIBRARY}
    scaled = {f"{name}_unit": g.at_unit_gain() for name, g in named.items()}
    return {**named, **scaled, **{f"tree_{i}": g for i, g in enumerate(islice(trees(), TREES))}}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """The points, and what each file alone gave for them."""
    folder = tmp_path_factory.mktemp("standalone")
    torch.manual_seed(0)
    x, grad = points()
    images = [torch.randn(2, 5, 4, 3).contiguous(memory_format=torch.channels_last) for _ in range(2)]
    cases = {"x": x, "grad": grad, "images": images}
    torch.save(cases, folder / "cases.pt")
    for name, g in surrogates().items():
        (folder / f"{name}.py").write_text(standalone_source(g), encoding="ascii")
    done = subprocess.run([sys.executable, "-c", ALONE, str(folder)], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = torch.load(folder / "results.pt", weights_only=True)
    return cases, results


def gradient(g: Surrogate, x: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    """By the steps of the closed form; named surrogates have faster kernels, which round otherwise."""
    activation = SugarReLU(g)
    activation.derivative = dataclasses.replace(lower(g), name="")
    x = x.detach().requires_grad_()
    (result,) = torch.autograd.grad(activation(x), x, grad)
    return result


def test_random_trees_use_every_operator() -> None:
    used = {node.op for name, g in surrogates().items() if "tree" in name for node in g.expression.walk()}
    assert used >= set(OPERATORS)


@pytest.mark.parametrize("kind", ["float64", "float32", "bfloat16", "float16", "images"])
def test_alone_it_gives_the_gradient_of_sugarrelu_bit_for_bit(kind: str, alone: Any) -> None:
    cases, results = alone
    x, grad = cases["images"] if kind == "images" else (cases["x"][kind], cases["grad"][kind])
    assert len(results) == TREES + 2 * len(LIBRARY)
    for name, g in surrogates().items():
        got, wanted = results[name][kind], gradient(g, x, grad)
        assert got.dtype == x.dtype
        np.testing.assert_array_equal(got.double().numpy(), wanted.double().numpy(), err_msg=f"{name}: {g.formula}")


def test_alone_it_agrees_with_float64_of_another_library(alone: Any) -> None:
    cases, results = alone
    x = cases["x"]["float64"]
    for name, g in surrogates().items():
        # Libraries differ in the digits of the sine of 1e15 and in the sign of (-0)**-0.5: trees are tame elsewhere.
        here = (x.abs() < 12) & (x != 0) if "tree" in name else slice(None)
        got, wanted = results[name]["g"][here].numpy(), g(x[here].numpy())
        np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-10, err_msg=g.formula)


def test_it_names_its_g_and_stays_python_whatever_its_origin_is_called() -> None:
    g = surrogate("b_silu", alpha=2).at_unit_gain()
    source = standalone_source(g, 'run "r\n\u202e\\" of """study"""')
    docstring = ast.get_docstring(ast.parse(source)) or ""
    assert g.formula in docstring
    assert "b_silu(alpha=2)" in docstring
    assert source.isascii()
    imported = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports(source)}
    assert imported == {"__future__", "typing", "torch"}


def imports(source: str) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # the compiler's own
@pytest.mark.parametrize("text", ["b_silu", "mish"])
def test_it_compiles_in_one_graph(text: str, tmp_path: Path) -> None:
    (tmp_path / "g.py").write_text(standalone_source(surrogate(text)))
    code = (
        "import sys; sys.modules['sugarsearch'] = None\n"
        "import torch; from g import SugarReLU\n"
        "x = torch.linspace(-3, 3, 64, requires_grad=True)\n"
        "(eager,) = torch.autograd.grad(SugarReLU()(x).sum(), x)\n"
        "(fast,) = torch.autograd.grad(torch.compile(SugarReLU(), fullgraph=True)(x).sum(), x)\n"
        "torch.testing.assert_close(fast, eager, rtol=1e-5, atol=1e-6)\n"
        "assert (eager[x < 0] != 0).any()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr

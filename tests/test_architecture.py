"""The house rules that a reader relies on: layers, who may use what, and sizes. Read from the source."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "sugarsearch"
# Top to bottom: a module may import its own layer and those after it.
LAYERS = (
    "cli", "report", "integrations", "search", "reproduction", "runs", "verdict", "analysis", "evaluation", "training",
    "catalog", "models", "data", "nn", "symbolic", "config", "errors",
)  # fmt: skip
TORCH_LAYERS = LAYERS[: LAYERS.index("symbolic")]
# Who alone may import a library, apart from the standard ones.
HOMES = {
    "sympy": {"symbolic"},
    "optuna": {"search"},
    "matplotlib": {"report", "analysis"},
    "jinja2": {"report"},
    "typer": {"cli"},
    "torch": set(TORCH_LAYERS) - {"catalog"},
    "torchvision": {"data", "models", "nn"},
    "sklearn": {"data"},
    "lightning": {"integrations"},
    "transformers": {"integrations"},
}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80

MODULES = sorted(PACKAGE.rglob("*.py"))


def layer_of(module: str) -> str:
    """`sugarsearch.nn.table` -> `nn`."""
    return module.split(".")[1] if "." in module else ""


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that the file imports anywhere, in functions too, except for types only."""
    tree = ast.parse(path.read_text())
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down_and_libraries_stay_home(path: Path) -> None:
    here = layer_of(name_of(path))
    if here in ("", "__main__"):
        return  # the package's own __init__ re-exports from every layer; `python -m sugarsearch` calls the command line
    assert here in LAYERS, f"{path}: {here} is no layer; add it to LAYERS at its height"
    for target in imports(path):
        top = target.split(".")[0]
        if top == "sugarsearch" and target != "sugarsearch.__version__":
            assert LAYERS.index(layer_of(target)) >= LAYERS.index(here), f"{path} imports {target}, which lies above"
        if top in HOMES:
            assert here in HOMES[top], f"{path} imports {top}, which belongs to {sorted(HOMES[top])}"


def test_no_import_cycles() -> None:
    graph = {
        name_of(path): {
            candidate
            for target in imports(path)
            for candidate in (target, target.rpartition(".")[0])
            if candidate in {name_of(p) for p in MODULES} and candidate != name_of(path)
        }
        for path in MODULES
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"cycle: {' -> '.join((*trail[trail.index(module) :], module))}"
        if module in done:
            return
        for target in graph[module]:
            visit(target, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_sizes(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MAX_FILE_LINES, f"{path} has outgrown one file"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= MAX_FUNCTION_LINES, f"{path}: {node.name} is too long"


def test_only_the_verdict_opens_the_test_split() -> None:
    users = {
        layer_of(name_of(path))
        for path in MODULES
        for target in imports(path)
        if target.startswith("sugarsearch.data.test_split")
    }
    assert users == {"verdict"}


def test_torch_free_modules_do_not_load_torch() -> None:
    modules = [
        name_of(path)
        for path in MODULES
        if layer_of(name_of(path)) in {"", "catalog", "symbolic", "config", "errors"} or path.name == "__init__.py"
    ]
    code = (
        f"import sys; [__import__(name) for name in {modules!r}]; "
        "print([name for name in ('torch', 'sympy', 'optuna', 'matplotlib') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONWARNINGS": ""},
    )
    assert result.stdout.strip() == "[]"

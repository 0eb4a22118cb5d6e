"""Finds activations that a model calls as functions (F.relu(x), x.relu()), which no module surgery can see."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import FunctionType, ModuleType
from typing import Any

from torch import fx, nn

from sugarsearch.nn.kinds import kind_of, kind_of_function, kind_of_method


@dataclass(frozen=True)
class Mention:
    """A functional activation in the source.

    kind: None where the source cannot be read; lines: first and last of the call, or of the function that mentions the
    activation without calling it.
    """

    kind: str | None
    text: str
    file: str = ""
    lines: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class FunctionalCall:
    """A functional activation of one module. attribute: the attribute of the module that is the function, if one is."""

    path: str
    owner: str
    mention: Mention
    attribute: str | None = None

    def __str__(self) -> str:
        return f"{self.path or 'the model'} ({self.owner}): {self.mention.text}"


def functional_calls(model: nn.Module) -> Iterator[FunctionalCall]:
    """Every functional activation of `model`'s modules.

    The methods of the modules' classes are read, the functions of the same package that they use, and attributes that
    hold a function (as in nn.TransformerEncoderLayer). Where a source cannot be read, the call says so. Left out are
    graphs of torch.fx and the modules of activations.
    """
    for path, module in model.named_modules():
        if kind_of(module) is not None:
            continue
        owner = type(module).__name__
        for name, value in vars(module).items():
            kind = kind_of_function(value)
            if kind is not None:
                mention = Mention(kind, f"attribute {name!r} is the function {value.__name__}")
                yield FunctionalCall(path, owner, mention, name)
            elif isinstance(value, FunctionType) and not _is_library(value.__module__):
                yield from (FunctionalCall(path, owner, mention) for mention in _follow(value))
        if not isinstance(module, fx.GraphModule):
            yield from (FunctionalCall(path, owner, mention) for mention in _in_class(type(module)))


def _in_class(kind: type[nn.Module]) -> Iterator[Mention]:
    """In the methods of a class and of its bases. __init__ is left out: what it keeps are attributes."""
    for base in kind.__mro__:
        if issubclass(base, nn.Module) and not _is_library(base.__module__):
            yield from _follow(base)  # type: ignore[arg-type]  # nn.Module types its __hash__ with object


@cache
def _follow(source: type | FunctionType) -> tuple[Mention, ...]:
    """The mentions in a source, and in the functions that it uses."""
    waiting, seen, mentions = [source], {source}, list[Mention]()
    while waiting:
        found, used = _read(waiting.pop())
        mentions += found
        waiting += used - seen
        seen |= used
    return tuple(mentions)


@cache
def _read(source: type | FunctionType) -> tuple[tuple[Mention, ...], frozenset[FunctionType]]:
    try:
        lines, first = inspect.getsourcelines(source)
        file = inspect.getsourcefile(source) or ""
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        what = "class" if isinstance(source, type) else "function"
        return (Mention(None, f"the source of {what} {source.__name__} cannot be read, so its calls are not known"),), (
            frozenset()
        )
    known = source.__globals__ if isinstance(source, FunctionType) else vars(sys.modules[source.__module__])
    reader = _Reader(known, file, first - 1, source.__module__.partition(".")[0])
    reader.visit(tree)
    return tuple(reader.mentions), frozenset(reader.used)


class _Reader(ast.NodeVisitor):
    """Collects the functional activations of one class or function."""

    def __init__(self, known: Mapping[str, Any], file: str, shift: int, package: str) -> None:
        self.known, self.file, self.shift, self.package = known, file, shift, package
        self.mentions: list[Mention] = []
        self.used: set[FunctionType] = set()
        self.around: list[ast.stmt] = []

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._inside(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name != "__init__":
            self._inside(node)

    def visit_Call(self, node: ast.Call) -> None:
        kind = _called_by_name(node.func) if self._value(node.func) is None else None
        if kind is None:
            self._refer(node.func, node, "(...)")
        else:
            self._add(kind, node, f"{ast.unparse(node.func)}(...)")
            self.generic_visit(node.func)
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            self.visit(argument)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._refer(node, node, "")

    def visit_Name(self, node: ast.Name) -> None:
        self._refer(node, node, "")

    def _inside(self, node: ast.ClassDef | ast.FunctionDef) -> None:
        self.around.append(node)
        self.generic_visit(node)
        self.around.pop()

    def _refer(self, name: ast.expr, whole: ast.expr, suffix: str) -> None:
        """A global name: torch's functions and modules are mentions; functions of the same package are to be read."""
        value = self._value(name)
        kind = kind_of(value) if isinstance(value, nn.Module) else kind_of_function(value)
        if kind is not None:
            self._add(kind, whole, ast.unparse(name) + suffix)
        elif isinstance(value, FunctionType) and value.__module__.partition(".")[0] == self.package:
            self.used.add(value)
        elif not isinstance(name, ast.Name):
            self.generic_visit(name)

    def _value(self, name: ast.expr) -> Any:
        """What a dotted name stands for in the module of the source; None where that is not known."""
        if isinstance(name, ast.Name):
            return self.known.get(name.id)
        if isinstance(name, ast.Attribute):
            home = self._value(name.value)
            return vars(home).get(name.attr) if isinstance(home, ModuleType) else None
        return None

    def _add(self, kind: str, node: ast.expr, text: str) -> None:
        where = node if isinstance(node, ast.Call) or not self.around else self.around[-1]
        lines = (where.lineno + self.shift, (where.end_lineno or where.lineno) + self.shift)
        self.mentions.append(Mention(kind, f"{text} at {self.file}:{node.lineno + self.shift}", self.file, lines))


def _called_by_name(function: ast.expr) -> str | None:
    """relu(x) of an unknown relu, x.relu(); not self.relu(x), which is an attribute of the module."""
    if isinstance(function, ast.Name):
        return kind_of_method(function.id)
    if not isinstance(function, ast.Attribute):
        return None
    root = function.value
    while isinstance(root, (ast.Attribute, ast.Subscript)):
        root = root.value
    return None if isinstance(root, ast.Name) and root.id == "self" else kind_of_method(function.attr)


def _is_library(module: str) -> bool:
    return module.partition(".")[0] in ("torch", "sugarsearch")

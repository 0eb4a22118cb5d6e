"""Finds activations that a model calls as functions (F.relu(x), x.relu()), which no module surgery can see."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator

from torch import fx, nn

_PLAIN = ("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish")
FUNCTIONAL = frozenset(_PLAIN) | {f"{name}_" for name in _PLAIN}
"""The activations of torch that are functions or methods; a trailing _ works in place."""


def functional_calls(model: nn.Module) -> Iterator[str]:
    """A line for each functional activation of `model`'s modules: where, what, and in which source line.

    Methods of the modules' classes are read, and attributes that hold a function (as in nn.TransformerEncoderLayer);
    functions that they call are not followed. Where the source of a class cannot be read, the line says so. Graphs of
    torch.fx are left out.
    """
    seen: set[type] = set()
    for path, module in model.named_modules():
        place = f"{path or 'the model'} ({type(module).__name__})"
        for name, value in vars(module).items():
            if callable(value) and getattr(value, "__name__", None) in FUNCTIONAL:
                yield f"{place}: attribute {name!r} is the function {value.__name__}"
        if isinstance(module, fx.GraphModule) or type(module) in seen:
            continue
        seen.add(type(module))
        for kind in type(module).__mro__:
            if issubclass(kind, nn.Module) and not kind.__module__.startswith(("torch.", "sugarsearch.")):
                yield from (f"{place}: {call}" for call in _calls_in(kind))


def _calls_in(kind: type[nn.Module]) -> tuple[str, ...]:
    try:
        lines, first = inspect.getsourcelines(kind)
        file = inspect.getsourcefile(kind)
    except (OSError, TypeError):
        return (f"the source of class {kind.__name__} cannot be read, so its calls are not known",)
    tree = ast.parse(textwrap.dedent("".join(lines)))
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return tuple(
        f"{ast.unparse(call.func)}(...) at {file}:{first + call.lineno - 1}"
        for call in calls
        if _is_functional(call.func)
    )


def _is_functional(function: ast.expr) -> bool:
    """relu(x), F.relu(x), torch.nn.functional.relu(x), x.relu(); not self.relu(x), which is a module."""
    if isinstance(function, ast.Name):
        return function.id in FUNCTIONAL
    if not isinstance(function, ast.Attribute) or function.attr not in FUNCTIONAL:
        return False
    root = function.value
    while isinstance(root, (ast.Attribute, ast.Subscript)):
        root = root.value
    return not (isinstance(root, ast.Name) and root.id == "self")

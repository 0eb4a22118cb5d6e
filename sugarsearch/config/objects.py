"""Users' own code in a configuration: `package.module:name`."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

from sugarsearch.errors import UsageError

_NOTHING = object()
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_object_name(text: str) -> bool:
    """Whether `text` is written as `package.module:name`."""
    return _DOTTED.fullmatch(text) is not None


def refuse_standard_library(text: str) -> None:
    """Refuse `os:system` and the like: what a configuration calls is a user's code, not Python's own.

    Other text, such as a known name or a folder, passes.

    Raises:
        UsageError: `text` names an object of the standard library.
    """
    top = text.partition(":")[0].partition(".")[0]
    if is_object_name(text) and top in sys.stdlib_module_names:
        raise UsageError(
            f"{text}: {top} is a module of Python's standard library, which configurations do not call. "
            "Name an object of a module of yours; if it is called so, rename it."
        )


def load_object(text: str) -> Any:
    """Import what `package.module:name` names; modules in the current folder are found too.

    Raises:
        UsageError: not written so, the module cannot be imported, it has no such name, or it is the standard library's.
    """
    if not is_object_name(text):
        raise UsageError(f"{text!r} is not allowed; write package.module:name.")
    refuse_standard_library(text)
    module_name, _, name = text.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        # Last, so that a file of the user's cannot hide an installed package.
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
        found = getattr(module, name, _NOTHING)
    except (Exception, SystemExit) as error:  # a user's module may raise anything while it is imported
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(
            f"{text}: module {module_name} cannot be imported ({reason}). Run from the folder that holds it."
        ) from error
    if found is _NOTHING:
        raise UsageError(f"{text}: {getattr(module, '__file__', None) or module_name} has no {name!r}.")
    if isinstance(found, (FunctionType, BuiltinFunctionType, type)):  # as it is called where it was written
        home = str(found.__module__)
        if home.partition(".")[0] in sys.stdlib_module_names:
            refuse_standard_library(f"{home}:{found.__name__}")
    return found

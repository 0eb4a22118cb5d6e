"""Users' own code in a configuration: `package.module:name`."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

from sugarsearch.errors import UsageError

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_object_name(text: str) -> bool:
    """Whether `text` is written as `package.module:name`."""
    return _DOTTED.fullmatch(text) is not None


def load_object(text: str) -> Any:
    """Import what `package.module:name` names; modules in the current folder are found too.

    Raises:
        UsageError: not written so, the module cannot be imported, or it has no such name.
    """
    if not is_object_name(text):
        raise UsageError(f"{text!r} is not allowed; write package.module:name.")
    module_name, _, name = text.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        # Last, so that a file of the user's cannot hide an installed package.
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything while it is imported
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(
            f"{text}: module {module_name} cannot be imported ({reason}). Run from the folder that holds it."
        ) from error
    if not hasattr(module, name):
        raise UsageError(f"{text}: {module.__file__} has no {name!r}.")
    return getattr(module, name)

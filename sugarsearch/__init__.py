"""sugarsearch: searches for a better backward pass of ReLU. The public names, and nothing else.

They are imported when they are first used, so that `import sugarsearch` and the command line start without
torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# Python binds a subpackage to its name here when it is first loaded, and would hide the function `search`.
# Loaded now and unbound, it stays importable as `from sugarsearch.search... import ...`.
importlib.import_module("sugarsearch.search")

del globals()["search"]

if TYPE_CHECKING:
    from sugarsearch.nn.activation import SugarReLU
    from sugarsearch.nn.surgery import apply, remove
    from sugarsearch.runs.api import compare
    from sugarsearch.runs.export import export
    from sugarsearch.search.api import search, tune
    from sugarsearch.symbolic.library import surrogate
    from sugarsearch.symbolic.surrogate import Surrogate

    __version__: str

__all__ = [
    "SugarReLU",
    "Surrogate",
    "__version__",
    "apply",
    "compare",
    "export",
    "remove",
    "search",
    "surrogate",
    "tune",
]

_HOMES = {
    "SugarReLU": "sugarsearch.nn.activation",
    "Surrogate": "sugarsearch.symbolic.surrogate",
    "apply": "sugarsearch.nn.surgery",
    "compare": "sugarsearch.runs.api",
    "export": "sugarsearch.runs.export",
    "remove": "sugarsearch.nn.surgery",
    "search": "sugarsearch.search.api",
    "surrogate": "sugarsearch.symbolic.library",
    "tune": "sugarsearch.search.api",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("sugarsearch")
    if name not in _HOMES:
        raise AttributeError(f"module 'sugarsearch' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__

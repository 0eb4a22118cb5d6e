"""Runs of your own objects: networks, tensors, and who is told how it goes."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, TypeVar

from pydantic import BaseModel
from torch import nn

from sugarsearch.catalog import Catalogue
from sugarsearch.config import loader, yamlfile
from sugarsearch.config.schema import ExecutionConfig
from sugarsearch.data.arrays import Arrays
from sugarsearch.runs.observer import Observer

M = TypeVar("M", bound=BaseModel)

EXECUTION: Final = frozenset(ExecutionConfig.model_fields) - {"workers"}  # all is trained in this process
_DEFAULT_RATES: Final = {"sgd": [0.01, 0.03, 0.1], "adam": [3e-4, 1e-3, 3e-3], "adamw": [3e-4, 1e-3, 3e-3]}


def recipe_of(
    model_fn: Callable[[], nn.Module], data: Mapping[str, Arrays], recipe: Mapping[str, Any] | BaseModel
) -> dict[str, Any]:
    """`recipe` with names for your model and data that change with them, so that a run folder knows its own."""
    owner = model_fn if hasattr(model_fn, "__qualname__") else type(model_fn)
    prints = "+".join(arrays.fingerprint[:16] for arrays in data.values())
    return {**plain(recipe), "data": f"tensors {prints}", "model": f"{owner.__module__}.{owner.__qualname__}"}


def rates_for(recipe: Mapping[str, Any]) -> list[float]:
    """Learning rates to begin with, where none are given."""
    optimizer = recipe.get("optimizer", "sgd")
    kind = optimizer.get("name") if isinstance(optimizer, dict) else optimizer
    return _DEFAULT_RATES.get(str(kind), _DEFAULT_RATES["sgd"])


def checked(model: type[M], value: Mapping[str, Any], call: str) -> M:
    """What the arguments of `call` amount to.

    Raises:
        ConfigurationError: with every fault.
    """
    # Through JSON, so that tuples are the lists that a file would have.
    document = yamlfile.Document(call, json.loads(json.dumps(value, default=str)))
    return loader.check(document, model, _YourNames())


def plain(value: Mapping[str, Any] | BaseModel) -> dict[str, Any]:
    """A mapping, or the values of a model."""
    return dict(value) if isinstance(value, Mapping) else value.model_dump(mode="json")


def shown(observer: Observer | None) -> AbstractContextManager[Observer]:
    """`observer`, or one that shows progress where somebody looks; the report layer above makes it, when asked for."""
    if observer is not None:
        return nullcontext(observer)
    watching: AbstractContextManager[Observer] = importlib.import_module("sugarsearch.report.notebook").watch_here()
    return watching


class _YourNames(Catalogue):
    """A catalogue that takes any data and model: they are objects here, and their names only tell them apart."""

    def data(self, name: str, root: str | None) -> None: ...

    def model(self, name: str, options: Any) -> None: ...

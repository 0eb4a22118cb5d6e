"""Reads a baseline's file, whose kind says by which schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from sugarsearch.catalog import Catalogue
from sugarsearch.config import loader, yamlfile
from sugarsearch.config.accuracy_table import AccuracyBaseline
from sugarsearch.config.baseline import Baseline
from sugarsearch.config.figure import FunctionsBaseline, LandscapesBaseline, PictureBaseline, ProfilesBaseline
from sugarsearch.config.narrow_nets import NarrowNetsBaseline
from sugarsearch.errors import ConfigurationError

KINDS: Final[Mapping[str, type[Baseline]]] = MappingProxyType(
    {
        "deep_narrow_nets": NarrowNetsBaseline,
        "accuracies": AccuracyBaseline,
        "pictures": PictureBaseline,
        "functions": FunctionsBaseline,
        "profiles": ProfilesBaseline,
        "landscapes": LandscapesBaseline,
    }
)


def load(name: str, overrides: Sequence[str] = ()) -> Baseline:
    """The baseline of a file, or a shipped one by its name; of the class that its kind says.

    Raises:
        UnknownNameError: no such baseline is shipped.
        ConfigurationError: with every fault of the file.
    """
    document = _read(name)
    return loader.check(document, KINDS[document.value["kind"]], Catalogue(), overrides)


def kind_of(name: str) -> str:
    """The kind of a baseline; raises as `load`."""
    return str(_read(name).value["kind"])


def _read(name: str) -> yamlfile.Document:
    document = yamlfile.read(loader.find("baselines", name))
    kind = document.value.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        document.refuse(("kind",), f"kind is {kind!r}; allowed: {', '.join(KINDS)}.")
        raise ConfigurationError(document.problems)
    return document

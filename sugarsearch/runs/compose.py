"""From surrogates, runs or a file to a checked comparison; and from its data and model to others."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sugarsearch.catalog import Catalogue
from sugarsearch.config import loader, yamlfile
from sugarsearch.config.comparison import ComparisonConfig
from sugarsearch.config.verdict import VerdictConfig
from sugarsearch.errors import UsageError
from sugarsearch.runs.export import Find, find, text_and_gain
from sugarsearch.runs.load import SMALL_NETWORK
from sugarsearch.runs.results import StudyResult
from sugarsearch.symbolic.library import is_file_name

_BASE: Final = ("recipe", "space", "execution")
_SHORT: Final = {"data": "recipe.data", "model": "recipe.model"}
_MAX_NAME: Final = 60


@dataclass(frozen=True)
class Composed:
    """A comparison. home: the search that found its one surrogate by the same recipe, if there is one."""

    config: ComparisonConfig
    home: StudyResult | None = None


def compose(
    given: Sequence[str], data: str | None = None, model: str | None = None, overrides: Sequence[str] = ()
) -> Composed:
    """The comparison that `given` means.

    Args:
        given: one comparison file; or names, expressions, files with a g, and run folders, which stand for the best
            found there. Recipe, budgets, space and seeds are those of the first run, with fresh seeds; without a
            run, defaults that suit small networks.
        data: in place of the run's; needed where there is none.
        model: likewise.
        overrides: `key.key=value` texts.

    Raises:
        ConfigurationError: with every fault of the values given.
        RunError: a folder that is no run, or has found nothing.
        UsageError: data or model are missing.
    """
    changes = [f"{_SHORT[key]}={value}" for key, value in (("data", data), ("model", model)) if value is not None]
    if len(given) == 1 and _is_comparison(given[0]):
        return Composed(loader.load(given[0], ComparisonConfig, Catalogue(), [*changes, *overrides]))
    # Of an expression, which may be too long for a path, os.path.isdir is False.
    finds = {text: find(Path(text)) for text in given if os.path.isdir(text)}  # noqa: PTH112
    base = _of_run(next(iter(finds.values()))) if finds else _of_nothing(data, model)
    surrogates = dict(_named(text, finds) for text in given)
    if len(surrogates) < len(given):
        raise UsageError("a surrogate is given twice; give each once.")
    value = {"name": _name(list(surrogates), finds), "surrogates": surrogates, **base}
    document = yamlfile.Document("compare", value)
    loader.apply_overrides(document, [*changes, *overrides])
    config = loader.check(document, ComparisonConfig, Catalogue())
    at_home = len(given) == len(finds) == 1 and not changes and not overrides
    return Composed(config, next(iter(finds.values())).result if at_home else None)


def transferred(config: ComparisonConfig, text: str) -> tuple[str, ComparisonConfig]:
    """`config` with other data, another model or other settings, and a name for that fit for a folder.

    text: such as "data=cifar100" or "data=cifar100,model=vgg16,recipe.epochs=20".

    Raises:
        ConfigurationError: with every fault of the values given.
        UsageError: nothing is changed.
    """
    # A comma within brackets belongs to a value.
    parts = [part.strip() for part in re.split(r",(?![^\[{]*[\]}])", text) if part.strip()]
    changes = [f"{_SHORT.get(key.strip(), key)}={value}" for key, _, value in (part.partition("=") for part in parts)]
    document = yamlfile.Document(f"--transfer {text}", config.model_dump(mode="json"))
    loader.apply_overrides(document, changes)
    other = loader.check(document, ComparisonConfig, Catalogue())
    if other == config:
        raise UsageError(f"--transfer {text!r} changes nothing; write data=NAME, model=NAME or another key=value.")
    return re.sub(r"[^A-Za-z0-9.=_-]+", "-", text).strip("-.")[:_MAX_NAME], other


def _is_comparison(text: str) -> bool:
    return is_file_name(text) and "surrogates" in yamlfile.read(text).value


def _of_run(found: Find) -> dict[str, Any]:
    """What a comparison takes from the run of its surrogate; seeds are others than the run's."""
    config = found.config
    seed = config["search"]["seed"] if "search" in config else config["seed"]
    final = {name: value for name, value in config["final"].items() if name in VerdictConfig.model_fields}
    return {**{name: config[name] for name in _BASE}, "seed": seed + 1, "final": final}


def _of_nothing(data: str | None, model: str | None) -> dict[str, Any]:
    missing = [f"--{name}" for name, value in (("data", data), ("model", model)) if value is None]
    if missing:
        raise UsageError(
            f"{' and '.join(missing)} must be given: on what the surrogates are compared. Or give the folder of a run, "
            "whose data and model are then taken."
        )
    return {
        "recipe": {**SMALL_NETWORK.recipe, "data": data, "model": model},
        "final": {"learning_rates": list(SMALL_NETWORK.rates)},
    }


def _named(text: str, finds: Mapping[str, Find]) -> tuple[str, dict[str, str]]:
    """What a surrogate is called, and its entry."""
    if text not in finds:
        return text, {"g": text, "gain": "own"}
    g, gain = text_and_gain(finds[text].surrogate)
    return f"best of {finds[text].result.study}", {"g": g, "gain": gain}


def _name(titles: Sequence[str], finds: Mapping[str, Find]) -> str:
    words = [found.result.study for found in finds.values()] or titles
    return "compare_" + re.sub(r"[^A-Za-z0-9]+", "_", "_".join(words)).strip("_")[: _MAX_NAME - 8].strip("_")

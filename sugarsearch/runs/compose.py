"""From surrogates, runs or a file to a checked comparison; and from its data and model to others."""

from __future__ import annotations

import hashlib
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
from sugarsearch.runs.export import Find, entry_of, find
from sugarsearch.runs.load import RANDOM_FROM, SMALL_NETWORK
from sugarsearch.runs.results import StudyResult
from sugarsearch.symbolic.library import is_file_name, surrogate
from sugarsearch.verdict.arms import label_of

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
    file = next((text for text in given if _is_comparison(text)), None)
    if file is not None:
        raise UsageError(f"{file} is a whole comparison: give it alone, or the surrogates by themselves.")
    # Of an expression, which may be too long for a path, os.path.isdir is False.
    finds = {text: find(Path(text)) for text in given if os.path.isdir(text)}  # noqa: PTH112
    base = _of_runs(list(finds.values())) if finds else _of_nothing(data, model)
    surrogates = _entries(given, finds)
    value = {"name": _name(list(surrogates), finds), "surrogates": surrogates, **base}
    config = loader.check(yamlfile.Document("compare", value), ComparisonConfig, Catalogue(), [*changes, *overrides])
    by_its_recipe = not changes and all(text.strip().startswith("execution.") for text in overrides)
    at_home = len(given) == len(finds) == 1 and by_its_recipe
    return Composed(config, next(iter(finds.values())).result if at_home else None)


def transferred(config: ComparisonConfig, text: str) -> tuple[str, ComparisonConfig]:
    """`config` with other data, another model or other settings, and a name for that fit for a folder.

    text: such as "data=cifar100" or "data=cifar100,model=vgg16,recipe.epochs=20".

    Raises:
        ConfigurationError: with every fault of the values given.
        UsageError: nothing is changed.
    """
    parts = [part.partition("=") for part in _parts(text)]
    changes = [f"{_SHORT.get(key.strip(), key)}{sign}{value}" for key, sign, value in parts]
    document = yamlfile.Document(f"--transfer {text}", config.model_dump(mode="json"))
    other = loader.check(document, ComparisonConfig, Catalogue(), changes, "--transfer")
    if other == config:
        raise UsageError(f"--transfer {text!r} changes nothing; write data=NAME, model=NAME or another key=value.")
    return _folder_name(",".join(f"{key.strip()}={value.strip()}" for key, _, value in parts)), other


def _parts(text: str) -> list[str]:
    """The texts between commas; a comma within brackets belongs to a value."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _folder_name(text: str) -> str:
    """`text`, where it is fit for a folder; else what of it is, and a print that tells it from others."""
    plain = re.sub(r"[^A-Za-z0-9.,=_-]+", "-", text)
    if plain == text and len(plain) <= _MAX_NAME:
        return plain
    return f"{plain[: _MAX_NAME - 9].strip('-.')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _is_comparison(text: str) -> bool:
    return is_file_name(text) and "surrogates" in yamlfile.read(text).value


def _of_runs(found: Sequence[Find]) -> dict[str, Any]:
    """What a comparison takes from the runs of its surrogates: all from the first, but seeds that none has used."""
    config = found[0].config
    seed = max(run.config["search"]["seed"] if run.result.is_search else run.config["seed"] for run in found)
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
        "space": RANDOM_FROM,
        "final": {"learning_rates": list(SMALL_NETWORK.rates)},
    }


def _entries(given: Sequence[str], finds: Mapping[str, Find]) -> dict[str, dict[str, str]]:
    """The surrogates' entries by what they are called; two runs of one study are called by their folders."""
    studies = [found.result.study for found in finds.values()]
    entries: dict[str, dict[str, str]] = {}
    for text in given:
        found = finds.get(text)
        title, g = text, found.surrogate if found else text
        if found is not None:
            study = found.result.study
            title = f"best of {study if studies.count(study) == 1 else Path(text)}"
        elif is_file_name(text):
            g = surrogate(text)
            title = label_of(g)
        if title in entries:
            raise UsageError(f"{title!r} is given twice; give each surrogate once.")
        entries[title] = entry_of(g)
    return entries


def _name(titles: Sequence[str], finds: Mapping[str, Find]) -> str:
    words = [found.result.study for found in finds.values()] or titles
    return "compare_" + re.sub(r"[^A-Za-z0-9]+", "_", "_".join(words)).strip("_")[: _MAX_NAME - 8].strip("_")

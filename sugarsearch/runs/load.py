"""From a study's name, file or settings to a checked study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sugarsearch.catalog import Catalogue
from sugarsearch.config import loader, yamlfile
from sugarsearch.config.schema import SearchSpace, StudyConfig
from sugarsearch.errors import UsageError
from sugarsearch.symbolic.library import canonical_name, family


@dataclass(frozen=True)
class Defaults:
    """How networks of some kind are trained, where nothing else is said; sweeps begin with learning rates `rates`."""

    recipe: Mapping[str, Any]
    rates: tuple[float, ...]


SMALL_NETWORK: Final = Defaults({"schedule": "cosine", "epochs": 10}, (0.1, 0.3, 1.0, 3.0))
"""Without momentum and on a cosine, small convolutional networks want high rates."""


RANDOM_FROM: Final = "gate"
"""The space that comparisons draw random g's of equal gain from, where nothing else is said."""


def load_study(given: Path | str, overrides: Sequence[str] = ()) -> StudyConfig:
    """The study that `given` means: a shipped bare name, or a YAML file.

    Args:
        given: such as "quickstart" or "my/study.yaml".
        overrides: `key.key=value` texts, set before the check.

    Raises:
        UnknownNameError: a bare name that is not shipped.
        ConfigurationError: with every fault of the file and the overrides.
    """
    path = loader.find("studies", str(given))
    return loader.load(path, StudyConfig, Catalogue(), overrides)


def load_space(given: Path | str) -> SearchSpace:
    """The search space that `given` means: a shipped bare name, or a YAML file.

    Raises:
        UnknownNameError: a bare name that is not shipped.
        ConfigurationError: with every fault of the file.
    """
    path = loader.find("search_spaces", str(given))
    return loader.load(path, SearchSpace, Catalogue())


def tune_study(
    text: str,
    data: str,
    model: str,
    *,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    candidates: int = 24,
    overrides: Sequence[str] = (),
) -> StudyConfig:
    """A study of the best parameters of a family, without a file.

    The defaults suit a small convolutional network on a two-core machine; `overrides` change any of them.
    ReLU and the family's default are tried first and are the controls. Candidates keep their own gain
    and are scored at the best of four learning rates.

    Args:
        text: a name ("b_silu") or an expression with parameters ("sigmoid(k*x)").
        data: a data set's name, a folder or `package.module:loader`.
        model: a model's name or `package.module:factory`.
        ranges: low and high of each parameter to tune. By default all parameters of a named family, each
            from a tenth of its default to ten times it. A range above zero is sampled logarithmically.
        candidates: how many values are tried, ReLU and the default included.
        overrides: `key.key=value` texts, such as "recipe.epochs=20".

    Raises:
        UnknownNameError, ExpressionError, UsageError: a family that cannot be read or has nothing to tune.
        ConfigurationError: with every fault of the values given.
    """
    ranges = ranges or _default_ranges(text)
    named = canonical_name(text.partition("(")[0])
    controls = ["relu", text] if named else ["relu"]
    word = named or "expression"
    rates = list(SMALL_NETWORK.rates)
    value: dict[str, Any] = {
        "name": f"tune_{word}",
        "description": f"The best {', '.join(ranges)} of {text}",
        "space": {
            "name": f"tune_{word}",
            "template": "family",
            "family": text,
            "parameters": {
                name: {"low": low, "high": high, "log": low > 0 and high > 0} for name, (low, high) in ranges.items()
            },
            "gain": "own",
        },
        "recipe": {**SMALL_NETWORK.recipe, "data": data, "model": model},
        "search": {
            "sampler": "tpe",
            "candidates": candidates,
            "batch": 4,
            "learning_rates": rates,
            "queue": controls,
        },
        "final": {"learning_rates": rates, "replicates": 8, "controls": controls},
    }
    document = yamlfile.Document(f"tune {text}", value)
    loader.apply_overrides(document, overrides)
    return loader.check(document, StudyConfig, Catalogue())


def _default_ranges(text: str) -> dict[str, tuple[float, float]]:
    if canonical_name(text.partition("(")[0]) is None:
        if text.isidentifier():
            family(text)  # a misspelt name: refused with the nearest
        raise UsageError(
            f"{text} is an expression: say which of its parameters to tune and in which range, low to high."
        )
    ranges = {name: (value / 10, value * 10) for name, value in family(text).defaults.items()}
    if not ranges:
        raise UsageError(f"{text} has no parameter to tune. Give a family such as b_silu (alpha) or silu (beta).")
    fixed = [name for name, (low, high) in ranges.items() if low >= high]
    if fixed:
        raise UsageError(f"{text}: give a range for {', '.join(fixed)}; its value here has no tenth and tenfold.")
    return ranges

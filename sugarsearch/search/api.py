"""The search from Python: your own model and tensors, or a family to tune."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from torch import nn

from sugarsearch.config.schema import Recipe, SearchConfig, SearchSpace, StudyConfig
from sugarsearch.config.verdict import FinalConfig
from sugarsearch.data.splits import tensor_split
from sugarsearch.errors import UnknownNameError
from sugarsearch.evaluation.executor import InlineExecutor
from sugarsearch.runs.load import load_space, tune_study
from sugarsearch.runs.observer import Observer
from sugarsearch.runs.results import StudyResult
from sugarsearch.runs.yours import EXECUTION, checked, plain, rates_for, recipe_of, shown
from sugarsearch.search.study import run_study

_SEARCH: Final = frozenset(SearchConfig.model_fields) - {"candidates"}


def search(
    model_fn: Callable[[], nn.Module],
    train: tuple[Any, Any],
    val: tuple[Any, Any],
    space: str | Path | SearchSpace | Mapping[str, Any],
    recipe: Mapping[str, Any] | Recipe,
    trials: int = 200,
    run: Path | str = "runs/mine",
    *,
    final: Mapping[str, Any] | FinalConfig | None = None,
    observer: Observer | None = None,
    allow_changes: bool = False,
    **settings: Any,
) -> StudyResult:
    """Search a surrogate for your own model and data, in this process; the same call resumes.

    The final table's runs use fresh seeds but are scored on `val`, for there is no other data; it says so.

    Args:
        model_fn: makes your network anew, with its own initial weights, drawn from torch's seed. Its ReLUs are
            replaced; see `sugarsearch.apply` for what counts as one.
        train: inputs (uint8 images [N, C, H, W] or floats [N, ...]) and integer labels [N]; NumPy or torch.
        val: the same, for scoring candidates.
        space: a shipped search space's name, a YAML file, or the space itself.
        recipe: how to train, such as {"epochs": 20, "optimizer": "adam"}; its data and model are yours.
        trials: how many candidates are tried.
        run: the run folder.
        final: settings of the final table; by default controls ReLU and B-SiLU at the learning rates of the search.
        observer: told how it goes; None: progress is shown on a terminal and in a notebook, and nowhere else.
        allow_changes: resume although packages have changed since the run began; the result's note says so.
        **settings: fields of SearchConfig (learning_rates, sampler, batch, seed, ...) and of ExecutionConfig
            (device, mode, threads).

    Returns:
        The result; `.best` is the surrogate with the highest screening score.

    Raises:
        ConfigurationError: with every fault of space, recipe and settings.
        DataError: tensors that cannot be used.
        RunError: the folder is in use, or belongs to another study: other data (by fingerprint), another model
            function (by name), recipe or space; or it was begun with other package versions.
        NothingFinishedError: every candidate failed.
    """
    split = tensor_split(train, val)
    recipe = recipe_of(model_fn, {"train": split.train, "validation": split.validation}, recipe)
    space = load_space(space) if isinstance(space, str | Path) else space
    config = _study(plain(space), recipe, trials, None if final is None else plain(final), settings)
    executor = partial(InlineExecutor, split=split, model_factory=model_fn)
    with shown(observer) as watching:
        return run_study(config, run, watching, make_executor=executor, final_scoring=None, allow_changes=allow_changes)


def tune(
    family: str,
    data: str,
    model: str,
    run: Path | str,
    *,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    candidates: int = 24,
    overrides: Sequence[str] = (),
    observer: Observer | None = None,
    allow_changes: bool = False,
) -> StudyResult:
    """Find the best parameters of a family, such as B-SiLU's alpha; the same call resumes.

    See `load.tune_study` for the family, its ranges and overrides, `search` for `observer`, and `run_study` for
    `allow_changes`.

    Returns:
        The result; `.best` is the surrogate with the highest screening score.
    """
    config = tune_study(family, data, model, ranges=ranges, candidates=candidates, overrides=overrides)
    with shown(observer) as watching:
        return run_study(config, run, watching, allow_changes=allow_changes)


def _study(
    space: dict[str, Any], recipe: dict[str, Any], trials: int, final: dict[str, Any] | None, settings: dict[str, Any]
) -> StudyConfig:
    execution = {name: settings[name] for name in settings if name in EXECUTION}
    search = {name: settings[name] for name in settings if name not in EXECUTION}
    unknown = [name for name in search if name not in _SEARCH]
    if unknown:
        raise UnknownNameError("setting", unknown[0], [*_SEARCH, *EXECUTION, "final", "observer", "allow_changes"])
    rates = search.setdefault("learning_rates", rates_for(recipe))
    value = {
        "name": "mine",
        "space": space,
        "recipe": recipe,
        "search": {"candidates": trials, **search},
        "final": final or {"learning_rates": rates},
        "execution": execution,
    }
    return checked(StudyConfig, value, "search()")

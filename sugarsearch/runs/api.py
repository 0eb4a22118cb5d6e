"""Comparisons from Python: your own model and tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from sugarsearch.config.comparison import ComparisonConfig
from sugarsearch.config.schema import Recipe, SearchSpace
from sugarsearch.config.verdict import VerdictConfig
from sugarsearch.data.arrays import from_pairs
from sugarsearch.data.splits import Split
from sugarsearch.errors import UnknownNameError, UsageError
from sugarsearch.evaluation.executor import InlineExecutor
from sugarsearch.runs.comparison import run_comparison
from sugarsearch.runs.export import entry_of
from sugarsearch.runs.load import RANDOM_FROM, load_space
from sugarsearch.runs.observer import Observer
from sugarsearch.runs.results import StudyResult
from sugarsearch.runs.yours import EXECUTION, checked, plain, rates_for, recipe_of, shown
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.verdict.arms import label_of

_TEST = "test"


def compare(
    surrogates: Mapping[str, Surrogate | str] | Sequence[Surrogate | str],
    model_fn: Callable[[], nn.Module],
    train: tuple[Any, Any],
    val: tuple[Any, Any],
    test: tuple[Any, Any] | None,
    recipe: Mapping[str, Any] | Recipe,
    run: Path | str = "runs/comparison",
    *,
    final: Mapping[str, Any] | VerdictConfig | None = None,
    space: str | Path | SearchSpace | None = RANDOM_FROM,
    seed: int = 0,
    observer: Observer | None = None,
    allow_changes: bool = False,
    **execution: Any,
) -> StudyResult:
    """Set surrogates against tuned ReLU and other controls, with your own model and data; the same call resumes.

    Each arm is tuned over learning rates on `val`, then run on seeds of its own and scored on `test`. It trains in this
    process.

    Args:
        surrogates: what is compared, by what it is called: {"mine": g, "tanh": "tanh(x)+1"}, or a list of them alone.
            ReLU, B-SiLU, each one at unit gain and a random g of its gain stand beside them.
        model_fn: makes your network anew, with its own initial weights, drawn from torch's seed. Its ReLUs are
            replaced; see `sugarsearch.apply` for what counts as one.
        train: inputs (uint8 images [N, C, H, W] or floats [N, ...]) and integer labels [N]; NumPy or torch.
        val: the same, for choosing learning rates.
        test: the same, for the final runs; None: they are scored on `val`, and the result says so.
        recipe: how to train, such as {"epochs": 20, "optimizer": "adam"}; its data and model are yours.
        run: the run folder.
        final: settings of the verdict: learning_rates, replicates (seeds of each arm), ablations, ...
        space: a search space, by name, file or itself, that a random g of each one's gain is drawn from; None: there
            is no such control.
        seed: what all other seeds come from.
        observer: told how it goes; None: progress is shown on a terminal and in a notebook, and nowhere else.
        allow_changes: resume although packages have changed since the run began; the result's note says so.
        **execution: fields of ExecutionConfig (device, mode, threads).

    Returns:
        The result; `.table.verdicts` has a verdict on each surrogate, `.table.rows` the arms.

    Raises:
        ConfigurationError: with every fault of surrogates, recipe and settings.
        DataError: tensors that cannot be used.
        AdmissionError: a surrogate that must not be trained with.
        RunError: the folder is in use, or belongs to another comparison or was begun with other package versions.
        NothingFinishedError: every run failed.
    """
    unknown = [name for name in execution if name not in EXECUTION]
    if unknown:
        allowed = [*EXECUTION, "final", "space", "seed", "observer", "allow_changes"]
        raise UnknownNameError("setting", unknown[0], allowed)
    given = {"train": train, "validation": val, **({_TEST: test} if test is not None else {})}
    data = from_pairs(given)
    asked = recipe_of(model_fn, data, recipe)
    drawn_from = load_space(space) if isinstance(space, str | Path) else space
    value = {
        "name": "mine",
        "surrogates": {title: entry_of(g) for title, g in _titled(surrogates).items()},
        "recipe": asked,
        "space": None if drawn_from is None else plain(drawn_from),
        "seed": seed,
        "final": {"learning_rates": rates_for(asked), **({} if final is None else plain(final))},
        "execution": execution,
    }
    config = checked(ComparisonConfig, value, "compare()")
    executor = partial(
        InlineExecutor,
        split=Split(data["train"], data["validation"]),
        scoring={name: data[name] for name in (_TEST,) if name in data},
        model_factory=model_fn,
    )
    with shown(observer) as watching:
        scoring = None if test is None else _TEST
        return run_comparison(config, run, watching, executor, scoring, allow_changes)


def _titled(surrogates: Mapping[str, Surrogate | str] | Sequence[Surrogate | str]) -> Mapping[str, Surrogate | str]:
    """By what they are called; those without a title by their text."""
    if isinstance(surrogates, Mapping):
        return surrogates
    titles = [given if isinstance(given, str) else label_of(given) for given in surrogates]
    repeated = next((title for title in titles if titles.count(title) > 1), None)
    if isinstance(surrogates, str) or repeated is not None:
        what = "one text is no list" if repeated is None else f"{repeated!r} is there twice"
        raise UsageError(
            f"surrogates is {surrogates!r}: {what}; give a list, each once, or a dict by what to call them."
        )
    return dict(zip(titles, surrogates, strict=True))

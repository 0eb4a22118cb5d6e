"""A g to take away: a Python file that needs torch alone, LaTeX, and a study that trains it again."""

from __future__ import annotations

import textwrap
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from sugarsearch.catalog import Catalogue
from sugarsearch.config import loader, yamlfile
from sugarsearch.config.schema import StudyConfig
from sugarsearch.errors import ConfigurationError, RunError, SugarsearchWarning
from sugarsearch.nn.admission import admit
from sugarsearch.nn.standalone import standalone_source
from sugarsearch.runs.folder import RESULTS
from sugarsearch.runs.load import load_study
from sugarsearch.runs.results import StudyResult, write_atomically
from sugarsearch.symbolic.library import is_file_name
from sugarsearch.symbolic.library import surrogate as named_surrogate
from sugarsearch.symbolic.surrogate import Surrogate

DEFAULT_STUDY: Final = "quickstart"
"""Whose recipe a g is trained again by, if it comes of no run."""

_WIDTH: Final = 118
_MAX_NAME: Final = 60


@dataclass(frozen=True)
class Find:
    """A g of a run. origin: in words, where it comes from."""

    surrogate: Surrogate
    result: StudyResult
    origin: str

    @property
    def config(self) -> dict[str, Any]:
        """The run's study or comparison, as its results hold it."""
        return self.result.config


def find(folder: Path, candidate: int | None = None) -> Find:
    """A g that the run in `folder` has found.

    candidate: its number in the order of proposal; None: the best found, which is the best finalist of the final
    table, or without one the candidate with the highest screening score.

    Raises:
        RunError: no results, none finished, or no such candidate.
    """
    result = StudyResult.load(folder / RESULTS)
    study = f"the {'study' if result.is_search else 'comparison'} {result.study}"
    if candidate is not None:
        row = next((row for row in result.screening if row.index == candidate), None)
        if row is None:
            known = f"its numbers are 0 to {len(result.screening) - 1}" if result.screening else "it has none"
            raise RunError(f"{folder} has no candidate {candidate}; {known}.")
        return Find(row.restore(), result, f"candidate {candidate} of {study}")
    rows = result.final["rows"] if result.final else []
    found = next((row["surrogate"] for row in rows if row["role"] == "finalist"), None)
    g = result.best if found is None else Surrogate.from_json(found)
    return Find(g, result, f"the best found by {study}")


def export(
    surrogate: Surrogate | str,
    folder: Path | str,
    *,
    study: StudyConfig | str | Path = DEFAULT_STUDY,
    origin: str = "",
) -> list[Path]:
    """Write g.py, g.tex and g.yaml into `folder`; files of these names there are replaced.

    g.py needs torch and nothing else. g.yaml is a study that trains this g again beside the controls
    (`sugarsearch search g.yaml`); `sugarsearch.surrogate("g.yaml")` reads g back from it.

    Args:
        surrogate: g, or its name or text.
        folder: made if need be.
        study: whose recipe, learning rates and controls g.yaml takes: a study, a shipped name or a file.
        origin: where g comes from, for the files' heads.

    Returns:
        The files written.

    Raises:
        AdmissionError: a g that must not be trained with.
        RunError: a file cannot be written.
        UnknownNameError, ExpressionError, ConfigurationError: a g or a study that cannot be read.
    """
    g = named_surrogate(surrogate) if isinstance(surrogate, str) else surrogate
    admit(g)
    base = study if isinstance(study, StudyConfig) else load_study(study)
    texts = {
        "g.py": standalone_source(g, origin),
        "g.tex": _latex(g, origin),
        "g.yaml": _yaml(g, rerun_study(g, base), origin),
    }
    for name, text in texts.items():
        write_atomically(Path(folder) / name, text)
    return [Path(folder) / name for name in texts]


def rerun_study(g: Surrogate, study: StudyConfig) -> StudyConfig:
    """`study` with g as its one candidate."""
    value = study.model_dump(mode="json")
    text, gain = text_and_gain(g)
    value["name"] = f"{study.name[:_MAX_NAME]}_g"
    value["description"] = f"One g, trained by the recipe of {study.name}"
    value["space"]["gain"] = gain
    # One candidate ranks nothing, so that it may keep its gain at any number of learning rates.
    value["search"] |= {"candidates": 1, "queue": [text], "pruning": None, "allow_gain_ranking": gain == "own"}
    value["final"]["finalists"] = 1
    return loader.check(yamlfile.Document("g.yaml", value), StudyConfig)


def study_of(config: dict[str, Any]) -> StudyConfig:
    """The study of a run, if it can be run from a file; else the default study, with a warning that says why."""
    value = config if "search" in config else _as_study(config)
    try:
        return loader.check(yamlfile.Document(RESULTS, value), StudyConfig, Catalogue())
    except ConfigurationError as error:
        reason = error.problems[0].message
        warnings.warn(
            f"g.yaml takes the recipe of {DEFAULT_STUDY}: that of the run cannot be run from a file, because {reason}",
            SugarsearchWarning,
            stacklevel=2,
        )
        return load_study(DEFAULT_STUDY)


def _as_study(comparison: dict[str, Any]) -> dict[str, Any]:
    """The default study with a comparison's recipe, seed and verdict."""
    value = load_study(DEFAULT_STUDY).model_dump(mode="json")
    final = comparison["final"]
    search = {"sampler": "random", "learning_rates": final["learning_rates"], "seed": comparison["seed"]}
    value["search"] |= {**search, "pruning": None, "allow_gain_ranking": True}
    value["final"] |= final
    kept = {name: comparison[name] for name in ("name", "recipe", "execution")}
    return {**value, **kept, "space": comparison["space"] or value["space"]}


def text_and_gain(g: Surrogate) -> tuple[str, str]:
    """Text and rule for gain that together give g again."""
    shape = replace(g, scale=1.0)
    values = ", ".join(f"{name}={value!r}" for name, value in g.parameters)
    text = f"{g.name}({values})" if values else g.name
    if not g.name or named_surrogate(text) != shape:
        text = str(g.bound)
    if g.scale == 1:
        return text, "own"
    if g.scale == g.at_unit_gain().scale:
        return text, "unit"
    return g.formula, "own"


def entry_of(given: Surrogate | str) -> dict[str, str]:
    """The entry of a comparison's file; a g from another file is written out, for that file may change."""
    if isinstance(given, str) and not is_file_name(given):
        return {"g": given, "gain": "own"}
    text, gain = text_and_gain(named_surrogate(given) if isinstance(given, str) else given)
    return {"g": text, "gain": gain}


def _head(g: Surrogate, origin: str) -> list[str]:
    facts = [f"{g.label}: gain {g.gain:.6g}, g(0) = {g.at_zero:.6g}"]
    if origin:
        facts.append(f"From {origin}.")
    return [line for fact in facts for line in textwrap.wrap(fact, _WIDTH, break_long_words=False)]


def _latex(g: Surrogate, origin: str) -> str:
    lines = [*_head(g, origin), "Needs amsmath. \\sigma is the logistic function, \\Phi and \\varphi are the normal"]
    lines.append("distribution's function and density.")
    comment = "\n".join(f"% {line}" for line in lines)
    return f"{comment}\n\\begin{{equation}}\n  g(x) = {g.latex()}\n\\end{{equation}}\n"


def _yaml(g: Surrogate, study: StudyConfig, origin: str) -> str:
    lines = [
        *_head(g, origin),
        "",
        "Train it again beside its controls:    sugarsearch search g.yaml",
        "The same on other seeds:               sugarsearch search g.yaml --run runs/again --set search.seed=1",
        'Read g from here:                      sugarsearch.surrogate("g.yaml")',
    ]
    comment = "\n".join(f"# {line}".rstrip() for line in lines)
    return f"{comment}\n{yaml.safe_dump(study.model_dump(mode='json'), sort_keys=False, allow_unicode=True)}"

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from sugarsearch.config.schema import StudyConfig
from sugarsearch.evaluation.executor import InlineExecutor
from sugarsearch.runs.load import load_study
from sugarsearch.runs.observer import Silent
from sugarsearch.runs.results import StudyResult
from sugarsearch.search.study import run_study

TINY = (
    "name=tiny",
    "recipe.data.train_limit=100",
    "recipe.data.test_limit=100",
    "recipe.model.options.depth=2",
    "recipe.model.options.width=6",
    "recipe.epochs=2",
    "search.candidates=9",
    "search.batch=3",
    "search.population=3",
    "search.tournament=2",
    "search.replicates=1",
    "search.learning_rates=[0.003, 0.03]",
    "search.pruning={rungs: [1], keep: 0.5}",
    "final.learning_rates=[0.01]",
    "final.rerun={candidates: 3, replicates: 2}",
    "final.tuning_replicates=3",
    "final.replicates=7",
    "final.finalists=1",
    "execution.workers=1",
    "execution.threads=1",
)


def tiny(*changes: str) -> StudyConfig:
    return load_study("quickstart", [*TINY, *changes])


class TinyStudy:
    """A study of three batches, of a second or so; run once, uninterrupted, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, tiny()
        self.result = self.run(folder)
        self.told = self.told_by(self.result)
        self.records = (folder / "records.jsonl").read_bytes()

    def run(
        self, folder: Path, *changes: str, observer: Silent | None = None, allow_changes: bool = False
    ) -> StudyResult:
        """Run or resume it, in this process."""
        return run_study(tiny(*changes), folder, observer, InlineExecutor, allow_changes=allow_changes)

    def copy(self, folder: Path) -> Path:
        """The finished run once more, to be damaged."""
        return Path(shutil.copytree(self.folder, folder, dirs_exist_ok=True))

    @staticmethod
    def told_by(result: StudyResult) -> Any:
        """All that a study found, without how long it took."""
        return [dataclasses.replace(row, seconds=0.0) for row in result.screening], result.final


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    """A finished study, see `TinyStudy`."""
    return TinyStudy(tmp_path_factory.mktemp("tiny") / "run")

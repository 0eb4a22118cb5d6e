"""Whole studies: tiny networks truly trained on digits, in this process unless said otherwise."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from sugarsearch.config.comparison import ComparisonConfig
from sugarsearch.config.schema import StudyConfig
from sugarsearch.errors import NothingFinishedError, RunError, UsageError
from sugarsearch.evaluation.executor import InlineExecutor
from sugarsearch.evaluation.records import RecordLog
from sugarsearch.runs.load import load_study, tune_study
from sugarsearch.runs.observer import Silent, StudyProgress
from sugarsearch.runs.results import StudyResult
from sugarsearch.search.study import run_study

SMALL = (
    "recipe.data.train_limit=200",
    "recipe.data.test_limit=100",
    "recipe.model.options.depth=3",
    "recipe.model.options.width=8",
    "recipe.epochs=3",
    "search.candidates=10",
    "search.batch=4",
    "search.population=4",
    "search.replicates=1",
    "search.learning_rates=[0.003, 0.03]",
    "final.learning_rates=[0.01]",
    "final.rerun={candidates: 3, replicates: 2}",
    "final.tuning_replicates=3",
    "final.replicates=7",
    "execution.workers=1",
    "execution.threads=1",
)


def small(*changes: str) -> StudyConfig:
    return load_study("quickstart", [*SMALL, *changes])


def run(config: StudyConfig, folder: Path, observer: Silent | None = None) -> StudyResult:
    return run_study(config, folder, observer, make_executor=InlineExecutor)


def told(result: StudyResult) -> tuple[list[Any], Any]:
    """All that a study found, without how long it took."""
    return [dataclasses.replace(row, seconds=0.0) for row in result.screening], result.final


class StopError(Exception):
    """Stands for whatever ends a controller."""


class Stopping(Silent):
    """Ends the study after so many batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def progress(self, progress: StudyProgress) -> None:
        self.left -= 1
        if not self.left:
            raise StopError


@pytest.fixture(scope="module")
def pruned_config() -> StudyConfig:
    return small("search.pruning={rungs: [1, 2], keep: 0.5}")


@pytest.fixture(scope="module")
def whole(pruned_config: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyResult, Path]:
    """The uninterrupted study that others are compared with."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return run(pruned_config, folder), folder


def test_a_study_ends_with_all_it_promises(whole: tuple[StudyResult, Path]) -> None:
    result, folder = whole
    assert [row.index for row in result.screening] == list(range(10))
    assert [row.origin for row in result.screening[:3]] == ["queue"] * 3
    assert {"mutation", "crossover"} & {row.origin for row in result.screening[4:]}
    assert {row.status for row in result.screening} == {"COMPLETED", "PRUNED"}
    assert all(row.restore().gain == pytest.approx(1) for row in result.screening)
    assert result.best == max((r for r in result.screening if r.finished), key=lambda r: r.score).restore()
    assert StudyResult.load(folder / "results.json") == result
    assert result.final is not None
    assert {row["role"] for row in result.final["rows"]} == {"finalist", "control"}
    assert result.final["scored_on"] == "test"
    assert {"torch", "optuna", "python"} <= result.versions.keys()
    assert result.device == "cpu"
    assert (folder / "hall_of_fame.csv").read_text().count("\n") > 1


def test_scores_are_those_of_the_records(whole: tuple[StudyResult, Path]) -> None:
    result, folder = whole
    records = [r for r in RecordLog(folder / "records.jsonl").load() if r.job.stage == "screening"]
    for row in result.screening:
        mine = [r for r in records if r.job.surrogate == row.restore()]
        assert len(mine) == 2
        assert row.score == max(r.value for r in mine)
        assert {f"{r.job.learning_rate:g}": r.value for r in mine} == row.scores_by_learning_rate
    assert {len(r.scores) for r in records if r.status == "PRUNED"} <= {1, 2}


@pytest.mark.filterwarnings("ignore:Target and region quantiles")  # few trials: all importances are equal
def test_the_database_mirrors_the_study_for_optunas_own_tools(whole: tuple[StudyResult, Path]) -> None:
    result, folder = whole
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{folder / 'study.db'}")
    assert [t.number for t in study.trials] == list(range(10))
    assert {t.state for t in study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert [t.value for t in study.trials] == [row.score for row in result.screening]
    assert [list(t.intermediate_values.values()) for t in study.trials] == [r.epochs_scores for r in result.screening]
    assert set(optuna.importance.get_param_importances(study)) >= {"nodes", "depth", "gain", "g(0)", "origin"}


@pytest.mark.parametrize(("batches", "lost"), [(1, None), (2, None), (1, "study.db")])
def test_a_stopped_study_resumes_to_the_uninterrupted_result(
    whole: tuple[StudyResult, Path], pruned_config: StudyConfig, tmp_path: Path, batches: int, lost: str | None
) -> None:
    with pytest.raises(StopError):
        run(pruned_config, tmp_path, Stopping(batches))
    if lost:
        (tmp_path / lost).unlink()
    result = run(pruned_config, tmp_path)
    assert told(result) == told(whole[0])
    assert StudyResult.load(tmp_path / "results.json") == result
    ids = [record.job.id for record in RecordLog(tmp_path / "records.jsonl").load()]
    assert len(ids) == len(set(ids))  # nothing was run twice


KILLED = """
import os, signal, sys
from pathlib import Path
from sugarsearch.config import loader
from sugarsearch.config.comparison import ComparisonConfig
from sugarsearch.config.schema import StudyConfig
from sugarsearch.evaluation.executor import InlineExecutor
from sugarsearch.runs.observer import Silent
from sugarsearch.search.study import run_study

class Killer(Silent):
    def stage(self, name, done, total):
        if name == "screening" and done == 9:  # the first job of the second batch is recorded
            os.kill(os.getpid(), signal.SIGKILL)

run_study(loader.load(sys.argv[1], StudyConfig), sys.argv[2], Killer(), make_executor=InlineExecutor)
"""


def test_kill_9_within_a_batch_loses_nothing(
    whole: tuple[StudyResult, Path], pruned_config: StudyConfig, tmp_path: Path
) -> None:
    arguments = [str(whole[1] / "study.yaml"), str(tmp_path / "run")]
    death = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, check=False)
    assert death.returncode == -signal.SIGKILL, death.stderr.decode()
    recorded = (tmp_path / "run" / "records.jsonl").read_text().splitlines()
    assert 8 < len(recorded) < 16
    assert told(run(pruned_config, tmp_path / "run")) == told(whole[0])
    assert (tmp_path / "run" / "records.jsonl").read_text().splitlines()[: len(recorded)] == recorded


def test_a_finished_study_run_again_trains_nothing(whole: tuple[StudyResult, Path], pruned_config: StudyConfig) -> None:
    result, folder = whole
    before = (folder / "records.jsonl").read_bytes()
    assert told(run(pruned_config, folder)) == told(result)
    assert (folder / "records.jsonl").read_bytes() == before


def test_more_candidates_continue_a_study(tmp_path: Path) -> None:
    run(small("search.candidates=5"), tmp_path / "grown")
    grown = run(small("search.candidates=7"), tmp_path / "grown")
    assert told(grown)[0] == told(run(small("search.candidates=7"), tmp_path / "at_once"))[0]


def test_a_changed_study_is_refused_and_harms_nothing(
    whole: tuple[StudyResult, Path], pruned_config: StudyConfig
) -> None:
    folder = whole[1]
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}
    with pytest.raises(RunError, match=r"recipe.epochs: the run has 3, given is 4"):
        run(small("search.pruning={rungs: [1, 2], keep: 0.5}", "recipe.epochs=4"), folder)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}


class Noting(Silent):
    """Keeps what an observer is told."""

    def __init__(self) -> None:
        self.resumed = -1
        self.steps: list[StudyProgress] = []
        self.stages: list[tuple[str, int, int]] = []
        self.hall: list[str] = []
        self.folder = Path()

    def started(self, config: StudyConfig | ComparisonConfig, folder: Path, resumed: int) -> None:
        self.resumed, self.folder = resumed, folder

    def progress(self, progress: StudyProgress) -> None:
        self.steps.append(progress)
        self.hall.append((self.folder / "hall_of_fame.csv").read_text())

    def stage(self, name: str, done: int, total: int) -> None:
        self.stages.append((name, done, total))


def test_observers_are_told_and_the_hall_of_fame_keeps_up(pruned_config: StudyConfig, tmp_path: Path) -> None:
    with pytest.raises(StopError):
        run(pruned_config, tmp_path, Stopping(1))
    noting = Noting()
    result = run(pruned_config, tmp_path, noting)
    assert noting.resumed == 4
    assert [(p.done, p.total) for p in noting.steps] == [(8, 10), (10, 10)]
    for progress, hall in zip(noting.steps, noting.hall, strict=True):
        best = max((r for r in result.screening[: progress.done] if r.finished), key=lambda r: r.score)
        assert (progress.best_label, progress.best_score) == (best.label, best.score)
        assert f",{best.index},{best.score}," in hall.splitlines()[1]
    assert noting.steps[-1].seconds_left == 0
    assert noting.steps[-1].pruned == sum(row.status == "PRUNED" for row in result.screening)
    last = {name: (done, total) for name, done, total in noting.stages}
    assert last["screening"] == (20, 20)
    assert last["final"][0] == last["final"][1]


def test_the_time_limit_ends_the_screening_with_a_table_of_what_is_there(tmp_path: Path) -> None:
    config = small("search.candidates=4000", "search.time_limit=2", "search.queue=[relu]")
    result = run(config, tmp_path)
    assert 4 <= len(result.screening) < 4000
    assert len(result.screening) % 4 == 0
    ended = f"the screening ended after {len(result.screening)} of 4000 candidates"
    assert result.note == f"the time limit of 2 s was over: {ended}"
    assert result.final is not None
    assert StudyResult.load(tmp_path / "results.json").note == result.note


def test_no_time_at_all_finishes_nothing(tmp_path: Path) -> None:
    with pytest.raises(NothingFinishedError, match="time limit"):
        run(small("search.time_limit=1e-6"), tmp_path)


def test_an_exhausted_space_ends_the_screening_and_says_so(tmp_path: Path) -> None:
    constants = "{low: 0.5, high: 0.501}"
    tiny = f"{{name: t, template: negative_side, unary: [tanh], max_depth: 2, max_nodes: 5, constants: {constants}}}"
    config = small("search.candidates=50", "search.queue=[relu]", f"space={tiny}")
    result = run(config, tmp_path)
    count = len(result.screening)
    assert 2 <= count < 50
    words = f"nothing new was found in the search space: the screening ended after {count} of 50 candidates"
    assert result.note == words
    assert told(run(config, tmp_path)) == told(result)


def test_a_candidate_out_of_time_is_told_and_the_study_goes_on(tmp_path: Path) -> None:
    with pytest.raises(NothingFinishedError, match="8 TIMEOUT"):
        run(small("search.candidates=8", "search.trial_time_limit=1e-6"), tmp_path)
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert [trial.value for trial in study.trials] == [0.1] * 8


def test_if_all_fail_the_reasons_are_counted(tmp_path: Path) -> None:
    config = small(
        "search.candidates=3",
        "space.gain=own",
        "search.allow_gain_ranking=true",
        "search.queue=['1/x', '1/(x-1)', exp(9*x)]",
    )
    with pytest.raises(NothingFinishedError, match=r"none of 3 candidates finished \(3 REJECTED\)") as failure:
        run(config, tmp_path)
    assert "1 x REJECTED: 1/x is not admitted" in str(failure.value)
    assert not (tmp_path / "results.json").exists()


def test_a_queue_without_unit_gain_is_refused_before_there_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be scaled"):
        run(small("search.queue=['0*x']"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_family_is_tuned_at_its_own_gain(tmp_path: Path) -> None:
    config = tune_study(
        "b_silu", "digits", "deep_narrow_mlp", candidates=6,
        overrides=[*(text for text in SMALL if text.startswith(("recipe", "final", "execution"))), "search.batch=3"],
    )  # fmt: skip
    result = run(config, tmp_path)
    labels = [row.label for row in result.screening]
    assert labels[:2] == ["relu", "b_silu(alpha=1.67)"]
    assert all(label.startswith("b_silu(alpha=") for label in labels[2:])
    assert all(0.167 <= row.parameters["alpha"] <= 16.7 for row in result.screening[1:])
    assert {row.scale for row in result.screening} == {1.0}
    assert result.final is not None
    titles = {row["title"] for row in result.final["rows"]}
    assert len(titles) == 5, "the found one, it at unit gain, a random member of its gain, and both controls"


def test_worker_processes_find_what_this_process_finds(whole: tuple[StudyResult, Path], tmp_path: Path) -> None:
    """One worker, the default executor; its single thread sums in the same order."""
    config = small("search.pruning={rungs: [1, 2], keep: 0.5}")
    assert told(run_study(config, tmp_path)) == told(whole[0])

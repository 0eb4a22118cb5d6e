"""Progress: a live table on a terminal, plain lines elsewhere, and the same facts in both."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from sugarsearch.config import loader
from sugarsearch.config.schema import StudyConfig
from sugarsearch.report import live
from sugarsearch.runs.observer import Observer, StudyProgress
from sugarsearch.runs.results import StudyResult

PROGRESS = StudyProgress(
    done=16,
    total=40,
    best_label="[x]sigmoid(4.123456*x)",
    best_score=0.8765,
    pruned=5,
    failed=2,
    per_hour=1234.0,
    seconds_left=70.0,
)


def tell(observer: Observer) -> None:
    config = loader.load(loader.find("studies", "quickstart"), StudyConfig)
    observer.started(config, Path("runs/quick"), resumed=8)
    observer.stage("screening", 1, 2)
    observer.progress(PROGRESS)
    for done in range(101):
        observer.stage("final", done, 100)
    observer.finished(StudyResult("quickstart", "runs", {}, [], None, {}, "cpu", 61.0))


def shown(terminal: bool) -> str:
    stream = io.StringIO()
    with live.watch(Console(file=stream, force_terminal=terminal, width=100)) as observer:
        tell(observer)
    return stream.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_every_fact_is_shown(terminal: bool) -> None:
    text = shown(terminal)
    for fact in (
        "quickstart",
        "8 candidates",
        "16 of 40",
        "[x]sigmoid(4.12*x)",
        "87.6",
        "5",
        "2",
        "1,234 an hour",
    ):
        assert fact in text, fact
    for fact in ("about 1 min 10 s", "100 of 100 jobs", "1 min 01 s"):
        assert fact in text, fact


def test_elsewhere_there_are_plain_lines_and_not_one_for_each_job() -> None:
    lines = shown(terminal=False).splitlines()
    assert not any("\x1b" in line for line in lines)
    # The first and the last of 100 jobs; the others fall within LINE_EVERY seconds.
    assert sum("fresh seeds" in line for line in lines) == 2


def test_before_anything_has_finished_there_is_no_best() -> None:
    stream = io.StringIO()
    with live.watch(Console(file=stream)) as observer:
        observer.progress(StudyProgress(0, 40, "", None, 0, 0, None, None))
    assert "best so far none yet" in stream.getvalue()


def test_a_failure_inside_ends_the_live_display() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    with pytest.raises(KeyboardInterrupt), live.watch(console):
        raise KeyboardInterrupt
    with live.watch(console):  # rich refuses a second live display while one runs
        pass

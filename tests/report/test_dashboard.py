"""The study's database in optuna-dashboard, the real one, in a real browser: a trial shows its formula."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from sugarsearch.config.schema import SearchSpace
from sugarsearch.runs.load import load_study
from sugarsearch.runs.results import ScreeningRow, StudyResult
from sugarsearch.search import trials
from sugarsearch.search.database import mirror

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results" / "quickstart" / "results.json"
WAIT = 60.0  # seconds, for a server or a page on a busy machine


@pytest.fixture(scope="module")
def rows() -> list[ScreeningRow]:
    return StudyResult.load(RESULTS).screening


@pytest.fixture(scope="module")
def address(rows: list[ScreeningRow], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a dashboard of a mirrored study."""
    path = tmp_path_factory.mktemp("dashboard") / "study.db"
    space: SearchSpace = load_study("quickstart").space
    with mirror(path, "mine", "run", lambda rows: None) as held:
        working = optuna.create_study(direction="maximize")
        working.add_trials([trials.finished(row, space) for row in rows])
        held.extend(working.trials)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("optuna-dashboard")
    server = subprocess.Popen(
        [program, f"sqlite:///{path}", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        found = f"http://127.0.0.1:{port}/dashboard"
        wait_for(lambda: answers(found))
        yield found
    finally:
        server.kill()
        server.wait()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


def wait_for(condition: Any) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.2)


def test_every_trial_is_there_and_its_formula_can_be_read(browser: Any, address: str, rows: list[ScreeningRow]) -> None:
    best = max(rows, key=lambda row: row.score)
    browser.open(f"{address}/studies/1/trials?numbers={best.index}")
    text = "document.body.innerText"
    wait_for(lambda: f"g(x) = {best.restore().formula}" in browser.run(text))
    shown = browser.run(text)
    assert f"{len(rows)} Trials" in shown
    assert f"COMPLETED, {100 * best.score:.1f} % at learning rate {best.best_learning_rate:g}" in shown
    assert browser.errors == []

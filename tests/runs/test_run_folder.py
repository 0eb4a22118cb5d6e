"""The run folder: one controller, one study, an honest refusal."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sugarsearch.config.schema import StudyConfig
from sugarsearch.errors import RunError
from sugarsearch.runs import folder as run_folder
from sugarsearch.runs.load import load_study, tune_study
from sugarsearch.runs.results import ScreeningRow


@pytest.fixture
def config() -> StudyConfig:
    return load_study("quickstart")


HOLDER = """
import pathlib, sys, time
from sugarsearch.runs.folder import held
with held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_controller_is_refused_and_told_who_holds_the_run(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            who = f"process {holder.pid} on {socket.gethostname()}"
            with pytest.raises(RunError, match=who), run_folder.held(tmp_path):
                pass
        finally:
            holder.kill()
    with run_folder.held(tmp_path):  # a killed holder holds nothing
        assert f"process {os.getpid()} on" in (tmp_path / "lock").read_text()


def test_the_lock_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with run_folder.held(tmp_path / "new" / "run"):
            pass


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be a run folder"), run_folder.held(tmp_path / "file"):
        pass


def test_the_same_study_is_taken_up_again(tmp_path: Path, config: StudyConfig) -> None:
    run_folder.settle(tmp_path, config)
    run_folder.settle(tmp_path, config)
    assert load_study(tmp_path / "study.yaml") == config


@pytest.mark.parametrize("name", ["b_silu_alpha", "cifar10_resnet18", "tiny_imagenet_resnet18"])
def test_every_kind_of_study_comes_back_from_its_folder(tmp_path: Path, name: str) -> None:
    given = load_study(name)
    run_folder.settle(tmp_path, given)
    assert load_study(tmp_path / "study.yaml") == given


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("recipe.epochs=3", "recipe.epochs: the run has 20, given is 3"),
        ("recipe.data.validation=0.3", "recipe.data.validation: the run has 0.2, given is 0.3"),
        ("search.seed=1", "search.seed: the run has 0, given is 1"),
        ("search.replicates=7", "search.replicates"),
        ("final.replicates=8", "final.replicates"),
        ("space.max_nodes=9", "space.max_nodes"),
    ],
)
def test_a_changed_study_is_refused_with_the_difference(
    tmp_path: Path, config: StudyConfig, change: str, words: str
) -> None:
    run_folder.settle(tmp_path, config)
    before = (tmp_path / "study.yaml").read_text()
    with pytest.raises(RunError) as refusal:
        run_folder.settle(tmp_path, load_study("quickstart", [change]))
    assert words in str(refusal.value)
    assert str(refusal.value).count("the run has") == 1
    assert (tmp_path / "study.yaml").read_text() == before


@pytest.mark.parametrize(
    "change", ["execution.workers=2", "search.candidates=99", "search.time_limit=5", "search.trial_time_limit=5"]
)
def test_how_it_is_run_and_for_how_long_may_change(tmp_path: Path, config: StudyConfig, change: str) -> None:
    run_folder.settle(tmp_path, config)
    changed = load_study("quickstart", [change])
    run_folder.settle(tmp_path, changed)
    assert load_study(tmp_path / "study.yaml") == changed


def test_another_space_or_sampler_is_a_difference() -> None:
    first = tune_study("b_silu", "digits", "deep_narrow_mlp")
    second = tune_study("b_silu", "digits", "deep_narrow_mlp", ranges={"alpha": (0.5, 2.0)})
    lines = run_folder.differences(first, second)
    assert [line.partition(":")[0] for line in lines] == [
        "space.parameters.alpha.low",
        "space.parameters.alpha.high",
    ]


def test_a_folder_of_something_else_is_refused(tmp_path: Path, config: StudyConfig) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RunError, match="not empty"):
        run_folder.settle(tmp_path, config)
    assert not (tmp_path / "study.yaml").exists()


def test_hall_of_fame_lists_the_finished_best_first(tmp_path: Path, screening_row: Callable[..., ScreeningRow]) -> None:
    rows = [screening_row(0, 0.4), screening_row(1, 0.6), screening_row(2, 0.9, status="PRUNED")]
    run_folder.write_hall_of_fame(tmp_path, rows)
    with (tmp_path / "hall_of_fame.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(line["rank"], line["candidate"], line["score"]) for line in table] == [
        ("1", "1", "0.6"),
        ("2", "0", "0.4"),
    ]
    assert "sigmoid" in table[0]["formula"]


def test_a_folder_whose_controller_died_while_it_began_is_taken(tmp_path: Path, config: StudyConfig) -> None:
    with run_folder.held(tmp_path):
        (tmp_path / ".study.yaml.99999999").write_text("name: qui")
        run_folder.settle(tmp_path, config)
    assert load_study(tmp_path / "study.yaml") == config
    assert not (tmp_path / ".study.yaml.99999999").exists()


def test_a_lock_file_with_anything_in_it_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(b"\xff\x00 process 1 on nowhere")
    with run_folder.held(tmp_path):
        assert (tmp_path / "lock").read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"


def test_what_may_change_on_resume_is_no_part_of_a_studys_identity(config: StudyConfig) -> None:
    own = run_folder.identity(config)
    assert run_folder.identity(load_study("quickstart", ["execution.workers=2", "search.candidates=99"])) == own
    assert run_folder.identity(load_study("quickstart", ["search.seed=1"])) != own

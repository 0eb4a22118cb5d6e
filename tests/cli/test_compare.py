"""sugarsearch compare: the screen, JSON, exit codes, resumption, other settings by --transfer, and the report."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sugarsearch.cli import app
from sugarsearch.runs.results import StudyResult

TINY = (
    "--data", "digits", "--model", "deep_narrow_mlp",
    "--set", "recipe.data={name: digits, train_limit: 150, test_limit: 100}", "--set", "recipe.epochs=1",
    "--set", "recipe.model.options={depth: 2, width: 6}",
    "--set", "final.learning_rates=[0.1, 0.3, 1]", "--set", "final.replicates=8", "--set", "execution.threads=1",
    "--set", "final.ablations=[grafted]", "--device", "cpu",
)  # fmt: skip
GIVEN = ("sigmoid(4*x)", "elu")
DEEPER = "recipe.model.options.depth=3"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["compare", *arguments])


def plain(value: str) -> Any:
    def refuse(word: str) -> Any:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(value, parse_constant=refuse)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A finished comparison with another setting, and what the command said."""
    folder = tmp_path_factory.mktemp("compare") / "run"
    return folder, call(*GIVEN, *TINY, "--run", str(folder), "--transfer", DEEPER)


def test_the_screen_has_the_verdicts_and_every_table(made: tuple[Path, Result]) -> None:
    folder, said = made
    assert said.exit_code == 0, said.stderr
    home, elsewhere = said.stdout.split(f"\n{DEEPER}\n")
    words = " ".join(home.split())
    result = StudyResult.load(folder / "results.json")
    assert result.table is not None
    assert words.startswith(result.table.verdicts[0].sentence)
    assert result.table.verdicts[1].sentence in words
    for title in (*GIVEN, "relu", "b_silu(alpha=1.67)", "elu at unit gain", "elu grafted"):
        assert re.search(rf"^{re.escape(title)}  ", home, re.MULTILINE)
    assert "candidates" not in home
    assert f"written: {folder}/report.html" in home
    tail = elsewhere[elsewhere.index("Against tuned ReLU, by data and model") :]
    assert "deep_narrow_mlp on digits" in tail
    assert max(map(len, home.splitlines()[: len(home.splitlines()) // 2])) <= 100
    assert f"run folder: {folder}" in said.stderr


def test_the_table_over_settings_is_written_in_three_forms(made: tuple[Path, Result]) -> None:
    transfer = made[0] / "transfer"
    assert {path.name for path in transfer.iterdir()} == {DEEPER, "transfer.csv", "transfer.md", "transfer.tex"}
    rows = list(csv.DictReader(io.StringIO((transfer / "transfer.csv").read_text())))
    assert [row["setting"] for row in rows] == ["deep_narrow_mlp on digits"] * 2 + [DEEPER] * 2
    for row in rows:
        result = StudyResult.load((made[0] if " on " in row["setting"] else transfer / DEEPER) / "results.json")
        assert result.table is not None
        titles = {arm.label: arm.title for arm in result.table.rows}
        verdict = next(v for v in result.table.verdicts if titles[v.finalist] == row["surrogate"])
        assert float(row["difference"]) == pytest.approx(verdict.comparisons[0].mean)
        assert row["verdict"] == verdict.phrase


def test_the_other_setting_is_a_run_of_its_own(made: tuple[Path, Result]) -> None:
    home = StudyResult.load(made[0] / "results.json").config
    other = StudyResult.load(made[0] / "transfer" / DEEPER / "results.json").config
    assert other["recipe"]["model"]["options"] == {"depth": 3, "width": 6}
    home["recipe"]["model"]["options"]["depth"] = 3
    assert other == home


def test_the_same_command_trains_nothing_and_json_is_whole(made: tuple[Path, Result]) -> None:
    folders = (made[0], made[0] / "transfer" / DEEPER)
    before = [(folder / "records.jsonl").read_bytes() for folder in folders]
    again = call(*GIVEN, *TINY, "--run", str(made[0]), "--transfer", DEEPER, "--json")
    assert again.exit_code == 0, again.stderr
    value = plain(again.stdout)
    assert list(value) == ["home", DEEPER]
    for folder, result in zip(folders, value.values(), strict=True):
        assert result["final"] == StudyResult.load(folder / "results.json").final
        assert len(result["final"]["verdicts"]) == 2
    assert [(folder / "records.jsonl").read_bytes() for folder in folders] == before


def test_its_verdict_comes_from_the_records_alone(made: tuple[Path, Result]) -> None:
    said = CliRunner().invoke(app, ["verdict", str(made[0])])
    assert said.exit_code == 0, said.stderr
    assert said.stdout == made[1].stdout[: made[1].stdout.index("written: ")]
    value = plain(CliRunner().invoke(app, ["verdict", str(made[0]), "--json"]).stdout)
    assert value["final"] == StudyResult.load(made[0] / "results.json").final


def test_its_file_repeats_it_elsewhere(made: tuple[Path, Result], tmp_path: Path) -> None:
    again = call(str(made[0] / "comparison.yaml"), "--run", str(tmp_path / "again"))
    assert again.exit_code == 0, again.stderr
    first, second = (StudyResult.load(folder / "results.json") for folder in (made[0], tmp_path / "again"))
    assert second.final == first.final
    assert second.config == first.config


def test_its_report_has_all_but_a_search(made: tuple[Path, Result]) -> None:
    page = (made[0] / "report.html").read_text()
    sections = re.findall(r'<section id="([a-z]+)"', page)
    assert sections == ["verdict", "surrogates", "evidence", "activity", "settings"]
    assert "Further comparisons" in page
    assert f"sugarsearch compare {made[0]}/comparison.yaml --run {made[0]}-again" in page
    cards = re.findall(r'<article class="card ([a-z]+)">\s*<h3>(.*?)</h3>', page)
    assert {title for role, title in cards if role == "finalist"} == set(GIVEN)
    assert not any("grafted" in title for _, title in cards), "an ablation has the g of another arm"
    assert "(sigmoid(4*x))</p>" in page or "(elu)</p>" in page, "the headline says of whom it speaks"
    tables = {path.stem for path in (made[0] / "tables").iterdir()}
    assert tables == {"final", "comparisons", "pairs", "same_rate", "tuning"}


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "tiny.yaml").write_text("""\
name: tiny
space: gate
recipe:
  data: {name: digits, train_limit: 150, test_limit: 100}
  model: {name: deep_narrow_mlp, options: {depth: 2, width: 6}}
  epochs: 1
search: {candidates: 2, batch: 2, sampler: random, queue: [elu], learning_rates: [0.3]}
final: {learning_rates: [0.1, 0.3, 1], replicates: 8, controls: [relu], rerun: {candidates: 1, replicates: 1}}
execution: {device: cpu, threads: 1}
""")
    said = CliRunner().invoke(app, ["search", str(folder / "tiny.yaml"), "--run", str(folder / "run")])
    assert said.exit_code == 0, said.stderr
    return folder / "run"


def test_beside_a_searchs_own_verdict_only_the_other_setting_is_trained(search: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = call(str(search), "--run", str(run), "--transfer", DEEPER, "--workers", "1")
    assert said.exit_code == 0, said.stderr
    assert {path.name for path in run.iterdir()} == {"transfer"}
    rows = list(csv.DictReader(io.StringIO((run / "transfer" / "transfer.csv").read_text())))
    home = StudyResult.load(search / "results.json").table
    assert home is not None
    assert home.verdict is not None
    assert [row["setting"] for row in rows] == ["deep_narrow_mlp on digits", DEEPER]
    assert rows[0]["verdict"] == home.verdict.phrase
    assert rows[1]["surrogate"] == "best of tiny"
    other = StudyResult.load(run / "transfer" / DEEPER / "results.json").config
    assert other["seed"] == 1, "seeds are others than the search's"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("elu",), "--data and --model must be given"),
        (("elu", "elu", *TINY), "'elu' is given twice"),
        (("relu", *TINY), "ReLU stands in every comparison"),
        (("exp(exp(x))", *TINY), "is not admitted"),
        (("elu", *TINY, "--transfer", "cifar10"), "--transfer: "),
        (("elu", *TINY, "--transfer", "data=digits,recipe.epoch=2"), "did you mean epochs"),
        (("elu", *TINY, "--set", "recipe.optimizer=adam", "--set", "final.ablations=[adam]"), "compare: the ablation"),
        (("elu", *TINY, "--device", "tpu"), "'tpu' is no device"),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    said = call(*arguments, "--run", str(tmp_path / "run"))
    assert said.exit_code == 2
    assert words in said.stderr
    assert "Traceback" not in said.stderr
    assert said.stdout == ""
    assert not (tmp_path / "run").exists()


def test_another_comparison_in_the_folder_is_refused(made: tuple[Path, Result]) -> None:
    said = call("elu", *TINY, "--run", str(made[0]))
    assert said.exit_code == 2
    assert "surrogates.sigmoid(4*x).g: the run has" in said.stderr


MAIN = "import signal; signal.signal(2, signal.default_int_handler); from sugarsearch.cli import main; main()"


def test_ctrl_c_ends_it_with_130_and_the_same_command_goes_on(tmp_path: Path) -> None:
    records = tmp_path / "run" / "records.jsonl"
    command = [sys.executable, "-c", MAIN, "compare", *GIVEN, *TINY, "--run", str(tmp_path / "run")]
    command += ["--set", "final.replicates=5000"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        while not records.exists() or records.stat().st_size < 100_000:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stdout == ""
    lines = records.read_bytes().splitlines()
    assert all(json.loads(line)["status"] == "COMPLETED" for line in lines)
    assert not (tmp_path / "run" / "results.json").exists()

"""The mirror in SQLite: damaged, foreign, deleted, read by others or without room, the study is whole in the end."""

from __future__ import annotations

import dataclasses
import json
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from optuna_dashboard import save_note

from sugarsearch.errors import RunError, SugarsearchWarning
from sugarsearch.runs.observer import Silent
from sugarsearch.runs.results import ScreeningRow
from sugarsearch.search import bulk, database, trials
from sugarsearch.search.database import mirror
from sugarsearch.search.notes import note_of

Edit = Callable[[Path], object]


def run_name(folder: Path) -> str:
    return str(json.loads((folder / "run.json").read_text())["run"])


def rows_in(folder: Path) -> list[ScreeningRow]:
    with mirror(folder / "study.db", "tiny", run_name(folder), lambda rows: None) as held:
        return list(held.rows)


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the lock."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}


def sql(*statements: str) -> Edit:
    def edit(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    return edit


def cut(share: float) -> Edit:
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def cut_at(length: int) -> Edit:
    return lambda path: path.write_bytes(path.read_bytes()[:length])


def write(content: bytes) -> Edit:
    def edit(path: Path) -> None:
        path.write_bytes(content)

    return edit


def other_program(path: Path) -> None:
    path.unlink()
    sql("CREATE TABLE recipes (name TEXT)", "INSERT INTO recipes VALUES ('soup')")(path)


def half_made(path: Path) -> None:
    """Optuna's tables, and no study in them."""
    path.unlink()
    optuna.storages.RDBStorage(f"sqlite:///{path}").engine.dispose()


DAMAGE: dict[str, Edit] = {
    "empty": write(b""),
    "no database": write(b"no database at all" * 1000),
    "zeros": write(bytes(20_000)),
    "other program": other_program,
    "half made": half_made,
    "trial missing": sql("DELETE FROM trials WHERE number = 4"),
    "last trial's row missing": sql("DELETE FROM trial_user_attributes WHERE trial_id = 9"),
    "score edited": sql(
        "UPDATE trial_user_attributes SET value_json = replace(value_json, '\"score\": 0.', '\"score\": 0.9') "
        "WHERE trial_id = 2 AND key = 'row'"
    ),
    "row no JSON": sql("UPDATE trial_user_attributes SET value_json = '{' WHERE trial_id = 3 AND key = 'row'"),
    "row a list": sql("UPDATE trial_user_attributes SET value_json = '[]' WHERE trial_id = 3 AND key = 'row'"),
    "state unknown": sql("UPDATE trials SET state = 'DREAMING' WHERE number = 1"),
    "distribution garbled": sql("UPDATE trial_params SET distribution_json = 'x'"),
    "study renamed": sql("UPDATE studies SET study_name = 'another'"),
    "run unknown": sql("DELETE FROM study_user_attributes"),
    "future version": sql("UPDATE alembic_version SET version_num = 'v99'"),
    **{f"cut at byte {length}": cut_at(length) for length in (1, 15, 16, 99, 100, 101, 4095, 4096, 4097, 8192)},
    **{f"cut at {share:.0%}": cut(share) for share in (0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.99)},
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_database_that_is_no_mirror_of_the_run_is_set_aside_and_made_again(
    tiny_study: Any, tmp_path: Path, damage: str
) -> None:
    folder = tiny_study.copy(tmp_path / "run")
    path = folder / "study.db"
    DAMAGE[damage](path)
    damaged = path.read_bytes()
    with pytest.warns(SugarsearchWarning, match="study.db is not this run's .* made again from the records"):
        assert rows_in(folder) == []
    assert rows_in(folder) == []  # and no warning any more
    kept = (folder / "study.db.unusable-1").read_bytes()
    assert kept[100:] == damaged[100:]  # SQLite may have noted WAL mode in the header


@pytest.mark.parametrize("damage", ["empty", "cut at 65%", "score edited"])
def test_a_study_without_its_database_is_made_again_from_the_records(
    tiny_study: Any, tmp_path: Path, damage: str
) -> None:
    folder = tiny_study.copy(tmp_path / "run")
    DAMAGE[damage](folder / "study.db")
    with pytest.warns(SugarsearchWarning, match="study.db is not this run's"):
        assert tiny_study.told_by(tiny_study.run(folder)) == tiny_study.told
    assert (folder / "records.jsonl").read_bytes() == tiny_study.records
    assert rows_in(folder) == tiny_study.result.screening


def test_a_deleted_database_is_made_again(tiny_study: Any, tmp_path: Path) -> None:
    folder = tiny_study.copy(tmp_path / "run")
    (folder / "study.db").unlink()
    (folder / "study.db-wal").write_bytes(b"left behind")
    assert tiny_study.told_by(tiny_study.run(folder)) == tiny_study.told
    assert rows_in(folder) == tiny_study.result.screening
    assert (folder / "records.jsonl").read_bytes() == tiny_study.records


def test_the_database_of_another_run_of_a_study_of_this_name_is_not_taken(tiny_study: Any, tmp_path: Path) -> None:
    folder, other = tiny_study.copy(tmp_path / "run"), tmp_path / "other"
    theirs = tiny_study.run(other, "search.seed=5")
    assert tiny_study.told_by(theirs) != tiny_study.told
    shutil.copy(other / "study.db", folder / "study.db")
    with pytest.warns(SugarsearchWarning, match=r"another run.*unusable-1"):
        assert tiny_study.told_by(tiny_study.run(folder)) == tiny_study.told
    shutil.copy(other / "study.db", folder / "study.db")
    with pytest.warns(SugarsearchWarning, match=r"another run.*unusable-2"):
        tiny_study.run(folder)
    assert optuna.load_study(study_name="tiny", storage=f"sqlite:///{folder / 'study.db.unusable-1'}").trials


def test_where_records_and_database_differ_the_records_are_the_truth(tiny_study: Any, tmp_path: Path) -> None:
    folder = tiny_study.copy(tmp_path / "run")
    (folder / "study.db").unlink()
    rows = [dataclasses.replace(row, score=0.99) if row.index == 6 else row for row in tiny_study.result.screening]
    with mirror(folder / "study.db", "tiny", run_name(folder), lambda rows: None) as held:
        held.extend([trials.finished(row, tiny_study.config.space) for row in rows])
    with pytest.warns(SugarsearchWarning, match="candidate 6 has another score than the records say"):
        assert tiny_study.told_by(tiny_study.run(folder)) == tiny_study.told


@pytest.mark.parametrize("lost", ["all", "the last line", "one in the middle", "another recipe's"])
def test_lost_records_are_missed_and_nothing_is_changed(tiny_study: Any, tmp_path: Path, lost: str) -> None:
    folder = tiny_study.copy(tmp_path / "run")
    lines = tiny_study.records.splitlines(keepends=True)
    screening = [line for line in lines if json.loads(line)["job"]["stage"] == "screening"]
    left = {"all": [], "the last line": screening[:-1], "one in the middle": lines[:7] + lines[8:]}
    if lost == "another recipe's":
        tiny_study.run(tmp_path / "other", "recipe.batch_size=32")
        shutil.copy(tmp_path / "other" / "records.jsonl", folder / "records.jsonl")
    else:
        (folder / "records.jsonl").write_bytes(b"".join(left[lost]))
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in ("lock", "run.json")}
    with pytest.raises(RunError, match=r"records.jsonl lacks records of \d of the 9 candidates[^\0]*delete study.db"):
        tiny_study.run(folder)
    assert before == {
        path.name: path.read_bytes() for path in folder.iterdir() if path.name not in ("lock", "run.json")
    }


@pytest.mark.slow
def test_flipped_bytes_are_found_or_harm_nothing(tiny_study: Any, tmp_path: Path) -> None:
    """Of the mirror itself: what is in it is what was told, or it is set aside."""
    folder = tiny_study.copy(tmp_path / "run")
    path, whole = folder / "study.db", (folder / "study.db").read_bytes()
    chance, told, seen = random.Random(0), rows_in(folder), {"set aside": 0, "taken": 0}
    used = [position for position, byte in enumerate(whole) if byte]  # the rest is mostly room
    for _ in range(80):
        garbled = bytearray(whole)
        for position in chance.sample(used, chance.choice((1, 1, 20))):
            garbled[position] ^= 1 << chance.randrange(8)
        path.write_bytes(garbled)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rows = rows_in(folder)
        assert rows == told[: len(rows)]  # a trial that is no longer found is asked for again
        assert len(rows) >= (0 if caught else 6)
        seen["set aside" if caught else "taken"] += 1
    assert min(seen.values()) > 0


def load(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name=None, storage=f"sqlite:///{folder / 'study.db'}")


def test_optunas_own_tools_find_all_that_a_dashboard_shows(tiny_study: Any) -> None:
    study, rows = load(tiny_study.folder), tiny_study.result.screening
    assert [trial.state for trial in study.trials] == [
        TrialState.PRUNED if row.status == "PRUNED" else TrialState.COMPLETE for row in rows
    ]
    assert {trial.state for trial in study.trials} == {TrialState.PRUNED, TrialState.COMPLETE}
    assert [trial.value for trial in study.trials] == [row.score for row in rows]
    assert [list(trial.intermediate_values.values()) for trial in study.trials] == [row.epochs_scores for row in rows]
    assert [trial.user_attrs["label"] for trial in study.trials] == [row.label for row in rows]
    assert all({"nodes", "gain", "g(0)", "origin"} <= trial.params.keys() for trial in study.trials)


@pytest.mark.parametrize("schema", [bulk.SCHEMA, "another"])
def test_what_is_inserted_is_what_optuna_would_have_written(
    tiny_study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: str
) -> None:
    """Every table, row by row; where Optuna's tables have another version, they are written by Optuna itself."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{tiny_study.folder / 'study.db'}")
    assert storage.get_current_version() == bulk.SCHEMA
    storage.engine.dispose()
    monkeypatch.setattr(bulk, "SCHEMA", schema)
    new = load(tiny_study.folder).trials
    with mirror(tmp_path / "study.db", "tiny", "run", lambda rows: None) as held:
        held.extend(new[:4])
        held.extend(new)
    oracle = optuna.create_study(storage=f"sqlite:///{tmp_path / 'oracle.db'}", study_name="tiny", direction="maximize")
    oracle.set_user_attr("run", "run")
    oracle.add_trials(new)
    for trial in oracle.trials:
        save_note(optuna.Trial(oracle, trial._trial_id), note_of(trials.row_of(trial)))
    assert tables(tmp_path / "study.db") == tables(tmp_path / "oracle.db")


def tables(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(connection.execute(f"SELECT * FROM {name}")) for name in names}


def test_a_resumed_sampler_knows_the_trials_as_they_were(tiny_study: Any) -> None:
    """Trials made again from their rows are those that the database has, which were told as they came."""
    config = tiny_study.config
    for trial in load(tiny_study.folder).trials:
        again = trials.finished(trials.row_of(trial), config.space)
        assert (again.state, again.value, again.params) == (trial.state, trial.value, trial.params)
        assert again.distributions == trial.distributions
        assert again.intermediate_values == trial.intermediate_values
        assert again.user_attrs == trial.user_attrs


def test_any_folder_name_will_do(tiny_study: Any, tmp_path: Path) -> None:
    folder = tmp_path / "50 % {off}? #1 ü"
    assert tiny_study.told_by(tiny_study.run(folder)) == tiny_study.told
    assert tiny_study.told_by(tiny_study.run(folder)) == tiny_study.told


class Holding(Silent):
    """Opens a reader before the first batch that has a read transaction until the end."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def started(self, config: Any, folder: Path, resumed: int) -> None:
        self.reader = sqlite3.connect(folder / "study.db", isolation_level=None)
        self.reader.execute("BEGIN")
        self.count()

    def progress(self, progress: Any) -> None:
        self.count()

    def count(self) -> None:
        self.counts.append(self.reader.execute("SELECT count(*) FROM trials").fetchone()[0])


def test_a_reader_that_holds_a_transaction_disturbs_nothing_and_is_not_disturbed(
    tiny_study: Any, tmp_path: Path
) -> None:
    holding = Holding()
    result = tiny_study.run(tmp_path, observer=holding)
    with closing(holding.reader):
        assert tiny_study.told_by(result) == tiny_study.told
        assert holding.counts == [0, 0, 0, 0]  # the state when it began to read
        holding.reader.execute("COMMIT")
        holding.count()
        assert holding.counts[-1] == 9


READER = """
import sys, warnings
import optuna
optuna.logging.set_verbosity(optuna.logging.WARNING)
count = reads = 0
print("ready", flush=True)
while count < int(sys.argv[2]):
    try:
        study = optuna.load_study(study_name="tiny", storage="sqlite:///" + sys.argv[1])
    except KeyError:  # it is not there yet
        continue
    trials = study.trials
    assert [t.number for t in trials] == list(range(len(trials)))
    assert all(t.state.is_finished() and t.value is not None and "row" in t.user_attrs and t.params for t in trials)
    assert len(trials) >= count
    count, reads = len(trials), reads + 1
print(reads)
"""


def test_another_program_that_reads_all_the_time_sees_whole_trials(tiny_study: Any, tmp_path: Path) -> None:
    class Awaiting(Silent):
        """Starts the reader once there is a database, and gives it time to read between batches."""

        def started(self, config: Any, folder: Path, resumed: int) -> None:
            arguments = [sys.executable, "-c", READER, str(folder / "study.db"), "9"]
            self.reader = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            assert self.reader.stdout is not None
            assert self.reader.stdout.readline() == "ready\n"

    awaiting = Awaiting()
    result = tiny_study.run(tmp_path, observer=awaiting)
    out, err = awaiting.reader.communicate(timeout=60)
    assert awaiting.reader.returncode == 0, err
    assert int(out) >= 1
    assert tiny_study.told_by(result) == tiny_study.told


def test_a_database_locked_by_another_program_is_waited_for_and_then_named(
    tiny_study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    folder = tiny_study.copy(tmp_path / "run")
    with closing(sqlite3.connect(folder / "study.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RunError, match=r"study.db cannot be used: database is locked.*end the program"):
            tiny_study.run(folder)
    assert tiny_study.told_by(tiny_study.run(folder)) == tiny_study.told


def test_a_folder_in_the_databases_place_is_named(tiny_study: Any, tmp_path: Path) -> None:
    folder = tiny_study.copy(tmp_path / "run")
    (folder / "study.db").unlink()
    (folder / "study.db").mkdir()
    with pytest.raises(RunError, match=r"study.db cannot be used: unable to open database file"):
        tiny_study.run(folder)


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file of this process can grow beyond `size` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 1000, 50_000, 150_000])
def test_a_full_disk_is_named_and_the_study_goes_on_when_there_is_room(
    tiny_study: Any, tmp_path: Path, size: int
) -> None:
    rows = tiny_study.result.screening
    many = [trials.finished(row, tiny_study.config.space) for row in rows] * 5
    with (
        pytest.raises(RunError, match=r"study.db cannot be used: (disk I/O error|database or disk is full)"),
        file_limit(size),
        mirror(tmp_path / "study.db", "tiny", "this run", lambda rows: None) as held,
    ):
        held.extend(many)
    with mirror(tmp_path / "study.db", "tiny", "this run", lambda rows: None) as held:
        assert held.rows == rows[: len(held.rows)]
        held.extend(many[:9])
    with mirror(tmp_path / "study.db", "tiny", "this run", lambda rows: None) as held:
        assert held.rows == rows

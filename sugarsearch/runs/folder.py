"""A run folder: who holds it, which study it belongs to, and its hall of fame."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from sugarsearch.config import loader
from sugarsearch.config.comparison import ComparisonConfig
from sugarsearch.config.schema import StudyConfig
from sugarsearch.errors import RunError
from sugarsearch.runs.results import ScreeningRow, ranked, write_atomically

STUDY, COMPARISON, RECORDS, DATABASE, HALL_OF_FAME, RESULTS, LOCK = (
    "study.yaml",
    "comparison.yaml",
    "records.jsonl",
    "study.db",
    "hall_of_fame.csv",
    "results.json",
    "lock",
)
TRANSFER = "transfer"
"""The folder, in a run's, of the same comparison on other data and models."""
HALL_SIZE = 20
HOLDER_SIZE = 200  # characters of a lock file that are shown

# What may differ when a study is resumed: how jobs are run, how long, how many candidates; not what is asked.
FREE = ("description", "execution", "search.candidates", "search.time_limit", "search.trial_time_limit")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make `folder` if need be and hold its lock: one controller per run.

    The kernel frees the lock when its holder dies, however it dies, so a lock file left behind is harmless.

    Raises:
        RunError: another process holds it (the text names it), or the folder belongs to something else.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunError(f"{folder} cannot be a run folder: {error.strerror}. Give another.") from None
    with os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.truncate(0)
            # Not through the file's buffer: closing would try again to write what found no room.
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        except BlockingIOError:
            holder = lock.read(HOLDER_SIZE).strip() or "another process"
            message = f"{folder} is in use by {holder}. Wait for it, stop it, or give another run folder."
            raise RunError(message) from None
        except OSError as error:
            raise RunError(f"{folder} cannot be locked: {error.strerror}. Make room there, or give another.") from None
        yield


def check(folder: Path, config: StudyConfig | ComparisonConfig) -> None:
    """Refuse a `folder` that is not the run of `config` and cannot become it.

    Raises:
        RunError: the folder holds another run (the text is the difference) or something else.
    """
    name = file_of(config)
    if (folder / name).exists():
        lines = differences(loader.load(folder / name, type(config)), config)
        if lines:
            changed = "\n".join(f"  {line}" for line in lines)
            raise RunError(
                f"{folder} holds a {Path(name).stem} that differs from the one given:\n{changed}\n"
                "Undo the change to resume, or give another run folder."
            )
    elif any(
        entry.name not in (LOCK, TRANSFER) and not entry.name.startswith(f".{name}.") for entry in folder.iterdir()
    ):
        # Beside the lock there may be what a controller killed in its first second was writing, and comparisons on
        # other data that a search's verdict stands beside.
        raise RunError(f"{folder} is not empty and has no {name}, so it is not such a run. Give a new folder.")


def settle(folder: Path, config: StudyConfig | ComparisonConfig) -> None:
    """Make `folder` the run of `config`; what a resumed run may change (`FREE`) is written anew.

    Raises:
        RunError: as `check`, or the folder cannot be written.
    """
    check(folder, config)
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_atomically(folder / file_of(config), text)


def file_of(config: StudyConfig | ComparisonConfig) -> str:
    """The name of the file that says what a run is of."""
    return COMPARISON if isinstance(config, ComparisonConfig) else STUDY


def stored(folder: Path) -> StudyConfig | ComparisonConfig:
    """What the run in `folder` is of.

    Raises:
        RunError: it is no run.
        ConfigurationError: its file is damaged.
    """
    if (folder / COMPARISON).is_file():
        return loader.load(folder / COMPARISON, ComparisonConfig)
    if (folder / STUDY).is_file():
        return loader.load(folder / STUDY, StudyConfig)
    raise RunError(f"{folder} has no {STUDY} and no {COMPARISON}, so it is not a run. Give the folder of a run.")


def identity(config: StudyConfig | ComparisonConfig) -> str:
    """Names a study or a comparison by all that may not change."""
    fixed = {key: text for key, text in _flat(config.model_dump(mode="json")).items() if not _is_free(key)}
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:20]


def differences(stored: StudyConfig | ComparisonConfig, given: StudyConfig | ComparisonConfig) -> list[str]:
    """One line per setting that differs and may not: its dotted key, the stored value and the given one."""
    old, new = _flat(stored.model_dump(mode="json")), _flat(given.model_dump(mode="json"))
    keys = [key for key in {**old, **new} if not _is_free(key)]
    absent = "(absent)"
    return [
        f"{key}: the run has {old.get(key, absent)}, given is {new.get(key, absent)}"
        for key in keys
        if old.get(key, absent) != new.get(key, absent)
    ]


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in FREE)


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            flat |= _flat(inner, f"{prefix}{key}.")
        else:
            flat[prefix + key] = json.dumps(inner)
    return flat


def write_hall_of_fame(folder: Path, rows: Sequence[ScreeningRow]) -> None:
    """The best finished candidates, best first, as CSV, replaced whole."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("rank", "candidate", "score", "learning_rate", "gain", "g_at_zero", "label", "formula"))
    for rank, row in enumerate(ranked(rows)[:HALL_SIZE], start=1):
        formula = row.restore().formula
        writer.writerow((rank, row.index, row.score, row.best_learning_rate, row.gain, row.at_zero, row.label, formula))
    write_atomically(folder / HALL_OF_FAME, table.getvalue())

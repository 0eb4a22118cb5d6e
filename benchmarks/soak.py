"""Kill -9 at random, again and again: searches are started, their processes killed, and the ends compared.

    python -m benchmarks.soak --kills 1000 --lanes 2

One search after another is run by its real command. At random moments its controller, one of its workers or
both get SIGKILL; after the controller's death the same command is given again, until the search ends. Counted
are records lost, trainings run twice, processes left behind after 5 seconds, and searches that did not end as
the same search ends when nobody kills anything. All of these must be 0. Trainings whose worker was killed three
times are given up, as promised; such a search is not compared. Linux only: it looks into /proc.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

from sugarsearch.evaluation.bench import versions
from sugarsearch.evaluation.records import MACHINE_FAULTS, RecordLog

RESULTS: Final = Path(__file__).parent / "results" / "soak.json"
ORPHAN_SECONDS: Final = 5.0
WHILE_TRAINING: Final = 0.25
"""The share of kills that wait for a new record; the others fall while a search starts."""
STARTING: Final = 4.0
"""Seconds within which a search starts."""
TRAINING: Final = 1.0
"""Seconds after a new record within which it is killed; a record comes every 0.1 to 1 s."""

_MARK: Final = "SUGARSEARCH_SOAK"

STUDY: Final = """\
name: soak
space: gate
recipe:
  data: {name: digits, train_limit: 700, test_limit: 200}
  model: {name: deep_narrow_mlp, options: {depth: 6, width: 12}}
  optimizer: adam
  epochs: 12
search:
  candidates: 36
  batch: 6
  population: 6
  tournament: 3
  learning_rates: [0.003, 0.01]
  pruning: {rungs: [3, 6], keep: 0.5}
final: {learning_rates: [0.003, 0.01, 0.03], rerun: {candidates: 3, replicates: 2}, replicates: 10}
execution: {device: cpu, threads: 1, checkpoint_seconds: 0.3}
"""

VARIANTS: Final = {
    "one network at a time": "execution.mode=eager",
    "populations": "execution.mode=population",
    "two workers": "execution={device: cpu, threads: 1, checkpoint_seconds: 0.3, workers: 2, mode: eager}",
}
"""Ways to run the same study. Each has its own uninterrupted end, for populations round otherwise."""


@dataclass
class Tally:
    """What was counted."""

    kills: Counter[str] = field(default_factory=Counter)
    kills_while_training: int = 0
    searches: Counter[str] = field(default_factory=Counter)
    records: int = 0
    records_lost: int = 0
    trainings_run_twice: int = 0
    orphans: int = 0
    other_ends: int = 0
    given_up: int = 0
    failures: list[str] = field(default_factory=list)
    slowest_death: float = 0.0

    def add(self, other: Tally) -> None:
        """Sum of both."""
        self.kills += other.kills
        self.searches += other.searches
        self.failures += other.failures
        self.slowest_death = max(self.slowest_death, other.slowest_death)
        for name, value in vars(other).items():
            if isinstance(value, int):
                setattr(self, name, getattr(self, name) + value)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "kills": sum(self.kills.values()),
            "kills_by_target": dict(self.kills),
            "kills_while_training": self.kills_while_training,
            "searches_ended": dict(self.searches),
            "records": self.records,
            "records_lost": self.records_lost,
            "trainings_run_twice": self.trainings_run_twice,
            "orphans": self.orphans,
            "ends_that_differ": self.other_ends,
            "searches_not_compared": self.given_up,
            "failures": self.failures,
            "slowest_death_of_a_worker_seconds": round(self.slowest_death, 2),
        }


class Search:
    """One run folder, and the process that works on it."""

    def __init__(self, folder: Path, study: Path, setting: str) -> None:
        self.folder, self._mark = folder, uuid.uuid4().hex
        command = [sys.executable, "-c", "from sugarsearch.cli import main; main()", "search", str(study)]
        self._command = [*command, "--run", str(folder), "--set", setting]
        self._errors = folder.with_name(f"{folder.name}.err")

    def start(self) -> subprocess.Popen[bytes]:
        """Give the command."""
        environment = {**os.environ, _MARK: self._mark, "OMP_NUM_THREADS": "1"}
        with self._errors.open("wb") as errors:
            return subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=errors, env=environment)

    @property
    def last_words(self) -> str:
        """What the last process said."""
        return self._errors.read_text(errors="replace")[-1500:]

    def lines(self) -> list[bytes]:
        """The whole lines of the log."""
        path = self.folder / "records.jsonl"
        return path.read_bytes().split(b"\n")[:-1] if path.exists() else []

    def processes(self) -> list[int]:
        """All living processes of this search, whoever started them."""
        mark = f"{_MARK}={self._mark}".encode()
        return [number for number in _living() if mark in _environment(number)]

    def wait_for_deaths(self) -> float | None:
        """Seconds until no process is left; None if some are after 5."""
        started = time.monotonic()
        while self.processes():
            if time.monotonic() - started > ORPHAN_SECONDS:
                return None
            time.sleep(0.02)
        return time.monotonic() - started

    def end(self) -> Any:
        """What was found, without how long it took and where."""
        result = json.loads((self.folder / "results.json").read_text())
        rows = [{name: value for name, value in row.items() if name != "seconds"} for row in result["screening"]]
        return rows, result["final"]


def whole(study: Path, folder: Path, setting: str) -> Any:
    """The end of a search that nobody kills."""
    search = Search(folder, study, setting)
    process = search.start()
    if process.wait():
        raise RuntimeError(search.last_words)
    return search.end()


def tortured(study: Path, folder: Path, setting: str, expected: Any, chance: random.Random, kills: int) -> Tally:
    """Run a search to its end, killing at random at most `kills` times."""
    tally, search = Tally(), Search(folder, study, setting)
    process, seen = search.start(), list[bytes]()
    while sum(tally.kills.values()) < kills:
        trains = chance.random() < WHILE_TRAINING
        if _ends_first(process, search, chance, trains=trains):
            break
        target = _kill(process, search, chance)
        tally.kills[target] += 1
        tally.kills_while_training += trains
        if target != "worker":
            process.wait()
            tally.orphans += _orphans(search, tally)
            tally.records_lost += _lost(seen, search.lines())
            seen = search.lines()
            process = search.start()
    code = process.wait()
    tally.records_lost += _lost(seen, search.lines())
    if code:
        tally.failures.append(f"{folder.name}: exit code {code}: {search.last_words}")
        return tally
    tally.searches["ended"] += 1
    tally.orphans += search.wait_for_deaths() is None
    records = RecordLog(folder / "records.jsonl").load()
    final = Counter(record.job.id for record in records if record.status not in MACHINE_FAULTS)
    tally.records += len(records)
    tally.trainings_run_twice += sum(count - 1 for count in final.values())
    if {record.job.id for record in records} == final.keys():
        ended = search.end()
        tally.other_ends += ended != expected
        tally.failures += _differences(folder.name, ended, expected)
    else:
        tally.given_up += 1
    return tally


def _differences(name: str, ended: Any, expected: Any) -> list[str]:
    """The first rows in which two ends of a search differ."""
    (rows, final), (wanted, wanted_final) = ended, expected
    pairs = [*zip_longest(rows, wanted), (final, wanted_final)]
    return [f"{name}: {row} in place of {other}" for row, other in pairs if row != other][:2]


def _ends_first(process: subprocess.Popen[bytes], search: Search, chance: random.Random, *, trains: bool) -> bool:
    """Wait for the moment to kill, while it starts or while it trains; True if the search ended before."""
    if trains:
        known = len(search.lines())
        while len(search.lines()) == known:
            if process.poll() is not None:
                return True
            time.sleep(0.01)
    try:
        process.wait(chance.uniform(0, TRAINING) if trains else chance.uniform(0.05, STARTING))
    except subprocess.TimeoutExpired:
        return False
    return True


def _orphans(search: Search, tally: Tally) -> int:
    """How many processes outlive their controller by more than 5 seconds; those are ended."""
    death = search.wait_for_deaths()
    tally.slowest_death = max(tally.slowest_death, ORPHAN_SECONDS if death is None else death)
    left = [] if death is not None else search.processes()
    for number in left:
        os.kill(number, signal.SIGKILL)
    return len(left)


def _kill(process: subprocess.Popen[bytes], search: Search, chance: random.Random) -> str:
    """SIGKILL to the controller, to one of its workers, or to all at once; says to whom."""
    target = chance.choices(["controller", "worker", "both"], [5, 4, 1])[0]
    workers = [number for number in search.processes() if number != process.pid]
    if not workers:
        target = "controller"
    chosen = {"controller": [process.pid], "worker": [chance.choice(workers or [0])], "both": [process.pid, *workers]}
    for number in chosen[target]:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it was quicker
    return target


def _lost(before: list[bytes], after: list[bytes]) -> int:
    """How many lines that were once whole are no longer where they were."""
    return sum(line != now for line, now in zip(before, [*after, *[b""] * len(before)], strict=False))


def _living() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _environment(number: int) -> bytes:
    try:
        state = Path(f"/proc/{number}/stat").read_bytes().rpartition(b")")[2].split()[0]
        return b"" if state == b"Z" else Path(f"/proc/{number}/environ").read_bytes()
    except OSError:
        return b""  # gone, or another user's


def soak(kills: int, seed: int, lanes: int, folder: Path) -> Tally:
    """Torture searches, `lanes` side by side, until `kills` kills are made; each is then let end."""
    study = folder / "soak.yaml"
    study.write_text(STUDY)
    ends: dict[str, Any] = {}
    lock = threading.Lock()

    def end_of(name: str) -> Any:
        with lock:
            if name not in ends:
                ends[name] = whole(study, folder / f"whole {name}", VARIANTS[name])
            return ends[name]

    def lane(number: int) -> Tally:
        chance, tally, count = random.Random(f"{seed} {number}"), Tally(), 0
        wanted = kills * (number + 1) // lanes - kills * number // lanes
        while (left := wanted - sum(tally.kills.values())) > 0 and not tally.failures:
            name = list(VARIANTS)[(number + count) % len(VARIANTS)]
            run = folder / f"lane {number} search {count}"
            tally.add(tortured(study, run, VARIANTS[name], end_of(name), chance, left))
            count += 1
            _say(number, tally)
        return tally

    total = Tally()
    with ThreadPoolExecutor(lanes) as pool:
        for tally in pool.map(lane, range(lanes)):
            total.add(tally)
    return total


def _say(lane: int, tally: Tally) -> None:
    print(f"lane {lane}: {json.dumps(tally.to_json())}", file=sys.stderr, flush=True)


def main() -> int:
    """Soak, and write the results; exit code 1 if any promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lanes", type=int, default=1, help="searches tortured side by side")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--add", action="store_true", help="to what the results file has counted, with other seeds")
    given = parser.parse_args()
    started, before = time.monotonic(), _counted(given.out) if given.add else {}
    with tempfile.TemporaryDirectory() as folder:
        tally = soak(given.kills, given.seed, given.lanes, Path(folder))
    counted = {"minutes": round((time.monotonic() - started) / 60, 1), **tally.to_json()}
    result = {
        "what": "searches killed by SIGKILL at random moments while they start and train, and resumed",
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, CPU, {os.cpu_count()} cores, {given.lanes} searches side by side",
        "versions": dict(versions()),
        "seeds": [*before.get("seeds", []), given.seed],
        **{name: _sum(name, before.get(name), value) for name, value in counted.items()},
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    broken = tally.records_lost + tally.trainings_run_twice + tally.orphans + tally.other_ends + len(tally.failures)
    return int(broken > 0)


def _counted(path: Path) -> dict[str, Any]:
    """What earlier calls have counted with the same versions."""
    counted: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if counted and counted["versions"] != dict(versions()):
        raise SystemExit(f"{path} was counted with {counted['versions']}, here are {dict(versions())}.")
    return counted


def _sum(name: str, before: Any, now: Any) -> Any:
    if before is None:
        return now
    if isinstance(now, dict):
        return dict(Counter(before) + Counter(now))
    return (
        max(before, now)
        if name.startswith("slowest")
        else round(before + now, 1)
        if name == "minutes"
        else before + now
    )


if __name__ == "__main__":
    sys.exit(main())

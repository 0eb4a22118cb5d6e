"""The log: what is in it survives kills, full disks and many writers; what is not a record is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from sugarsearch.errors import RunError
from sugarsearch.evaluation.jobs import Job
from sugarsearch.evaluation.records import MACHINE_FAULTS, Record, RecordLog, Status

MakeJobs = Callable[..., list[Job]]
MakeRecord = Callable[..., Record]


@pytest.fixture
def records(make_jobs: MakeJobs, make_record: MakeRecord) -> list[Record]:
    return [make_record(job) for job in make_jobs(replicates=2)]


def test_records_come_back_as_they_were_in_order(log: RecordLog, records: list[Record]) -> None:
    assert log.load() == []
    log.append(records[:3])
    log.append(records[3:])
    assert RecordLog(log.path).load() == records
    first = json.loads(log.path.read_text().splitlines()[0])
    assert (first["job_id"], first["status"], first["score"]) == (records[0].job.id, "COMPLETED", 0.5)
    assert first["gain"] == pytest.approx(1.0)


def test_a_torn_last_line_is_left_out_with_a_warning_and_mended_by_the_next_append(
    log: RecordLog, records: list[Record]
) -> None:
    log.append(records[:2])
    whole = log.path.read_bytes()
    for cut in (1, 40, len(whole) // 2 - 5):
        log.path.write_bytes(whole[:-cut])
        with pytest.warns(UserWarning, match="torn"):
            assert log.load() == records[:1]
        log.append(records[1:3])
        assert log.load() == records[:3]


def test_a_file_that_is_one_torn_line_is_begun_anew(log: RecordLog, records: list[Record]) -> None:
    log.path.write_bytes(b'{"job_id": "' + b"a" * 200_000)
    log.append(records[:1])
    assert log.load() == records[:1]


def _without(line: str, name: str) -> str:
    value = json.loads(line)
    del value[name]
    return json.dumps(value)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: "garbage",
        lambda line: "",
        lambda line: "[1, 2]",
        lambda line: line.replace("COMPLETED", "DONE"),
        lambda line: line.replace('"replicate": 1', '"replicate": 2'),
        lambda line: line.replace('"expression": "', '"expression": "import os;'),
        lambda line: _without(line, "classes"),
        lambda line: line[:-30],
        lambda line: "\udcff" + line,
    ],
)
@pytest.mark.parametrize("number", [2, 4])
def test_other_garbage_is_refused_with_its_line(
    log: RecordLog, records: list[Record], spoil: Callable[[str], str], number: int
) -> None:
    log.append(records[:4])
    lines = log.path.read_text().splitlines()
    lines[number - 1] = spoil(lines[number - 1])
    log.path.write_text("\n".join(lines) + "\n", errors="surrogateescape")
    with pytest.raises(RunError, match=rf"records\.jsonl:{number}: this line is not a record"):
        log.load()


def test_a_score_is_a_number_from_0_to_1(make_jobs: MakeJobs, make_record: MakeRecord) -> None:
    for score in (float("nan"), float("inf"), -0.1, 1.5, True):
        with pytest.raises(ValueError, match="from 0 to 1"):
            make_record(make_jobs()[0], scores=(score,))


_WRITER = """
import sys
from sugarsearch.evaluation.records import RecordLog
source, target = RecordLog(sys.argv[1]), RecordLog(sys.argv[2])
for _ in range(20):
    target.append(source.load())
"""


def test_many_writers_do_not_mix_their_lines(log: RecordLog, records: list[Record]) -> None:
    source = RecordLog(log.path.with_name("source.jsonl"))
    source.append(records)
    command = [sys.executable, "-c", _WRITER, str(source.path), str(log.path)]
    writers = [subprocess.Popen(command) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    content = log.load()
    assert len(content) == 3 * 20 * len(records)
    # An append is one block: its records stand together.
    blocks = [content[i : i + len(records)] for i in range(0, len(content), len(records))]
    assert all(block == records for block in blocks)


_FULL = """
import resource, signal, sys
from pathlib import Path
from sugarsearch.evaluation.records import RecordLog
source, target = RecordLog(sys.argv[1]), RecordLog(sys.argv[2])
records = source.load()
target.append(records[:2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = Path(sys.argv[2]).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
try:
    target.append(records[2:])
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_full_disk_harms_nothing_that_was_there(log: RecordLog, records: list[Record]) -> None:
    source = RecordLog(log.path.with_name("source.jsonl"))
    source.append(records)
    command = [sys.executable, "-c", _FULL, str(source.path), str(log.path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.startswith("RunError")
    assert f"{log.path} cannot be written: File too large" in output
    assert log.load() == records[:2]


def test_a_folder_that_is_not_there_is_an_error_of_the_run(log: RecordLog, records: list[Record]) -> None:
    lost = RecordLog(log.path.parent / "gone" / "records.jsonl")
    assert lost.load() == []
    with pytest.raises(RunError, match="cannot be written: No such file"):
        lost.append(records)


def test_what_a_search_is_told(make_jobs: MakeJobs, make_record: MakeRecord) -> None:
    job = make_jobs()[0]
    scored = {status: make_record(job, status).value for status in Status}
    assert [scored[s] for s in (Status.COMPLETED, Status.PRUNED, Status.TIMEOUT)] == [0.5, 0.5, 0.5]
    assert {scored[s] for s in (Status.DIVERGED, Status.REJECTED, *MACHINE_FAULTS)} == {0.1}
    assert make_record(job, Status.TIMEOUT, ()).value == 0.1
    assert make_record(job, Status.TIMEOUT, ()).score is None


def test_what_a_judge_is_told(make_jobs: MakeJobs, make_record: MakeRecord) -> None:
    job = make_jobs()[0]
    assert [make_record(job).at(epoch) for epoch in (1, 2)] == [0.25, 0.5]
    assert make_record(job, Status.DIVERGED).at(3) == 0.1
    assert make_record(job, Status.TIMEOUT).at(3) == 0.5
    assert make_record(job, Status.REJECTED, ()).at(1) == 0.1
    assert make_record(job, Status.PRUNED).at(3) is None
    assert make_record(job, Status.CRASHED, ()).at(1) is None

"""A damaged log: each record comes back as it was, or its line is named, or the torn tail is left out."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sugarsearch.errors import RunError, SugarsearchWarning
from sugarsearch.evaluation.jobs import Job
from sugarsearch.evaluation.records import Record, RecordLog, Status

Records = list[Record]


@pytest.fixture
def records(make_jobs: Callable[..., list[Job]], make_record: Callable[..., Record]) -> Records:
    statuses = (Status.COMPLETED, Status.DIVERGED, Status.REJECTED)
    scores: tuple[tuple[float, ...], ...] = ((0.25, 0.5), (0.25,), ())
    return [make_record(*parts) for parts in zip(make_jobs(), statuses, scores, strict=False)]


@pytest.fixture
def whole(log: RecordLog, records: Records) -> bytes:
    """The content of a log of three records."""
    log.append(records)
    return log.path.read_bytes()


def read(log: RecordLog, content: bytes) -> tuple[Records, int]:
    """What `content` loads as, and the number of warnings."""
    log.path.write_bytes(content)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = log.load()
    assert all(issubclass(warning.category, SugarsearchWarning) for warning in said)
    assert all(str(log.path) in str(warning.message) for warning in said)
    return found, len(said)


def sealed(value: dict[str, Any]) -> bytes:
    """A line whose checksum fits whatever it says."""
    body = json.dumps(value)
    check = hashlib.sha256(body.encode()).hexdigest()[:16]
    return f'{body[:-1]}, "check": "{check}"}}\n'.encode()


def test_a_line_is_json_whose_checksum_anyone_can_compute(whole: bytes) -> None:
    for line in whole.splitlines(keepends=True):
        value = json.loads(line)
        del value["check"]
        assert sealed(value) == line


def test_cut_at_every_byte_all_whole_records_come_back_and_an_append_mends(
    log: RecordLog, records: Records, whole: bytes
) -> None:
    for length in range(len(whole) + 1):
        rest = whole[:length]
        complete = rest.count(b"\n")
        assert read(log, rest) == (records[:complete], 0 if rest.endswith(b"\n") or not rest else 1)
        if length % 10 == 0:  # the append waits for the disk
            log.append(records[complete:])
            assert log.path.read_bytes() == whole


def damages(whole: bytes, offset: int) -> Iterator[bytes]:
    """Every other byte that one flipped bit makes of the one at `offset`, NUL, and the end of a line."""
    byte = whole[offset]
    for other in {*(byte ^ 1 << bit for bit in range(8)), 0, ord("\n")} - {byte}:
        yield whole[:offset] + bytes([other]) + whole[offset + 1 :]


def test_any_garbled_byte_is_seen(log: RecordLog, records: Records, whole: bytes) -> None:
    for offset in range(whole.rindex(b"\n", 0, -1)):  # the first two lines
        line = whole.count(b"\n", 0, offset) + 1
        for content in damages(whole, offset):
            with pytest.raises(RunError) as refusal:
                read(log, content)
            assert str(refusal.value).startswith(f"{log.path}:{line}: this line is not a record: ")
    # Without its end the last line is that of a killed writer.
    for content in damages(whole, len(whole) - 1):
        assert read(log, content) == (records[:-1], 1)


def test_a_missing_a_doubled_and_an_added_byte_are_seen(log: RecordLog, records: Records, whole: bytes) -> None:
    for offset in range(0, len(whole) - 1, 3):
        for middle in (b"", whole[offset : offset + 1] * 2, b"\0" + whole[offset : offset + 1]):
            with pytest.raises(RunError, match=r"records\.jsonl:\d: this line is not a record: "):
                read(log, whole[:offset] + middle + whole[offset + 1 :])


def test_a_tail_of_zeros_as_a_power_cut_leaves_it_is_dropped(log: RecordLog, records: Records, whole: bytes) -> None:
    ends = [offset for offset, byte in enumerate(whole, start=1) if byte == ord("\n")]
    for zeros in (1, 100, 4096, 70_000):
        for cut in (*ends, ends[0] + 1, ends[1] - 1):
            complete = whole[:cut].count(b"\n")
            assert read(log, whole[:cut] + b"\0" * zeros) == (records[:complete], 1)
            log.append(records[complete:])
            assert log.path.read_bytes() == whole


@settings(max_examples=500, deadline=None, derandomize=True)
@given(lines=st.lists(st.binary(max_size=200) | st.text(max_size=50).map(str.encode), max_size=4))
def test_whatever_the_file_holds_a_refusal_is_all_that_comes(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    log = RecordLog(tmp_path_factory.getbasetemp() / "anything.jsonl")
    try:
        found, _ = read(log, b"\n".join(lines))
    except RunError:
        return
    assert found == []


def edited(record: Record, **changes: Any) -> dict[str, Any]:
    return {**record.to_json(), **changes}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scores": [0.25, 1.5], "score": 1.5}, "1.5 is no accuracy or share"),
        ({"scores": [0.25, -0.5], "score": -0.5}, "-0.5 is no accuracy or share"),
        ({"scores": [0.25, float("nan")]}, "NaN is no JSON"),
        ({"scores": [float("inf")]}, "Infinity is no JSON"),
        ({"scores": [True], "score": True}, "True is no accuracy or share"),
        ({"scores": ["0.5"], "score": "0.5"}, "'0.5' is no accuracy or share"),
        ({"scores": [10**400], "score": 10**400}, "is no accuracy or share"),
        ({"scores": None}, "not iterable"),
        ({"scores": [0.1, 0.2, 0.3], "score": 0.3}, "3 scores for 2 epochs"),
        ({"scores": [], "score": None}, "COMPLETED has at least one score"),
        ({"score": 0.75}, "score 0.75 does not fit"),
        ({"dead_units": [0.5, 2.0]}, "2.0 is no accuracy or share"),
        ({"sparsity": [0.5, "much"]}, "'much' is no accuracy or share"),
        ({"sparsity": [0.5]}, "2 and 1 values for 2 scores"),
        ({"sparsity": 0.5}, "not iterable"),
        ({"seconds": -1.0}, "seconds is -1.0"),
        ({"seconds": None}, "seconds is None"),
        ({"seconds": float("-inf")}, "-Infinity is no JSON"),
        ({"seconds": 10**400}, "seconds is 1000"),
        ({"classes": 1}, "classes is 1"),
        ({"classes": 10.0}, r"classes is 10\.0"),
        ({"classes": True}, "classes is True"),
        ({"mode": "turbo"}, "mode 'turbo' is none of eager, compiled, population"),
        ({"mode": ["eager"]}, "mode"),
        ({"status": "DONE"}, "'DONE' is not a valid Status"),
        ({"status": []}, "is not a valid Status"),
        ({"device": None}, "must be texts"),
        ({"reason": 3}, "must be texts"),
        ({"versions": {"torch": 2}}, "must be texts"),
        ({"versions": "2"}, "no attribute"),
        ({"color": "red"}, "'color' is unknown"),
        ({"job_id": "0" * 20}, "does not fit the job"),
        ({"job": None}, "NoneType"),
        ({"job": {}}, "'surrogate' is missing"),
    ],
)
def test_a_line_that_says_what_no_job_gives_is_refused_with_the_reason(
    log: RecordLog, records: Records, changes: dict[str, Any], reason: str
) -> None:
    good = sealed(records[0].to_json())
    with pytest.raises(RunError, match=rf"records\.jsonl:2: this line is not a record: .*{reason}"):
        read(log, good + sealed(edited(records[0], **changes)))
    assert read(log, good) == (records[:1], 0)


@pytest.mark.parametrize("ablation", ["sgd", None, ["adam"]], ids=str)
def test_a_line_with_an_unknown_ablation_is_refused(log: RecordLog, records: Records, ablation: Any) -> None:
    value = records[0].to_json()
    value["job"]["ablation"] = ablation
    with pytest.raises(RunError, match=r"records\.jsonl:1: this line is not a record: ablation .* is not known"):
        read(log, sealed(value))


def test_a_line_without_one_of_its_values_is_refused(log: RecordLog, records: Records) -> None:
    value = records[0].to_json()
    for name in value:
        with pytest.raises(RunError, match=f"'{name}' is missing"):
            read(log, sealed({key: inner for key, inner in value.items() if key != name}))


def test_nested_beyond_reason_is_refused(log: RecordLog) -> None:
    body = b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    check = hashlib.sha256(body).hexdigest()[:16].encode()
    with pytest.raises(RunError, match="recursion"):
        read(log, body[:-1] + b', "check": "' + check + b'"}\n')

"""The cache: built once and whole, mapped, and never believed when it does not fit its manifest."""

from __future__ import annotations

import fcntl
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from sugarsearch.data import cache
from sugarsearch.data.arrays import Arrays
from sugarsearch.data.cache import Builder, Content, open_cached
from sugarsearch.errors import DataError

IMAGES = np.arange(4 * 3 * 2 * 2, dtype=np.uint8).reshape(4, 3, 2, 2)
LABELS = np.array([0, 1, 0, 1])


class Counting:
    """A builder that counts its calls and may fail half way."""

    def __init__(self, fails: bool = False) -> None:
        self.calls, self.fails = 0, fails

    def __call__(self, content: Content) -> None:
        self.calls += 1
        content.classes = ("a", "b")
        content.images("train", IMAGES.shape, [IMAGES[:1], IMAGES[1:]])
        if self.fails:
            raise DataError("somewhere", "is broken.", "Mend it.")
        content.labels("train", LABELS)


@pytest.fixture
def place(root: Path) -> Path:
    return root / "mine"


def load(place: Path, build: Builder | None, source: str = "origin") -> Arrays:
    return open_cached(place, "train", "mine", source, build)


def test_built_once_then_mapped(place: Path) -> None:
    build = Counting()
    first, second = load(place, build), load(place, build)
    assert build.calls == 1
    assert isinstance(second.images, np.memmap)
    assert not second.images.flags.writeable
    np.testing.assert_array_equal(second.images, IMAGES)
    np.testing.assert_array_equal(second.labels, LABELS)
    assert (second.classes, second.name, second.fingerprint) == (("a", "b"), "mine", first.fingerprint)
    assert sorted(p.name for p in place.iterdir()) == ["manifest.json", "train_images.npy", "train_labels.npy"]
    assert sorted(p.name for p in place.parent.iterdir()) == [".mine.lock", "mine"]


def cut(place: Path) -> None:
    content = (place / "train_images.npy").read_bytes()
    (place / "train_images.npy").write_bytes(content[:-1])


def reshape(place: Path) -> None:
    np.save(place / "train_images.npy", IMAGES.reshape(4, 3, 4, 1))


def retype(place: Path) -> None:
    np.save(place / "train_labels.npy", LABELS.astype(np.uint64))


def flip(path: Path, position: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def manifest_of(key: str, value: object) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        manifest = json.loads((place / "manifest.json").read_text())
        (place / "manifest.json").write_text(json.dumps({**manifest, key: value}))

    return change


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (cut, "train_images.npy has 175 bytes instead of 176"),
    "reshaped": (reshape, r"holds uint8 \(4, 3, 4, 1\) instead of uint8 \(4, 3, 2, 2\)"),
    "retyped": (retype, "train_labels.npy has another checksum"),
    "file gone": (lambda place: (place / "train_labels.npy").unlink(), "train_labels.npy is missing"),
    "header": (lambda place: (place / "train_images.npy").write_bytes(bytes(176)), "unreadable"),
    "manifest cut": (lambda place: (place / "manifest.json").write_text('{"version": 1'), "unreadable"),
    "manifest changed": (manifest_of("classes", ["a", "c"]), "manifest.json has changed"),
    "manifest of another kind": (lambda place: (place / "manifest.json").write_text("[]"), "is not a manifest"),
    "other version": (manifest_of("version", 99), "of version 99 instead of 2"),
    "label flipped": (lambda place: flip(place / "train_labels.npy", -8), "train_labels.npy has another checksum"),
    "header flipped": (lambda place: flip(place / "train_images.npy", 12), "unreadable"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_rebuilt(place: Path, damage: str) -> None:
    build = Counting()
    load(place, build)
    DAMAGES[damage][0](place)
    np.testing.assert_array_equal(load(place, build).images, IMAGES)
    assert build.calls == 2
    assert cache.fault(place, "origin") is None


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_that_cannot_be_rebuilt_is_refused(place: Path, damage: str) -> None:
    load(place, Counting())
    DAMAGES[damage][0](place)
    with pytest.raises(DataError, match=DAMAGES[damage][1]) as caught:
        load(place, None)
    assert caught.value.path == str(place)
    assert "data import" in caught.value.remedy


def test_another_source_means_another_cache(place: Path) -> None:
    build = Counting()
    load(place, build, "one")
    load(place, build, "two")
    assert build.calls == 2
    assert load(place, None).classes == ("a", "b")  # imported: its source may be gone


def test_a_failed_build_leaves_nothing(place: Path) -> None:
    with pytest.raises(DataError, match="is broken"):
        load(place, Counting(fails=True))
    assert [p.name for p in place.parent.iterdir()] == [".mine.lock"]


def test_a_failed_rebuild_keeps_what_was_there(place: Path) -> None:
    load(place, Counting(), "one")
    with pytest.raises(DataError, match="is broken"):
        load(place, Counting(fails=True), "two")
    assert cache.fault(place, "one") is None


def test_leftovers_of_a_killed_process_are_cleared(place: Path) -> None:
    left = place.parent / ".mine.part" / "cache"
    left.mkdir(parents=True)
    (left / "train_images.npy").write_bytes(b"half")
    np.testing.assert_array_equal(load(place, Counting()).images, IMAGES)
    assert not left.parent.exists()


def test_a_folder_of_the_users_in_the_way_is_not_touched(place: Path) -> None:
    place.mkdir(parents=True)
    (place / "thesis.txt").write_text("work")
    build = Counting()
    with pytest.raises(DataError, match="is in the way"):
        load(place, build)
    assert (place / "thesis.txt").read_text() == "work"
    assert build.calls == 0


def test_two_at_once_build_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_the_lock, go = threading.Semaphore(0), threading.Event()
    build, lock = Counting(), fcntl.flock

    def announced(handle: IO[str], how: int) -> None:
        at_the_lock.release()
        lock(handle, how)

    def slow(content: Content) -> None:
        assert go.wait(5)
        build(content)

    monkeypatch.setattr(fcntl, "flock", announced)

    results: list[Arrays] = []
    threads = [threading.Thread(target=lambda: results.append(load(place, slow))) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert at_the_lock.acquire(timeout=5)
    assert at_the_lock.acquire(timeout=5)
    go.set()
    for thread in threads:
        thread.join(5)
    assert len(results) == 2
    assert build.calls == 1


def test_a_root_that_cannot_be_written_is_named(root: Path) -> None:
    root.write_text("a file where the folder should be")
    with pytest.raises(DataError, match="cannot be written") as caught:
        load(root / "mine", Counting())
    assert "$SUGARSEARCH_DATA" in caught.value.remedy


def test_a_ready_cache_is_read_without_writing(place: Path) -> None:
    load(place, Counting())
    lock = place.parent / ".mine.lock"
    lock.unlink()
    load(place, Counting())
    assert not lock.exists()


def test_a_flipped_byte_is_found(place: Path) -> None:
    arrays = load(place, Counting())
    cache.verify(arrays, place)
    flip(place / "train_images.npy", -1)
    assert cache.fault(place, "origin") is None  # sizes and shapes still fit
    with pytest.raises(DataError, match="content has changed"):
        cache.verify(load(place, None), place)


def test_a_missing_split_is_said(place: Path) -> None:
    load(place, Counting())
    with pytest.raises(DataError, match="has no test part"):
        open_cached(place, "test", "mine", "origin", None)


def test_a_copied_cache_works_elsewhere(place: Path, root: Path) -> None:
    load(place, Counting())
    shutil.copytree(place, root / "other")
    np.testing.assert_array_equal(load(root / "other", None).images, IMAGES)

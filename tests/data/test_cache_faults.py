"""Caches on full disks, of killed processes and of two at once: whole, or not there."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sugarsearch.config.schema import DataConfig
from sugarsearch.data import cache
from sugarsearch.data.arrays import SPLITS
from sugarsearch.data.cache import Content, open_cached
from sugarsearch.data.catalog import imported_names
from sugarsearch.data.manage import import_folder
from sugarsearch.data.sources import open_training
from sugarsearch.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (200, 3, 16, 16), dtype=np.uint8)
LABELS = np.arange(200) % 2

# Builds or opens the cache at argv[1], of the same content, image by image, and says its fingerprint.
BUILD = """
import sys
from pathlib import Path
import numpy as np
from sugarsearch.data.cache import open_cached, verify
from sugarsearch.errors import DataError

images = np.random.default_rng(0).integers(0, 256, (200, 3, 16, 16), dtype=np.uint8)

def build(content):
    content.classes = ("a", "b")
    for split in ("train", "test"):
        content.images(split, images.shape, [image[None] for image in images])
        content.labels(split, np.arange(200) % 2)

print("ready", flush=True)
sys.stdin.readline()
try:
    arrays = open_cached(Path(sys.argv[1]), "train", "mine", "origin", build)
    verify(arrays, Path(sys.argv[1]))
    print(arrays.fingerprint)
except DataError as error:
    print(error)
"""


def build(content: Content) -> None:
    content.classes = ("a", "b")
    for split in SPLITS:
        content.images(split, IMAGES.shape, [IMAGES])
        content.labels(split, LABELS)


@pytest.fixture
def place(root: Path) -> Path:
    root.mkdir()
    return root / "mine"


def start(place: Path, limit: int = resource.RLIM_INFINITY) -> subprocess.Popen[str]:
    """A process that is ready to build, waits for a line, and may write no file larger than `limit`."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def test_killed_at_any_moment(place: Path) -> None:
    expected = open_cached(place.with_name("whole"), "train", "mine", "origin", build).fingerprint
    rng, unfinished = np.random.default_rng(1), 0
    for number in range(10):
        here = place.with_name(f"mine{number}")
        with start(here) as process:
            timer = threading.Timer(rng.uniform(0.001, 0.025), os.kill, (process.pid, signal.SIGKILL))
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
            timer.start()
            process.wait(20)
            timer.cancel()
        # What is there under the name is whole; what is not there is built by the next.
        unfinished += not here.exists()
        if here.exists():
            assert cache.fault(here, "origin") is None
        arrays = open_cached(here, "train", "mine", "origin", build)
        cache.verify(arrays, here)
        assert arrays.fingerprint == expected
        assert not here.with_name(f".{here.name}.part").exists()
    assert unfinished


def test_an_imported_set_survives_a_kill_between_its_two_moves(tree: Path, root: Path) -> None:
    before = import_folder(tree, "pets")
    # What is left by such a kill: the old set put aside, the new one not yet in its place.
    scratch = root / ".pets.part"
    (scratch / "cache").mkdir(parents=True)
    (root / "pets").rename(scratch / "old")
    for picture in (tree / "train" / "dog").iterdir():
        picture.write_bytes(b"no image any more")
    with pytest.raises(DataError, match="cannot be read as an image"):
        import_folder(tree, "pets", overwrite=True)
    assert imported_names() == ["pets"]
    assert open_training(DataConfig(name="pets")).fingerprint == before.fingerprint
    assert not scratch.exists()


def test_two_processes_at_once_build_once(place: Path) -> None:
    with start(place) as one, start(place) as other:
        for process in (one, other):
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [process.communicate(timeout=30)[0] for process in (one, other)]
    assert said[0] == said[1] == open_cached(place, "train", "mine", "origin", None).fingerprint + "\n"
    assert sorted(path.name for path in place.parent.iterdir()) == [".mine.lock", "mine"]


def test_who_waits_says_so(place: Path) -> None:
    with place.with_name(".mine.lock").open("w") as held, start(place) as process:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert process.stdin
        assert process.stderr
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stderr.readline() == f"waiting for another process that prepares {place}\n"
        assert not place.exists()
        fcntl.flock(held, fcntl.LOCK_UN)
        said = process.communicate(timeout=30)
    assert said == (f"{cache.read_manifest(place).parts['train'].fingerprint}\n", "")


@pytest.mark.parametrize("limit", [0, 100, 5_000, 153_000, 154_000])
def test_a_full_disk(place: Path, limit: int) -> None:
    """Under a limit of the size of files, which stops a write where a full disk does."""
    old = open_cached(place, "train", "mine", "older", build)
    with start(place, limit) as process:
        said, complaint = process.communicate("go\n", timeout=30)
    assert (process.returncode, complaint) == (0, "")
    if limit < 154_000:
        assert said.startswith(f"{place}: cannot be written (File too large")
        assert "$SUGARSEARCH_DATA" in said
        assert cache.fault(place, "older") is None  # what was there is kept
    else:
        assert said == old.fingerprint + "\n"
    assert sorted(path.name for path in place.parent.iterdir()) == [".mine.lock", "mine"]


FULL = 'mount -t tmpfs -o size=200k none "$1" && echo go | "$2" -c "$3" "$1/mine"; ls -A "$1"'


def test_a_disk_that_is_really_full(place: Path) -> None:
    """On a file system of 200 kB of its own: through a memory map this would end in SIGBUS."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("may not make a file system of its own")
    command = ["unshare", "-rm", "sh", "-c", FULL, "sh", str(place.parent), sys.executable, BUILD]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    ready, said, *left = done.stdout.splitlines()
    assert ready == "ready"
    assert said.startswith(f"{place}: cannot be written (No space left on device)")
    assert left == [".mine.lock"]


def test_a_bit_flipped_anywhere_in_manifest_labels_or_header_is_seen(place: Path) -> None:
    open_cached(place, "train", "mine", "origin", build)
    rng, harmless = np.random.default_rng(0), 0
    for name, size in (("manifest.json", None), ("train_labels.npy", None), ("train_images.npy", 128)):
        path = place / name
        content = path.read_bytes()
        for position in rng.permutation(size or len(content))[:150]:
            changed = bytearray(content)
            changed[position] ^= 1 << rng.integers(8)
            path.write_bytes(changed)
            try:
                arrays = open_cached(place, "train", "mine", "origin", None)
                # White space between words may change without a change of meaning.
                harmless += 1
                cache.verify(arrays, place)
            except DataError as error:
                assert error.path == str(place)  # noqa: PT017
        path.write_bytes(content)
    assert harmless < 40
    assert cache.fault(place, "origin") is None


def test_a_file_cut_anywhere_is_seen(place: Path) -> None:
    open_cached(place, "train", "mine", "origin", build)
    for path in sorted(place.iterdir()):
        content = path.read_bytes()
        for size in np.linspace(0, len(content), 20, endpoint=False, dtype=int):
            path.write_bytes(content[:size])
            with pytest.raises(DataError, match="damaged"):
                open_cached(place, "train", "mine", "origin", None)
        path.write_bytes(content)
    open_cached(place, "train", "mine", "origin", None)


def test_a_flipped_pixel_is_found_when_asked(place: Path) -> None:
    arrays = open_cached(place, "train", "mine", "origin", build)
    path = place / "train_images.npy"
    for position in np.random.default_rng(0).integers(128, path.stat().st_size, 20):
        with path.open("r+b") as file:
            file.seek(position)
            (byte,) = file.read(1)
            file.seek(position)
            file.write(bytes([byte ^ 1]))
        with pytest.raises(DataError, match="content has changed") as caught:
            cache.verify(open_cached(place, "train", "mine", "origin", None), place)
        assert caught.value.path == str(place)
        with path.open("r+b") as file:
            file.seek(position)
            file.write(bytes([byte]))
    cache.verify(arrays, place)


def test_replaced_while_it_is_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_cached(place, "train", "mine", "origin", build)
    load, calls = np.load, list[Any]()

    def overtaken(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:  # after the check, between manifest and arrays

            def other(content: Content) -> None:
                build(content)
                content.classes = ("c", "d")

            cache.write(place, "other", other, replace=True)
        return load(*arguments, **options)

    monkeypatch.setattr(np, "load", overtaken)
    with pytest.raises(DataError, match="was replaced while it was read"):
        open_cached(place, "train", "mine", "origin", None)

"""Downloads from localhost: whole and right, or refused with nothing left behind."""

from __future__ import annotations

import hashlib
import socket
import time
from pathlib import Path

import pytest

from sugarsearch.data import download
from sugarsearch.data.download import fetch, unpack
from sugarsearch.errors import DataError

CONTENT = bytes(range(256)) * 5000  # larger than one piece of the copy
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "file.bin"


def refused(url: str, target: Path, reason: str, md5: str = MD5) -> DataError:
    """Fetch must fail for `reason`, and leave no file."""
    with pytest.raises(DataError, match=reason) as caught:
        fetch(url, md5, target)
    assert caught.value.path == url
    assert not target.parent.exists() or not list(target.parent.iterdir())
    return caught.value


def test_fetched_once(server, target: Path) -> None:
    url, md5 = server.put("/file.bin", CONTENT)
    assert md5 == MD5
    for _ in range(2):
        assert fetch(url, MD5, target) == target
    assert target.read_bytes() == CONTENT
    assert server.requests == ["/file.bin"]
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]


def test_a_file_put_there_by_hand_is_used(target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    assert fetch("http://127.0.0.1:1/never", MD5, target) == target


def test_a_wrong_file_already_there_is_fetched_anew(server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(CONTENT[:100])
    url, _ = server.put("/file.bin", CONTENT)
    assert fetch(url, MD5, target).read_bytes() == CONTENT


def test_cut_short(server, target: Path) -> None:
    url, _ = server.put("/file.bin", CONTENT[:700_000])
    server.announced["/file.bin"] = len(CONTENT)
    error = refused(url, target, "ended after 700000 of 1280000 bytes")
    assert error.remedy == "Run the same command again."


def test_wrong_checksum(server, target: Path) -> None:
    url, found = server.put("/file.bin", CONTENT[::-1])
    assert str(target) in refused(url, target, f"has md5 {found} instead of {MD5}").remedy


def test_not_found(server, target: Path) -> None:
    refused(f"{server.url}/file.bin", target, "cannot be downloaded .*404")


def test_offline(target: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file.bin"
    error = refused(url, target, "cannot be downloaded .*refused")
    assert f"put the file at {target} yourself" in error.remedy


def test_a_server_that_says_nothing(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        refused(f"http://127.0.0.1:{silent.getsockname()[1]}/file.bin", target, "cannot be downloaded .*timed out")
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_unpacked(tmp_path: Path, pack, kind: str) -> None:
    (tmp_path / "file").write_bytes(pack(kind, {"a/b.txt": b"hello", "c.txt": b""}))
    unpack(tmp_path / "file", tmp_path / "out")
    assert (tmp_path / "out" / "a" / "b.txt").read_bytes() == b"hello"


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "..\\evil.txt"])
def test_a_member_outside_the_folder_is_refused(tmp_path: Path, pack, kind: str, name: str) -> None:
    (tmp_path / "file").write_bytes(pack(kind, {"fine.txt": b"fine", name: b"evil"}))
    with pytest.raises(DataError, match="would be written outside its folder") as caught:
        unpack(tmp_path / "file", tmp_path / "out")
    assert caught.value.path == str(tmp_path / "file")
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


@pytest.mark.parametrize("damage", ["zip cut", "tar cut", "zip changed", "no archive"])
def test_a_damaged_archive_is_refused(tmp_path: Path, pack, damage: str) -> None:
    content = pack(damage[:3], {"a.txt": bytes(range(256)) * 40}) if damage != "no archive" else b"<html>sign in</html>"
    middle = len(content) // 2
    changed = content[:middle] + (bytes(8) + content[middle + 8 :] if damage == "zip changed" else b"")
    (tmp_path / "file").write_bytes(changed)
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tmp_path / "file", tmp_path / "out")

"""Archives unpack inside their folder, whole, or are refused with a reason."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sugarsearch.data import download
from sugarsearch.data.download import unpack
from sugarsearch.errors import DataError

FILES = {f"folder/{n}.bin": np.random.default_rng(n).bytes(900) for n in range(4)}
KINDS = pytest.mark.parametrize("kind", ["zip", "tar"])


@KINDS
def test_unpacked(tmp_path: Path, pack, kind: str) -> None:
    (tmp_path / "file").write_bytes(pack(kind, {"a/b.txt": b"hello", "c.txt": b""}))
    unpack(tmp_path / "file", tmp_path / "out")
    assert (tmp_path / "out" / "a" / "b.txt").read_bytes() == b"hello"


@KINDS
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


def refused(archive: Path, content: bytes, out: Path) -> bool:
    """Whether it is refused with a DataError that names the archive; if not, no file's content may have changed."""
    archive.write_bytes(content)
    try:
        unpack(archive, out)
    except DataError as error:
        return error.path == str(archive) and "\n" not in str(error)
    assert {path.read_bytes() for path in out.rglob("*") if path.is_file()} <= set(FILES.values())
    return False


@KINDS
def test_cut_anywhere(tmp_path: Path, pack, kind: str) -> None:
    content = pack(kind, FILES)
    sizes = [*np.linspace(0, len(content), 40, endpoint=False, dtype=int), *range(len(content) - 60, len(content))]
    for number, size in enumerate(sizes):
        assert refused(tmp_path / "file", content[:size], tmp_path / f"{number}"), size


@KINDS
def test_a_bit_flipped_anywhere_is_one_error_or_none(tmp_path: Path, pack, kind: str) -> None:
    content = pack(kind, FILES)
    rng = np.random.default_rng(0)
    count = 0
    for number in range(300):
        changed = bytearray(content)
        # Half of them in the last 400 bytes, where a zip file has its directory.
        changed[rng.integers(max(0, len(content) - 400) if number % 2 else 0, len(content))] ^= 1 << rng.integers(8)
        count += refused(tmp_path / "file", bytes(changed), tmp_path / f"{number}")
    assert count > 240


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
@pytest.mark.parametrize("leads_to", ["/etc/passwd", "../../secret", "fine.txt"])
def test_a_tar_member_that_is_no_file_is_refused(tmp_path: Path, kind: bytes, leads_to: str) -> None:
    member = tarfile.TarInfo("odd")
    member.type, member.linkname = kind, leads_to
    with tarfile.open(tmp_path / "file", "w:gz") as bundle:
        bundle.addfile(tarfile.TarInfo("fine.txt"))
        bundle.addfile(member)
    with pytest.raises(DataError, match="'odd', which is neither a file nor a folder"):
        unpack(tmp_path / "file", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_in_a_zip_file_is_refused(tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("odd")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "file", "w") as bundle:
        bundle.writestr(entry, "/etc/passwd")
    with pytest.raises(DataError, match="'odd', which is neither a file nor a folder"):
        unpack(tmp_path / "file", tmp_path / "out")


def bomb(kind: str) -> bytes:
    """3 GiB of zeros: in a tar file announced but not there, in a zip file likewise."""
    buffer = io.BytesIO()
    size = 3 << 30
    if kind == "tar":
        member = tarfile.TarInfo("zeros")
        member.size = size
        return gzip.compress(member.tobuf())
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("zeros", bytes(1000))
        bundle.infolist()[0].file_size = size
    return buffer.getvalue()


@KINDS
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_bytes(bomb(kind))
    with pytest.raises(DataError, match=r"holds more than 2,147,483,648 bytes"):
        unpack(tmp_path / "file", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@KINDS
def test_many_small_files_are_a_bomb_too(tmp_path: Path, pack, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MOST_MEMBERS", 3)
    (tmp_path / "file").write_bytes(pack(kind, FILES))
    with pytest.raises(DataError, match="or 3 files"):
        unpack(tmp_path / "file", tmp_path / "out")
    monkeypatch.setattr(download, "MOST_MEMBERS", 4)
    unpack(tmp_path / "file", tmp_path / "out")
    assert len(list((tmp_path / "out" / "folder").iterdir())) == 4


@KINDS
def test_a_name_that_is_a_file_and_a_folder(tmp_path: Path, kind: str, pack) -> None:
    (tmp_path / "file").write_bytes(pack(kind, {"a": b"file", "a/b": b"and folder at once"}))
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tmp_path / "file", tmp_path / "out")

"""Images that are none, or of unusual kinds, and folders that are not what they seem."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sugarsearch.config.schema import DataConfig
from sugarsearch.data import folder
from sugarsearch.data.cache import Content
from sugarsearch.data.manage import check, import_folder
from sugarsearch.data.sources import open_training
from sugarsearch.errors import DataError

PIXELS = np.random.default_rng(5).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def last(tree: Path) -> np.ndarray:
    """The pixels [3, H, W] of the last training image of `tree`."""
    return np.asarray(open_training(DataConfig(name=str(tree))).images[-1])


def refused(tree: Path, path: Path, reason: str) -> DataError:
    """Import must refuse `path` for `reason` and leave nothing behind."""
    with pytest.raises(DataError, match=reason) as caught:
        import_folder(tree, "pets")
    assert caught.value.path == str(path)
    assert not (Path(os.environ["SUGARSEARCH_DATA"]) / "pets").exists()
    return caught.value


def encoded(form: str, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP"])
def test_a_damaged_image_is_read_or_named(tmp_path: Path, form: str) -> None:
    content, rng, path = encoded(form), np.random.default_rng(0), tmp_path / "image.png"
    refusals = 0
    for number in range(150):
        changed = bytearray(content)
        if number % 3:
            for position in rng.integers(0, min(len(changed), 200), 1 + number % 3):
                changed[position] ^= 1 << rng.integers(8)
        else:
            del changed[rng.integers(len(changed)) :]
        path.write_bytes(changed)
        try:
            assert folder._pixels(path, 8).shape == (3, 8, 8)
        except DataError as error:
            refusals += error.path == str(path) and "\n" not in str(error)
    assert refusals >= 30


def test_a_script_for_another_program_is_not_run(tree: Path) -> None:
    bad = tree / "train" / "dog" / "zz.png"
    bad.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    refused(tree, bad, "cannot identify image file")


def bomb(side: int) -> bytes:
    """A PNG file that says it has side x side pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [10_000, 50_000])  # Pillow warns of the first only
def test_an_image_that_is_a_bomb_is_refused(tree: Path, side: int) -> None:
    bad = tree / "train" / "dog" / "zz.png"
    bad.write_bytes(bomb(side))
    refused(tree, bad, f"{side * side} pixels")


@pytest.mark.parametrize(("mode", "suffix"), [("I;16", "png"), ("I", "tif"), ("F", "tif")])
def test_more_than_8_bits_are_refused_because_they_would_become_white(tree: Path, mode: str, suffix: str) -> None:
    bad = tree / "train" / "dog" / f"zz.{suffix}"
    kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    Image.fromarray((PIXELS[..., 0] * 200.0).astype(kind)).save(bad)
    refused(tree, bad, "more than 8 bits a pixel")


def test_a_palette_with_transparency_keeps_its_colours(tree: Path) -> None:
    picture = Image.fromarray(PIXELS).convert("P")
    picture.save(tree / "train" / "dog" / "zz.png", transparency=bytes(range(256)))
    np.testing.assert_array_equal(last(tree), np.asarray(picture.convert("RGB")).transpose(2, 0, 1))


def test_alpha_is_dropped(tree: Path) -> None:
    Image.fromarray(np.dstack([PIXELS, np.zeros((8, 8), np.uint8)])).save(tree / "train" / "dog" / "zz.png")
    np.testing.assert_array_equal(last(tree), PIXELS.transpose(2, 0, 1))


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_of_an_animation_the_first_frame_counts(tree: Path, suffix: str) -> None:
    frames = [Image.fromarray(np.roll(PIXELS, shift)) for shift in range(3)]
    lossless: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tree / "train" / "dog" / f"zz.{suffix}", save_all=True, append_images=frames[1:], **lossless)
    np.testing.assert_array_equal(last(tree), PIXELS.transpose(2, 0, 1))


def test_print_colours_become_rgb(tree: Path) -> None:
    grey = np.full((8, 8, 3), 128, np.uint8)
    Image.fromarray(grey).convert("CMYK").save(tree / "train" / "dog" / "zz.jpg")
    assert np.abs(last(tree).astype(int) - 128).max() <= 3


@pytest.mark.parametrize("leads_to", ["gone.png", "zz.png"])
def test_a_broken_or_circular_link_is_named(tree: Path, leads_to: str) -> None:
    link = tree / "train" / "dog" / "zz.png"
    link.symlink_to(leads_to)
    assert refused(tree, link, "is a link that leads nowhere").remedy == "Mend or remove it."


def test_a_class_that_is_a_broken_link_is_named(tree: Path) -> None:
    (tree / "train" / "eel").symlink_to("nowhere")
    refused(tree, tree / "train" / "eel", "is a link that leads nowhere")


def test_folders_that_lead_back_are_read_once(tree: Path) -> None:
    before = open_training(DataConfig(name=str(tree)))
    (tree / "train" / "dog" / "loop").symlink_to(tree / "train" / "dog", target_is_directory=True)
    deep = tree / "train" / "cat" / "deep"
    deep.mkdir()
    (deep / "up").symlink_to("..", target_is_directory=True)
    assert open_training(DataConfig(name=str(tree))).fingerprint == before.fingerprint


def test_a_linked_folder_is_read(tree: Path, tmp_path: Path, write_classes) -> None:
    (tree / "train" / "dog" / "more").symlink_to(
        write_classes(tmp_path / "else", {"dogs": 3}), target_is_directory=True
    )
    assert open_training(DataConfig(name=str(tree))).counts.tolist() == [12, 11]


def test_hidden_folders_inside_a_class_are_passed_over(tree: Path) -> None:
    copies = tree / "train" / "dog" / ".ipynb_checkpoints"
    copies.mkdir()
    (copies / "000-checkpoint.png").write_bytes((tree / "train" / "dog" / "000.png").read_bytes())
    assert open_training(DataConfig(name=str(tree))).counts.tolist() == [12, 8]


def test_pipes_and_devices_are_not_opened(tree: Path) -> None:
    os.mkfifo(tree / "train" / "dog" / "pipe.png")
    (tree / "train" / "dog" / "zero.png").symlink_to("/dev/zero")
    assert open_training(DataConfig(name=str(tree))).counts.tolist() == [12, 8]


@pytest.mark.parametrize("name", ["Ünïcødé 猫", "two\nlines", "a'b\"c", "[red]", "%s {0}"])
def test_odd_names_of_classes_and_files(tree: Path, name: str) -> None:
    for split in ("train", "test"):
        (tree / split / "cat").rename(tree / split / name)
        (tree / split / name / "000.png").rename(tree / split / name / f"{name}.png")
    import_folder(tree, "pets")
    assert name in check(DataConfig(name="pets")).classes


def test_names_that_are_not_utf8(tree: Path) -> None:
    odd = os.fsdecode(b"\xff\xfe")
    (tree / "train" / "dog" / "000.png").rename(tree / "train" / "dog" / f"{odd}.png")
    assert open_training(DataConfig(name=str(tree))).counts.tolist() == [12, 8]
    moved = tree.rename(tree.parent / odd)
    assert import_folder(moved, "pets").train == 18
    (moved / "train" / "cat").rename(moved / "train" / odd)
    with pytest.raises(DataError, match=r"not UTF-8") as caught:
        import_folder(moved, "others")
    assert caught.value.path.endswith(r"\xff\xfe/train/\xff\xfe")


def test_a_long_folder_name_still_has_a_cache(tree: Path) -> None:
    assert len(open_training(DataConfig(name=str(tree.rename(tree.parent / ("long" * 60)))))) == 20


def test_a_file_that_vanishes_while_decoding(tree: Path, tmp_path: Path) -> None:
    found = folder.scan(tree)
    gone = tree / "train" / "dog" / "007.png"
    gone.unlink()
    with pytest.raises(DataError, match=r"cannot be read as an image \(No such file or directory\)") as caught:
        folder.decode(found, Content(tmp_path / "scratch"))
    assert caught.value.path == str(gone)
    with pytest.raises(DataError, match=r"cannot be read \(No such file or directory\)"):
        folder.signature(found)


AS_NOBODY = """
import sys
from sugarsearch.data.manage import import_folder
from sugarsearch.errors import DataError
from PIL import Image
from os import setuid
Image.init()  # its modules may lie where nobody cannot read
setuid(65534)
try:
    import_folder(sys.argv[1], "pets", sys.argv[2])
except DataError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can become another user")
@pytest.mark.parametrize("closed", ["train/dog/003.png", "train/dog", "train", "."])
def test_what_may_not_be_read_is_named(tree: Path, tmp_path: Path, closed: str) -> None:
    for above in (tmp_path, *tmp_path.parents[:3]):
        above.chmod(0o755)
    root = tmp_path / "theirs"
    root.mkdir()
    os.chown(root, 65534, 65534)
    (tree / closed).chmod(0)
    done = subprocess.run([sys.executable, "-c", AS_NOBODY, tree, root], capture_output=True, text=True, check=True)
    (tree / closed).chmod(0o755)
    assert "Permission denied" in done.stdout
    assert done.stdout.startswith(str(tree / closed)), done.stdout
    assert not (root / "pets").exists()


@pytest.mark.parametrize("counts", [{"a": 1, "b": 1}, {"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 4}])
def test_too_few_images_to_hold_any_out(tmp_path: Path, write_classes, counts: dict[str, int]) -> None:
    few = write_classes(tmp_path / "few", counts)
    if sum(counts.values()) == 5:  # one of the larger class can be spared
        assert len(open_training(DataConfig(name=str(few)))) == 4
        return
    with pytest.raises(DataError, match="too few to hold a fifth out"):
        open_training(DataConfig(name=str(few)))


def test_a_replaced_file_is_seen_though_size_and_time_are_kept(tree: Path) -> None:
    picture = tree / "train" / "dog" / "zz.bmp"
    Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(picture)
    before, status = open_training(DataConfig(name=str(tree))), picture.stat()
    Image.fromarray(np.full((8, 8, 3), 8, np.uint8)).save(picture)
    os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (picture.stat().st_size, picture.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    after = open_training(DataConfig(name=str(tree)))
    assert (after.images[-1] == 8).all()
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize("name", ["~no_such_user/pets", "./" + "x" * 300, "/" + "y/" * 3000, "./a\0b"])
def test_a_path_that_cannot_be_one(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        check(DataConfig(name=name))
    with pytest.raises(DataError):
        import_folder(name, "pets")

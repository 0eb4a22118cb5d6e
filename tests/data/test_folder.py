"""Folders of images, against torchvision's own reader; what is unfit is refused by name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from torchvision.datasets import ImageFolder

from sugarsearch.config.schema import DataConfig
from sugarsearch.data.arrays import Arrays
from sugarsearch.data.manage import import_folder
from sugarsearch.data.sources import open_training
from sugarsearch.data.splits import training_split
from sugarsearch.data.test_split import open_test
from sugarsearch.errors import DataError, UsageError


def same_as_torchvision(arrays: Arrays, folder: Path) -> None:
    reader = ImageFolder(folder)
    assert arrays.classes == tuple(reader.classes)
    np.testing.assert_array_equal(arrays.labels, reader.targets)
    np.testing.assert_array_equal(arrays.images, [np.asarray(image).transpose(2, 0, 1) for image, _ in reader])


def test_a_path_is_a_data_set(tree: Path) -> None:
    config = DataConfig(name=str(tree))
    same_as_torchvision(open_training(config), tree / "train")
    same_as_torchvision(open_test(config), tree / "test")


def test_nested_files_other_kinds_and_modes_are_read_as_torchvision_reads_them(tree: Path) -> None:
    deep = tree / "train" / "dog" / "more" / "yet"
    deep.mkdir(parents=True)
    picture = Image.fromarray(np.random.default_rng(9).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    for name, mode in (("grey.png", "L"), ("clear.png", "RGBA"), ("palette.bmp", "P"), ("photo.JPG", "RGB")):
        picture.convert(mode).save(deep / name)
    (tree / "train" / "dog" / "notes.txt").write_text("not an image")
    same_as_torchvision(open_training(DataConfig(name=str(tree))), tree / "train")


def test_hidden_files_and_folders_are_passed_over(tree: Path) -> None:
    before = open_training(DataConfig(name=str(tree))).fingerprint
    (tree / "train" / ".ipynb_checkpoints").mkdir()
    (tree / "train" / "dog" / "._000.png").write_bytes(b"resource fork")
    assert open_training(DataConfig(name=str(tree))).fingerprint == before


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_val_serves_as_test_where_there_is_no_test(tree: Path, name: str) -> None:
    (tree / "test").rename(tree / name)
    same_as_torchvision(open_test(DataConfig(name=str(tree))), tree / name)


def test_of_classes_at_once_a_fixed_fifth_is_held_out(tmp_path: Path, write_classes) -> None:
    flat = write_classes(tmp_path / "flat", {"a": 20, "b": 10})
    train, test = open_training(DataConfig(name=str(flat))), open_test(DataConfig(name=str(flat), split_seed=5))
    assert (train.counts.tolist(), test.counts.tolist()) == ([16, 8], [4, 2])
    whole = np.array([np.asarray(image).transpose(2, 0, 1) for image, _ in ImageFolder(flat)])
    both = np.concatenate([train.images, test.images])
    assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in whole)


def test_train_alone_has_no_test_part(tree: Path) -> None:
    shutil.rmtree(tree / "test")
    config = DataConfig(name=str(tree))
    assert len(training_split(config).train) == 18
    with pytest.raises(DataError, match="has no test part"):
        open_test(config)


def test_a_changed_folder_is_read_again(tree: Path) -> None:
    config = DataConfig(name=str(tree))
    first = open_training(config)
    picture = tree / "train" / "dog" / "last.bmp"
    for grey in (7, 8):  # the same size in bytes, so that only the time of writing tells
        Image.fromarray(np.full((8, 8, 3), grey, np.uint8)).save(picture)
        os.utime(picture, (grey, grey))
        assert (open_training(config).images[-1] == grey).all()
    picture.unlink()
    assert open_training(config).fingerprint == first.fingerprint


def test_an_unchanged_folder_is_not_decoded_again(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = DataConfig(name=str(tree))
    first = open_training(config)
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("decoded again"))
    assert open_training(config).fingerprint == first.fingerprint


def test_an_imported_data_set_needs_its_folder_no_more(tree: Path, root: Path) -> None:
    expected = open_training(DataConfig(name=str(tree)))
    summary = import_folder(tree, "pets")
    shutil.rmtree(tree)
    config = DataConfig(name="pets")
    assert (summary.train, summary.validation, summary.test) == (18, 2, 7)
    assert (summary.classes, summary.smallest_class, summary.largest_class) == (("cat", "dog"), 8, 12)
    assert (summary.shape, summary.where) == ((3, 8, 8), str(root / "pets"))
    assert open_training(config).fingerprint == expected.fingerprint == summary.fingerprint
    assert len(open_test(config)) == 7


def test_different_sizes_are_refused_with_the_remedy_that_works(tree: Path) -> None:
    odd = tree / "train" / "dog" / "odd.png"
    picture = Image.effect_noise((20, 11), 60).convert("RGB")
    picture.save(odd)
    with pytest.raises(DataError, match=r"is 20x11 pixels; .*/cat/000\.png is 8x8") as caught:
        import_folder(tree, "pets")
    assert caught.value.path == str(odd)
    assert "--size 64" in caught.value.remedy
    import_folder(tree, "pets", size=6)
    arrays = open_training(DataConfig(name="pets"))
    assert arrays.shape == (3, 6, 6)
    expected = np.asarray(ImageOps.fit(picture, (6, 6), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    np.testing.assert_array_equal(arrays.images[-1], expected)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n but no more", b"<html>404</html>", None])
def test_a_file_that_is_no_image_is_named(tree: Path, content: bytes | None) -> None:
    bad = tree / "train" / "dog" / "003.png"
    bad.write_bytes(bad.read_bytes()[:-60] if content is None else content)
    with pytest.raises(DataError, match="cannot be read as an image") as caught:
        import_folder(tree, "pets")
    assert caught.value.path == str(bad)
    assert caught.value.remedy == "Replace or remove this file."


def test_one_class_only(tmp_path: Path, write_classes) -> None:
    with pytest.raises(DataError, match=r"has 1 class folders \(cat\)"):
        import_folder(write_classes(tmp_path / "one" / "train", {"cat": 3}).parent, "pets")


def test_an_empty_folder_and_an_empty_class(tmp_path: Path, tree: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no class folders"):
        import_folder(tmp_path / "empty", "pets")
    (tree / "train" / "eel").mkdir()
    with pytest.raises(DataError, match="holds no images") as caught:
        import_folder(tree, "pets")
    assert caught.value.path == str(tree / "train" / "eel")


def test_a_missing_folder() -> None:
    with pytest.raises(DataError, match="is not a folder"):
        import_folder("nowhere", "pets")


def test_test_without_train(tree: Path) -> None:
    shutil.rmtree(tree / "train")
    with pytest.raises(DataError, match="has test/ but no train/"):
        import_folder(tree, "pets")


def test_other_classes_in_test(tree: Path) -> None:
    (tree / "test" / "dog").rename(tree / "test" / "dogs")
    with pytest.raises(DataError, match="has other classes than the training images: dog, dogs"):
        import_folder(tree, "pets")


@pytest.mark.parametrize("name", ["digits", "downloads", "folders", "../up", "", "a b", ".hidden"])
def test_names_that_are_not_allowed(tree: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is not allowed"):
        import_folder(tree, name)


@pytest.mark.parametrize("size", [0, -5, 4097, 10**9])
def test_sizes_that_are_not_allowed(tree: Path, size: int) -> None:
    with pytest.raises(UsageError, match=f"size {size} is not allowed; give pixels from 1 to 4096"):
        import_folder(tree, "pets", size=size)


def test_a_taken_name_needs_overwrite(tree: Path) -> None:
    import_folder(tree, "pets")
    (tree / "train" / "cat" / "000.png").unlink()
    with pytest.raises(UsageError, match="already in"):
        import_folder(tree, "pets")
    assert import_folder(tree, "pets", overwrite=True).train == 17


def test_a_failed_import_leaves_nothing(tree: Path, root: Path) -> None:
    (tree / "test" / "dog" / "000.png").write_bytes(b"")
    with pytest.raises(DataError):
        import_folder(tree, "pets")
    assert [path.name for path in root.iterdir()] == [".pets.lock"]

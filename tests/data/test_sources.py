"""What a name means, users' loaders, the list of data sets and the check; and real images, if at hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sugarsearch.config.schema import DataConfig
from sugarsearch.data.catalog import DATASETS, data_root, imported_names, kind_of
from sugarsearch.data.device import normalisation
from sugarsearch.data.manage import check, import_folder, listing
from sugarsearch.data.sources import open_training
from sugarsearch.data.splits import training_split
from sugarsearch.data.test_split import open_test
from sugarsearch.errors import DataError, UnknownNameError, UsageError

REAL_SHEETS = Path(__file__).resolve().parents[3] / "shared" / "data"

LOADER = """
import numpy as np
def pair(n):
    return np.arange(n * 6, dtype=np.float32).reshape(n, 6), np.arange(n) % 3
def both():
    return pair(30), pair(9)
def named():
    return {"train": pair(30), "test": pair(9), "classes": ["a", "b", "c"]}
def alone():
    return {"train": pair(30)}
def wrong():
    return [1, 2, 3]
def broken():
    raise RuntimeError("the disk is on fire")
def leaves():
    raise SystemExit(5)
def crooked():
    return {"train": 5}
def gap():
    x, y = pair(30)
    return {"train": (x, y * 2)}
def from_file():
    x, y = pair(30)
    return {"train": (x + np.float32(np.loadtxt("number.txt")), y)}
"""


@pytest.fixture
def loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with loaders, in the current folder, as a user has it."""
    (tmp_path / "my_loaders.py").write_text(LOADER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_loaders", raising=False)
    return "my_loaders"


def test_the_catalogue_needs_no_torch() -> None:
    code = "import sys, sugarsearch.data.catalog; print({'torch', 'sklearn', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_root(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    assert data_root() == root
    assert data_root("~/here") == Path.home() / "here"
    monkeypatch.delenv("SUGARSEARCH_DATA")
    assert data_root() == Path.home() / ".cache" / "sugarsearch"


def test_what_a_name_means(tree: Path, loader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import_folder(tree, "pets")
    monkeypatch.chdir(tree.parent)
    (tree.parent / "digits").mkdir()
    names = {"digits": "known", "./digits": "folder", "tree": "folder", "pets": "imported", f"{loader}:both": "loader"}
    assert {name: kind_of(name) for name in names} == names
    assert imported_names() == ["pets"]


def test_unknown_names_and_missing_folders(tree: Path) -> None:
    import_folder(tree, "pets")
    with pytest.raises(UnknownNameError) as caught:
        kind_of("cifar11")
    assert caught.value.nearest[0] in ("cifar10", "cifar100")
    assert "pets" in caught.value.known
    with pytest.raises(DataError, match="is not a folder"):
        open_training(DataConfig(name="./images"))


@pytest.mark.parametrize(("function", "classes"), [("both", ("0", "1", "2")), ("named", ("a", "b", "c"))])
def test_a_users_loader(loader: str, function: str, classes: tuple[str, ...]) -> None:
    config = DataConfig(name=f"{loader}:{function}")
    train, test = open_training(config), open_test(config)
    assert (len(train), len(test), train.shape, train.classes) == (30, 9, (6,), classes)
    np.testing.assert_array_equal(test.images[1], np.arange(6, 12))
    assert training_split(config).validation.counts.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("function", "error", "reason"),
    [
        ("wrong", DataError, "something else than pairs"),
        ("broken", DataError, "raised RuntimeError: the disk is on fire"),
        ("leaves", DataError, "raised SystemExit: 5"),
        ("crooked", DataError, "a pair of inputs and labels"),
        ("missing", UsageError, "has no 'missing'"),
    ],
)
def test_a_wrong_loader(loader: str, function: str, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        open_training(DataConfig(name=f"{loader}:{function}"))


def test_a_class_without_an_image_is_named(loader: str) -> None:
    with pytest.raises(DataError, match="has 30 training images, and none of class 1, 3"):
        training_split(DataConfig(name=f"{loader}:gap"))


def test_what_a_loader_gives_is_known_by_its_content(loader: str, tmp_path: Path) -> None:
    prints = []
    for number in ("1", "1", "2"):
        (tmp_path / "number.txt").write_text(number)
        parts = training_split(DataConfig(name=f"{loader}:from_file"))
        prints.append((parts.train.fingerprint, parts.validation.fingerprint))
    assert prints[0] == prints[1]
    assert prints[0][0] != prints[2][0]
    assert prints[0][1] != prints[2][1]


def test_an_imported_set_is_known_by_its_content(tree: Path) -> None:
    before = import_folder(tree, "pets")
    pictures = sorted((tree / "train" / "dog").iterdir())
    assert import_folder(tree, "pets", overwrite=True).fingerprint == before.fingerprint
    pictures[0].write_bytes(pictures[1].read_bytes())
    assert import_folder(tree, "pets", overwrite=True).fingerprint != before.fingerprint


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="module no_such_module cannot be imported"):
        open_training(DataConfig(name="no_such_module:load"))


def test_a_loader_without_test_data(loader: str) -> None:
    config = DataConfig(name=f"{loader}:alone")
    assert check(config).test is None
    with pytest.raises(DataError, match="has no test part"):
        open_test(config)


def test_listing(tree: Path, root: Path, small_cifar) -> None:
    import_folder(tree, "pets")
    open_training(DataConfig(name="cifar10"))
    (root / "pets" / "train_labels.npy").unlink()
    rows = {row.name: row for row in listing()}
    assert list(rows) == [*DATASETS, "pets"]
    assert (rows["digits"].train, rows["digits"].test, rows["digits"].shape) == (1438, 359, (1, 8, 8))
    ten = rows["cifar10"]
    assert (ten.ready, ten.train, ten.test, ten.classes, ten.shape) == (True, 100, 20, 10, (3, 32, 32))
    assert (rows["cifar100"].ready, rows["cifar100"].train) == (False, None)
    assert "not downloaded yet" in rows["cifar100"].description
    assert not rows["pets"].ready
    assert "train_labels.npy is missing" in rows["pets"].description


def test_check_counts_what_a_run_would_use(tree: Path) -> None:
    summary = check(DataConfig(name=str(tree), train_limit=10, validation=0.2))
    assert (summary.train, summary.validation, summary.test) == (8, 2, 7)
    assert check(DataConfig(name="digits")).fingerprint == open_training(DataConfig(name="digits")).fingerprint


@pytest.mark.parametrize("split", ["train", "test"])
def test_check_finds_a_flipped_byte(tree: Path, root: Path, split: str) -> None:
    import_folder(tree, "pets")
    path = root / "pets" / f"{split}_images.npy"
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)
    with pytest.raises(DataError, match="content has changed"):
        check(DataConfig(name="pets"))


def test_every_kind_keeps_the_contract(tree: Path, small_cifar, publish, pack, tiny_files) -> None:
    import_folder(tree, "pets")
    publish("tiny_imagenet", pack("zip", tiny_files))
    for name in (*DATASETS, "pets", str(tree)):
        config = DataConfig(name=name, validation=0.25)
        train, test, parts = open_training(config), open_test(config), training_split(config)
        for part in (train, test, parts.train, parts.validation):
            assert (part.images.dtype.name, part.labels.dtype.name, part.images.ndim) == ("uint8", "int64", 4), name
            assert part.shape == train.shape, name
            assert part.classes == train.classes, name
            assert 0 <= part.labels.min() <= part.labels.max() < len(train.classes), name
        assert len(parts.train) + len(parts.validation) == len(train), name
        seen, unseen = ({image.tobytes() for image in part.images} for part in (train, test))
        assert not seen & unseen, f"{name}: an image is in train and test"
        assert {image.tobytes() for part in (parts.train, parts.validation) for image in part.images} == seen, name
        assert training_split(config).train.fingerprint == parts.train.fingerprint, name
        other = training_split(DataConfig(name=name, validation=0.25, split_seed=1))
        assert other.train.fingerprint != parts.train.fingerprint, name


@pytest.fixture
def real_cifar10(tmp_path: Path) -> tuple[Path, int]:
    """A folder tree of real CIFAR-10 images, and how many of each class it has for training."""
    given = os.environ.get("SUGARSEARCH_TEST_CIFAR10")
    if given:
        return Path(given), 5000
    script = REAL_SHEETS / "unpack_cifar10.py"
    if not script.exists():
        pytest.skip("needs real CIFAR-10 images: set SUGARSEARCH_TEST_CIFAR10 to a class-per-folder tree of them")
    subprocess.run([sys.executable, script, tmp_path / "cifar10", "--limit", "100"], check=True, capture_output=True)
    return tmp_path / "cifar10", 100


def test_real_cifar10_from_a_folder(real_cifar10: tuple[Path, int]) -> None:
    folder, each = real_cifar10
    import_folder(folder, "real")
    train = open_training(DataConfig(name="real"))
    assert train.classes == ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    assert train.counts.tolist() == [each] * 10
    numbers = normalisation(train)
    assert numbers is not None
    # The published statistics of the training images; of a part they stray.
    stray = 2e-4 if each == 5000 else 0.02
    np.testing.assert_allclose(np.array(numbers.mean) / 255, (0.4914, 0.4822, 0.4465), atol=stray)
    np.testing.assert_allclose(np.array(numbers.std) / 255, (0.2470, 0.2435, 0.2616), atol=stray)
    parts = training_split(DataConfig(name="real", train_limit=each * 2))
    assert parts.train.counts.tolist() == [each * 18 // 100] * 10

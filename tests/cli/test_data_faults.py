"""Faulty data at the command line: one message with path and remedy, exit code 2, nothing left behind."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sugarsearch.cli import app

MAIN = "from sugarsearch.cli import main; main()"

STUDY = """\
name: faulty
space: whole_line
recipe:
  data: {{name: {name}}}
  model: {{name: deep_narrow_mlp, options: {{depth: 2}}}}
  optimizer: adam
  epochs: 1
search: {{candidates: 2, batch: 2, population: 2, tournament: 2, learning_rates: [0.003, 0.01]}}
final: {{learning_rates: [0.003, 0.01, 0.03], replicates: 7}}
execution: {{device: cpu, threads: 1}}
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where every data set of a test lies; the commands run beside it."""
    place = tmp_path / "root"
    monkeypatch.setenv("SUGARSEARCH_DATA", str(place))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return place


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A tree of two classes at once, ten images each."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        home = tmp_path / "pets" / ("cat", "dog")[number % 2]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(home / f"{number:02d}.png")
    return tmp_path / "pets"


def refused(*arguments: str | Path) -> str:
    """The one message of a command that ends with exit code 2."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stdout == ""
    assert result.stderr.startswith("sugarsearch: ")
    assert "Traceback" not in result.stderr
    return result.stderr.removeprefix("sugarsearch: ")


def emptied(pets: Path) -> Path:
    for picture in (pets / "dog").iterdir():
        picture.unlink()
    return pets / "dog"


def without_a_class(pets: Path) -> Path:
    emptied(pets).rmdir()
    return pets


def broken(pets: Path) -> Path:
    (pets / "dog" / "05.png").write_text("<html>not found</html>")
    return pets / "dog" / "05.png"


def wide(pets: Path) -> Path:
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(pets / "dog" / "05.png")
    return pets / "dog" / "05.png"


def linked(pets: Path) -> Path:
    (pets / "dog" / "zz.png").symlink_to("gone.png")
    return pets / "dog" / "zz.png"


FAULTS = {
    "empty class": (emptied, "holds no images"),
    "one class": (without_a_class, "has 1 class folders (cat)"),
    "broken image": (broken, "cannot be read as an image"),
    "16 bits": (wide, "has more than 8 bits"),
    "broken link": (linked, "is a link that leads nowhere"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", ["import", "check", "train"])
def test_a_folder_with_a_fault(pets: Path, root: Path, command: str, fault: str) -> None:
    damage, reason = FAULTS[fault]
    path = damage(pets)
    commands: dict[str, list[str | Path]] = {
        "import": ["data", "import", pets, "--name", "pets"],
        "check": ["data", "check", pets],
        "train": ["train", "--data", pets, "--model", "deep_narrow_mlp", "--epochs", "1", "--surrogate", "b_silu"],
    }
    message = refused(*commands[command])
    assert message.startswith(f"{path}: {reason}")
    assert message.count("\n") == 1
    assert [left for left in root.rglob("*") if left.is_file() and left.suffix != ".lock"] == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing_of_this_name", "unknown data set"),
        ("./nowhere", "is not a folder"),
        ("", "an empty name"),
        ("~no_such_user/pets", "begins with the home of a user"),
        ("./" + "x" * 300, "cannot be read (File name too long)"),
        ("no_module_of_this_name:load", "cannot be imported"),
    ],
)
def test_names_of_no_data(name: str, reason: str) -> None:
    assert reason in refused("data", "check", name)


@pytest.mark.parametrize(
    "given", [[b"data", b"check", b"./\xff"], [b"data", b"list", b"--root", b"\xff"], [b"train", b"--data", b"\xff"]]
)
def test_names_that_are_not_utf8(given: list[bytes]) -> None:
    done = subprocess.run([sys.executable, "-c", MAIN, *given], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "Traceback" not in done.stderr


def test_import_of_a_file_and_of_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "file.zip").write_bytes(b"PK")
    (tmp_path / "empty").mkdir()
    assert "is not a folder" in refused("data", "import", tmp_path / "file.zip", "--name", "x")
    assert "has no class folders" in refused("data", "import", tmp_path / "empty", "--name", "x")


@pytest.mark.parametrize("damage", ["cut", "labels", "manifest", "pixels"])
def test_a_damaged_import(pets: Path, root: Path, damage: str) -> None:
    assert CliRunner().invoke(app, ["data", "import", str(pets), "--name", "mine"]).exit_code == 0
    name = {"labels": "train_labels.npy", "manifest": "manifest.json"}.get(damage, "train_images.npy")
    content = bytearray((root / "mine" / name).read_bytes())
    if damage == "cut":
        del content[-10:]
    else:
        content[-20] ^= 1
    (root / "mine" / name).write_bytes(content)
    message = refused("data", "check", "mine")
    assert message.startswith(f"{root / 'mine'}: ")
    assert ("content has changed" if damage == "pixels" else "damaged") in message


def test_offline(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    message = refused("data", "check", "cifar10")
    assert message.startswith("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz: cannot be downloaded")
    assert str(root / "downloads" / "cifar-10-python.tar.gz") in message
    assert [left for left in root.rglob("*") if left.is_file() and left.suffix != ".lock"] == []


def test_a_full_disk_while_importing(pets: Path, root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "data", "import", pets, "--name", "mine"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"sugarsearch: {root / 'mine'}: cannot be written (File too large)")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in root.iterdir()] == [".mine.lock"]


@pytest.mark.parametrize("damage", [broken, without_a_class])
def test_a_study_of_faulty_data(pets: Path, tmp_path: Path, damage: Callable[[Path], Path]) -> None:
    path = damage(pets)
    study = tmp_path / "faulty.yaml"
    study.write_text(STUDY.format(name=pets))
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "search", study, "--run", tmp_path / "run"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert str(path) in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("limit", "reason"), [("1000000", "a limit of 1000000 images is more than"), ("3", "of class")]
)
def test_limits_that_the_data_cannot_give(limit: str, reason: str) -> None:
    command = ["train", "--data", "digits", "--model", "deep_narrow_mlp", "--epochs", "1", "--surrogate", "b_silu"]
    assert reason in refused(*command, "--set", f"recipe.data.train_limit={limit}")

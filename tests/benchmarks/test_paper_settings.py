"""The search for the paper's unstated settings: what each changes, what it says of results, and that it trains."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import torch

from benchmarks import paper_settings
from benchmarks.paper_settings import Setting
from sugarsearch.evaluation.jobs import recipe_hash
from sugarsearch.evaluation.records import Record, RecordLog, Status
from sugarsearch.reproduction.accuracy.run import Runs
from sugarsearch.runs.folder import RECORDS

MODULE: Final = """
import numpy as np
from sklearn.datasets import load_digits


def load():
    digits = load_digits()
    rows = np.flatnonzero(digits.target < 2)[:22]
    images = np.kron(digits.images[rows], np.ones((4, 4))) * 15
    images = np.repeat(images.astype(np.uint8)[:, None], 3, axis=1)
    return (images[:20], digits.target[rows][:20]), (images[20:], digits.target[rows][20:])
"""


def named(*common: str) -> dict[str, Setting]:
    return {setting.name: setting for setting in paper_settings.settings(common)}


def differences(left: Any, right: Any, place: str = "") -> dict[str, Any]:
    """What `right` has otherwise, by dotted key."""
    if isinstance(left, dict) and isinstance(right, dict):
        keys = left.keys() | right.keys()
        return {
            name: value
            for key in keys
            for name, value in differences(left.get(key), right.get(key), f"{place}.{key}").items()
        }
    return {} if left == right else {place[1:]: right}


EXPECTED: Final[dict[str, dict[str, Any]]] = {
    "default": {},
    "momentum": {"optimizer.momentum": 0.9},
    "weight_decay": {"optimizer.weight_decay": 5e-4},
    "momentum+weight_decay": {"optimizer.momentum": 0.9, "optimizer.weight_decay": 5e-4},
    "half": {"normalisation": "half"},
    "unit": {"normalisation": "unit"},
}
RESNET18: Final[dict[str, dict[str, Any]]] = {
    "imagenet_stem": {"model.options.stem": "imagenet"},
    "imagenet_stem+momentum": {"model.options.stem": "imagenet", "optimizer.momentum": 0.9},
}
VGG16: Final[dict[str, dict[str, Any]]] = {
    "no_batch_norm": {"model.options.batch_norm": False},
    "classic_head": {"model.options.head": "classic"},
}


def test_settings_differ_from_the_shipped_recipe_in_what_they_are_named_for_alone() -> None:
    found = named()
    for model, own in (("resnet18", RESNET18), ("vgg16", VGG16)):
        shipped = found[f"{model}/default"].cell.model.recipe.model_dump(mode="json")
        assert (shipped["model"]["name"], shipped["data"]["name"], shipped["epochs"]) == (model, "cifar10", 50)
        got = {
            name.partition("/")[2]: differences(shipped, setting.cell.model.recipe.model_dump(mode="json"))
            for name, setting in found.items()
            if name.startswith(model)
        }
        assert got == {**EXPECTED, **own}
    assert {setting.cell.row_name for setting in found.values()} == {"relu"}
    assert {setting.cell.learning_rate for setting in found.values()} == {0.001}


def fill(folder: Path, setting: Setting, scores: Sequence[float | None]) -> Runs:
    """Records of the setting with seeds from 1; None is a run that diverged."""
    recipe, versions = recipe_hash(setting.cell.model.recipe), {"torch": torch.__version__}
    records = []
    for seed, score in enumerate(scores, start=1):
        status, course = (Status.COMPLETED, (score,)) if score is not None else (Status.DIVERGED, ())
        shares = (0.0,) * len(course)
        job = setting.cell.job(seed)
        records.append(Record(job, recipe, "eager", "a GPU", status, 10, 60.0, versions, course, shares, shares))
    RecordLog(folder / RECORDS).append(records)
    return Runs(folder)


@pytest.mark.parametrize(
    ("scores", "accuracy", "distance", "meets"),
    [  # printed of ResNet-18: 73.22 ± 0.42
        ([0.7401], 74.01, 0.79, True),
        ([0.7407], 74.07, 0.85, False),
        ([0.7237], 72.37, -0.85, False),
        ([0.72, 0.744], 73.2, -0.02, True),
        ([None], 10.0, -63.22, False),
    ],
)
def test_a_setting_meets_the_printed_mean_within_two_printed_deviations(
    scores: list[float | None], accuracy: float, distance: float, meets: bool, tmp_path: Path
) -> None:
    setting = named()["resnet18/half"]
    found = paper_settings.row(setting, fill(tmp_path, setting, scores))
    assert found is not None
    assert (found["accuracy"], found["printed"], found["distance"]) == (accuracy, [73.22, 0.42], distance)
    assert found["meets"] is meets
    assert found["diverged"] == scores.count(None)
    assert (found["seconds"], found["device"]) == (60.0 * len(scores), ["a GPU"])
    assert found["versions"] == [{"torch": torch.__version__}]
    assert paper_settings.row(named()["resnet18/unit"], Runs(tmp_path)) is None
    last = paper_settings.table([found]).splitlines()[-1]
    assert last.endswith(": resnet18/half" if meets else ": none")


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of a call on a few digits, in a folder of its own."""
    (tmp_path / "few_digits.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return ["--data", "few_digits:load", "--epochs", "1", "--limit", "10", "--out", "there/out.json"]


@pytest.mark.slow
def test_it_trains_what_is_not_known_and_keeps_what_is(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def trained(*more: str) -> list[str]:
        assert paper_settings.main([*options, *more]) == 0
        said = capsys.readouterr()
        assert "within 2 printed deviations of the printed mean: " in said.out
        return [line.partition(": ")[2].partition(":")[0] for line in said.err.splitlines()]

    assert trained("--only", "resnet18/imagenet_stem*") == [
        "resnet18/imagenet_stem, seed 1",
        "resnet18/imagenet_stem+momentum, seed 1",
    ]
    assert trained("--only", "resnet18/imagenet_stem", "--seeds", "1", "4") == ["resnet18/imagenet_stem, seed 4"]
    found = json.loads((tmp_path / "there/out.json").read_text())
    assert (found["data"], found["epochs"], found["training_images"]) == ("few_digits:load", 1, 10)
    first, second = found["settings"]
    assert (first["setting"], first["changes"]) == ("resnet18/imagenet_stem", ["model.options.stem=imagenet"])
    assert second["setting"] == "resnet18/imagenet_stem+momentum"
    assert (set(first["accuracy_by_seed"]), set(second["accuracy_by_seed"])) == ({"1", "4"}, {"1"})
    kept = RecordLog(tmp_path / "runs/paper_settings" / RECORDS).load()
    assert all(record.status is Status.COMPLETED for record in kept)
    assert first["accuracy_by_seed"] == {
        str(record.job.seed): round(100 * record.value, 2) for record in (kept[0], kept[2])
    }
    assert first["meets"] is second["meets"] is False
    assert found["meet"] == []


def test_what_cannot_be_run_is_said(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        paper_settings.main([*options, "--only", "resnet50/*"])
    assert "no setting; there are resnet18/default, resnet18/momentum," in capsys.readouterr().err
    assert paper_settings.main([*options, "--data", "./nowhere"]) != 0
    assert "nowhere" in capsys.readouterr().err
    assert paper_settings.main([*options, "--epochs", "0"]) != 0
    assert "epochs" in capsys.readouterr().err

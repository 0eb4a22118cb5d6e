"""Tables of accuracies as files: what is shared, what is refused, and that the printed numbers are the paper's."""

from __future__ import annotations

from pathlib import Path

import pytest

from sugarsearch.config import loader
from sugarsearch.config.accuracy_table import AccuracyBaseline
from sugarsearch.errors import ConfigurationError, UnknownNameError
from sugarsearch.reproduction.accuracy.cells import Cell, Choice, cells_of, chosen
from sugarsearch.reproduction.load import kind_of, load


def table(name: str, *overrides: str) -> AccuracyBaseline:
    baseline = load(name, overrides)
    assert isinstance(baseline, AccuracyBaseline)
    return baseline


def by_setting(baseline: AccuracyBaseline) -> dict[str, Cell]:
    return {cell.setting: cell for cell in cells_of(baseline)}


def test_every_shipped_baseline_is_of_a_known_kind_and_valid() -> None:
    kinds = {name: kind_of(name) for name in loader.shipped("baselines")}
    assert {name for name, kind in kinds.items() if kind == "accuracies"} == {
        *("table1", "table4", "table5"),
        "learning_rate",
    }
    for name in kinds:
        assert load(name).name == name


# Read off the paper's tables 1, 4 and 5: mean and deviation in percent.
PAPER = {
    ("table4", "resnet18/relu"): (73.22, 0.42),
    ("table4", "resnet18/b_silu/sugar"): (86.42, 0.33),
    ("table4", "resnet18/silu/non_sugar"): (73.91, 0.49),
    ("table4", "vgg16/relu"): (75.85, 0.51),
    ("table4", "vgg16/elu/sugar"): (85.58, 0.16),
    ("table5", "resnet18/relu"): (43.38, 0.57),
    ("table5", "vgg16/b_silu/sugar"): (64.47, 0.32),
    ("table5", "vgg16/nelu_1/non_sugar"): (40.35, 0.88),
    ("table1", "conv2next/nelu_1/sugar"): (83.95, 0.2),
    ("table1", "swin_t/b_silu/sugar"): (57.15, 0.2),
    ("table1", "swin_t/gelu/non_sugar"): (61.39, 0.5),
}


@pytest.mark.parametrize("where", PAPER, ids=" ".join)
def test_the_printed_numbers_are_the_papers(where: tuple[str, str]) -> None:
    name, setting = where
    printed = by_setting(table(name))[setting].printed
    assert printed == pytest.approx(tuple(value / 100 for value in PAPER[where]))


@pytest.mark.parametrize(("name", "cells"), [("table1", 12), ("table4", 42), ("table5", 42)])
def test_every_cell_of_the_papers_tables_has_a_printed_number(name: str, cells: int) -> None:
    baseline = table(name)
    assert len(cells_of(baseline)) == cells
    assert all(cell.printed is not None for cell in cells_of(baseline))
    assert baseline.seeds == (1, 10, 20, 25, 42)


def test_the_papers_settings_are_in_the_recipes_and_shared() -> None:
    four, five = table("table4"), table("table5")
    small, large = four.models["resnet18"].recipe, five.models["vgg16"].recipe
    assert (small.data.name, small.epochs, small.model.name) == ("cifar10", 50, "resnet18")
    assert (large.data.name, large.epochs, large.model.name) == ("cifar100", 100, "vgg16")
    shared = {"data", "epochs", "model"}
    assert small.model_dump(exclude=shared) == large.model_dump(exclude=shared)
    assert (small.batch_size, small.augmentation, small.data.validation) == (128, "none", 0.1)
    assert four.models["resnet18"].learning_rates == (0.001,)
    assert four.rows == five.rows
    swin, conv = table("table1").models["swin_t"], table("table1").models["conv2next"]
    assert swin.learning_rates[0] == pytest.approx(5e-4 * 200 / 512)
    assert swin.recipe.schedule.final_fraction * swin.learning_rates[0] == pytest.approx(5e-6 * 200 / 512)
    assert swin.recipe.schedule.warmup_fraction * swin.learning_rates[0] == pytest.approx(5e-7 * 200 / 512)
    assert conv.recipe.batch_size * conv.recipe.accumulation == 800
    assert conv.recipe.schedule.final_fraction * conv.learning_rates[0] == pytest.approx(1e-6)


def test_overrides_reach_into_a_shared_recipe() -> None:
    baseline = table("table4", "models.resnet18.recipe.model.options.stem=imagenet", "models.vgg16.recipe.epochs=2")
    assert baseline.models["resnet18"].recipe.model.options == {"stem": "imagenet"}
    assert baseline.models["resnet18"].recipe.epochs == 50
    assert baseline.models["vgg16"].recipe.epochs == 2


FAULTS = {
    "    recipe:\n": "    recipe:\n      like: nothing\n",
    "arms: [sugar]}\n  elu": "}\n  elu",
    "seeds: [3, 4]": "seeds: [3, 3]",
    "elu: {non_sugar: [60.0, 2.0]": "gelu: {non_sugar: [60.0, 2.0]",
    "relu: {sugar: [50.0, 1.0]}": "relu: {non_sugar: [50.0, 1.0]}",
    "lower: deep/relu": "lower: deep/relu/sugar",
    "kind: accuracies": "kind: accuracy",
    "learning_rates: [0.01]": "learning_rates: [0.01, 0.01]",
}
SAID = (
    "models.deep.recipe.like: unknown recipe 'nothing'",
    "ReLU has one arm: write arms: [sugar].",
    "names a seed twice",
    "printed.deep.gelu: the baseline has no such model or row.",
    "printed.deep.relu.non_sugar: the row is not trained in this arm.",
    "claims.0 speaks of 'deep/relu/sugar'",
    "kind is 'accuracy'; allowed: deep_narrow_nets, accuracies",
    "must increase, without repeats",
)


@pytest.mark.parametrize(("fault", "said"), list(zip(FAULTS, SAID, strict=True)))
def test_faults_of_a_file_are_named_with_their_place(fault: str, said: str, tiny_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "faulty.yaml"
    text = tiny_file.read_text()
    assert fault in text
    path.write_text(text.replace(fault, FAULTS[fault], 1))
    with pytest.raises(ConfigurationError) as caught:
        load(str(path))
    assert said in str(caught.value)
    assert f"{path}:" in str(caught.value)


def test_a_choice_of_cells() -> None:
    baseline = table("table4")
    asked = chosen(baseline, Choice(models=["resnet18"], rows=["b_silu", "relu"], arms=["sugar"]))
    assert [cell.name for cell in asked] == ["resnet18/b_silu/sugar", "resnet18/relu"]
    assert len(chosen(baseline, Choice())) == 42
    assert [cell.name for cell in chosen(baseline, Choice(patterns=["*/selu/non*"]))] == [
        "resnet18/selu/non_sugar",
        "vgg16/selu/non_sugar",
    ]
    rates = chosen(table("learning_rate"), Choice(models=["small_conv"], rows=["relu"], learning_rates=[0.01, 0.1]))
    assert [cell.name for cell in rates] == ["small_conv/relu@0.01", "small_conv/relu@0.1"]


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (Choice(models=["resnet"]), "unknown model 'resnet'; did you mean resnet18?"),
        (Choice(rows=["bsilu"]), "unknown surrogate 'bsilu'; did you mean b_silu"),
        (Choice(arms=["suger"]), "unknown arm 'suger'; did you mean sugar?"),
        (Choice(learning_rates=[0.5]), "unknown learning rate '0.5'"),
        (Choice(patterns=["resnet18/*/both"]), "unknown cell 'resnet18/*/both'"),
    ],
)
def test_a_choice_of_what_there_is_not_is_refused(choice: Choice, said: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        chosen(table("table4"), choice)
    assert said in str(caught.value)


def test_unit_gain_is_of_g_and_arms_are_of_jobs(named: dict[str, Cell]) -> None:
    assert named["deep/unit/sugar"].surrogate.gain == pytest.approx(1)
    assert named["deep/elu/sugar"].surrogate.gain == pytest.approx(1.156, abs=1e-3)
    jobs = [named[name].job(3) for name in ("deep/elu/non_sugar", "deep/elu/sugar")]
    assert [job.arm for job in jobs] == ["non_sugar", "sugar"]
    assert len({job.id for job in jobs}) == 2

"""Baseline files: the shipped ones, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from sugarsearch.catalog import Catalogue
from sugarsearch.config import loader
from sugarsearch.config.narrow_nets import NarrowNetsBaseline
from sugarsearch.errors import ConfigurationError
from sugarsearch.reproduction.narrow.cells import chosen
from tests.reproduction.narrow.conftest import narrow

SHIPPED = loader.shipped("baselines")["table2_3"]


def faults(text: str, tmp_path: Path) -> list[str]:
    path = tmp_path / "given.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as error:
        loader.load(path, NarrowNetsBaseline, Catalogue())
    return [str(problem).removeprefix(f"{path}:") for problem in error.value.problems]


def test_bounds_reproduce_the_printed_ranges_and_cover_the_line(paper: NarrowNetsBaseline) -> None:
    assert list(paper.targets) == ["f1", "f2", "f3", "f4"]
    for target in paper.targets.values():
        for name, outcome in target.classes.items():
            assert [target.class_of(loss) for loss in outcome.printed] == [name, name]
            if outcome.above is not None:
                beyond = math.nextafter(outcome.above, math.inf)
                assert target.class_of(beyond) == name
                assert target.class_of(outcome.above) != name
        *_, last = target.classes
        assert [target.class_of(loss) for loss in (1e300, None, 0.0)] == [target.tested, target.tested, last]


def test_printed_shares_are_whole_numbers_of_runs_and_add_up(paper: NarrowNetsBaseline) -> None:
    cells = chosen(paper, [])
    assert len(cells) == 12
    for cell in cells:
        assert cell.printed is not None
        assert cell.arm.printed is not None
        assert sum(cell.printed.values()) == pytest.approx(1)
        for share in cell.printed.values():
            assert share * cell.arm.printed.runs == pytest.approx(round(share * cell.arm.printed.runs), abs=1e-6)
    assert {cell.arm_name: cell.arm.printed.runs for cell in cells if cell.arm.printed} == {
        "he": 1000,
        "rai": 1000,
        "sugar": 100,
    }


def test_a_class_left_out_has_the_rest(paper: NarrowNetsBaseline) -> None:
    assert paper.printed("f4", "he") == {"A": 0.768, "D": pytest.approx(0.232)}
    assert paper.printed("f4", "elu") is None


def test_a_cell_has_its_arms_settings_over_its_targets_over_the_common_ones() -> None:
    found = narrow(["targets.f4.experiment={width: 3, epochs: 7}", "arms.rai.experiment={epochs: 8, milestones: []}"])
    common = found.experiment.model_dump()
    assert common["milestones"]
    assert found.settings("f1", "he") == found.experiment
    assert found.settings("f4", "he").model_dump() == {**common, "width": 3, "epochs": 7}
    assert found.settings("f1", "rai").model_dump() == {**common, "epochs": 8, "milestones": ()}
    assert found.settings("f4", "rai").model_dump() == {**common, "width": 3, "epochs": 8, "milestones": ()}


def test_the_net_of_f4_and_the_schedule_of_rai_are_their_own(paper: NarrowNetsBaseline) -> None:
    nets = {cell.name: (cell.settings.hidden_layers, cell.settings.width) for cell in chosen(paper, ["*"])}
    assert nets == {name: (19, 4) if name.startswith("f4") else (9, 2) for name in nets}
    schedules = {
        cell.arm_name: (cell.settings.learning_rate, cell.settings.milestones, cell.settings.epochs)
        for cell in chosen(paper, ["*"])
    }
    assert schedules.pop("rai") == (0.0001, (), 500)
    assert set(schedules.values()) == {(0.005, (100, 150, 200, 225), 250)}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("hidden_layers: 19", "hidden_layer: 19", "targets.f4.experiment.hidden_layer is not allowed; did you mean"),
        ("hidden_layers: 19", "hidden_layers: 0", "targets.f4.experiment.hidden_layers is 0; should be"),
        ("milestones: []", "milestones: [0]", "arms.rai.experiment.milestones.0 is 0; should be"),
        ("learning_rate: 0.0001", "learning_rate: fast", 'arms.rai.experiment.learning_rate is "fast"'),
    ],
)
def test_a_fault_of_changed_settings_is_named_with_its_line(old: str, new: str, said: str, tmp_path: Path) -> None:
    text = SHIPPED.read_text()
    assert text.count(old) == 1
    (fault,) = faults(text.replace(old, new), tmp_path)
    assert said in fault
    line = text[: text.index(old)].count("\n") + 1
    assert fault.startswith(f"{line}:")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("above: 31.7}", "above: 20}", "is printed as 0.55 to 27.24, which is not within its bounds"),
        (", above: 13.3", "", "each class but the last needs above"),
        ("above: 5.6}", "above: 14}", "each class but the last needs above, falling"),
        ("C: 2.2}", "E: 2.2}", "arms.he.printed.percent.f1.E: no such class; its classes are A, B, C."),
        ("C: 2.2}", "C: 8}", "adds up to 105.8 %"),
        ("f1: {A: 15, B: 8, C: 77}", "f1: {B: 8, C: 77}", "needs the share of A"),
        ("surrogate: selu", "surrogate: elu", "selu trains as elu does"),
        ("surrogate: selu", "surrogate: sellu", "did you mean selu"),
        ("epochs: 250", "epochs: 0", "experiment.epochs is 0"),
        ("kind: deep_narrow_nets", "kind: cells", 'kind is "cells"'),
        ("  f4:\n    experiment", "  f5:\n    experiment", "targets.f5"),
    ],
)
def test_a_fault_is_named_where_it_stands(old: str, new: str, said: str, tmp_path: Path) -> None:
    text = SHIPPED.read_text()
    assert text.count(old) == 1
    found = faults(text.replace(old, new), tmp_path)
    assert any(said in fault for fault in found), found
    assert all(fault[0].isdigit() for fault in found)


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    text = SHIPPED.read_text().replace("epochs: 250", "epochs: 0").replace("surrogate: mish", "surrogate: mush")
    assert len(faults(text, tmp_path)) == 2

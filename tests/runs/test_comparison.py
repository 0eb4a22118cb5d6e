"""Comparisons from Python: your own model and tensors, what is trained, and what the run folder is held to."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sugarsearch as ss
from sugarsearch.config import loader, yamlfile
from sugarsearch.config.comparison import ComparisonConfig
from sugarsearch.errors import AdmissionError, ConfigurationError, RunError, UnknownNameError, UsageError
from sugarsearch.evaluation.jobs import seed_of
from sugarsearch.evaluation.records import Record, RecordLog
from sugarsearch.runs.comparison import compared
from sugarsearch.runs.export import entry_of, export
from sugarsearch.runs.observer import Silent
from sugarsearch.runs.results import StudyResult
from sugarsearch.symbolic.surrogate import Surrogate

RECIPE = {"epochs": 2, "optimizer": "adam", "batch_size": 50}
FINAL = {"learning_rates": [0.003, 0.03], "replicates": 8}
MINE = ss.surrogate("b_silu", alpha=1.3).at_unit_gain()


class Net(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))


def halves(count: int, seed: int, flipped: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Points told apart by a coordinate; flipped, all that is learnt of them is wrong."""
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return x, ((x[:, 0] > 0) != flipped).long()


TRAIN, VAL, TEST = halves(200, 0), halves(80, 1), halves(80, 2, flipped=True)


def call(run: Path, **changes: Any) -> StudyResult:
    given: dict[str, Any] = {
        "surrogates": {"mine": MINE, "gate": "sigmoid(4*x)"},
        "model_fn": Net,
        "train": TRAIN,
        "val": VAL,
        "test": TEST,
        "recipe": RECIPE,
        "final": FINAL,
        "threads": 1,
    }
    return ss.compare(**{**given, **changes}, run=run)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyResult]:
    folder = tmp_path_factory.mktemp("comparison") / "run"
    return folder, call(folder)


def records(folder: Path) -> list[Record]:
    return RecordLog(folder / "records.jsonl").load()


def test_each_surrogate_has_a_verdict_and_its_own_controls(finished: tuple[Path, StudyResult]) -> None:
    table = finished[1].table
    assert table is not None
    titles = {arm.label: arm.title for arm in table.rows}
    random = ["random g of gain 1", "random g of gain 0.904"]
    assert sorted(titles.values()) == sorted(
        ["mine", "gate", "gate at unit gain", "relu", "b_silu(alpha=1.67)", *random]
    )
    assert {titles[verdict.finalist] for verdict in table.verdicts} == {"mine", "gate"}
    against = {titles[v.finalist]: [titles[made.against] for made in v.comparisons] for v in table.verdicts}
    assert against == {"mine": ["relu", random[0]], "gate": ["relu", "gate at unit gain", random[1]]}
    assert {(pair.first, pair.second) for pair in table.pairs} == {(MINE.label + " at unit gain", "sigmoid(4*x)")}


def test_rates_are_chosen_on_validation_data_and_final_runs_scored_on_test_data(
    finished: tuple[Path, StudyResult],
) -> None:
    table = finished[1].table
    assert table is not None
    assert table.scored_on == "test"
    for arm in table.rows:
        assert max(arm.tuning.values()) > 0.7, "validation labels are those that are learnt"
        assert arm.summary.mean < 0.3, "test labels are their contrary"


def test_without_test_data_or_space_it_says_that_validation_data_was_scored_and_draws_no_random_g(
    tmp_path: Path,
) -> None:
    table = call(tmp_path / "run", test=None, space=None).table
    assert table is not None
    assert not any("random" in arm.title for arm in table.rows)
    assert table.scored_on == "validation"
    assert min(arm.summary.mean for arm in table.rows) > 0.6


def test_the_run_folder_holds_the_comparison_and_all_that_was_run(finished: tuple[Path, StudyResult]) -> None:
    folder, result = finished
    names = {path.name for path in folder.iterdir()}
    assert names == {"comparison.yaml", "records.jsonl", "run.json", "results.json", "lock"}
    assert StudyResult.load(folder / "results.json") == result
    stored = loader.load(folder / "comparison.yaml", ComparisonConfig)
    assert stored.model_dump(mode="json") == result.config
    assert {title: (entry.g, entry.gain) for title, entry in stored.surrogates.items()} == {
        "mine": ("b_silu(alpha=1.3)", "unit"),
        "gate": ("sigmoid(4*x)", "own"),
    }
    assert not result.is_search
    assert result.screening == []


def test_all_arms_share_seeds_which_differ_between_stages_and_comparisons(finished: tuple[Path, StudyResult]) -> None:
    seeds: dict[str, dict[Surrogate, set[int]]] = {"tuning": {}, "final": {}}
    for record in records(finished[0]):
        seeds[record.job.stage].setdefault(record.job.surrogate, set()).add(record.job.seed)
    for stage, count in (("tuning", 3), ("final", 8)):
        expected = {seed_of(0, stage, replicate) for replicate in range(count)}
        assert list(seeds[stage].values()) == [expected] * 7
    assert not {seed_of(1, "final", r) for r in range(8)} & {seed_of(0, "final", r) for r in range(8)}


def test_the_same_call_trains_nothing(finished: tuple[Path, StudyResult]) -> None:
    folder, result = finished
    before = (folder / "records.jsonl").read_bytes()
    assert call(folder).final == result.final
    reordered = call(folder, surrogates={"gate": "sigmoid(4*x)", "mine": MINE}).table
    assert reordered is not None
    assert result.table is not None
    assert reordered.verdicts == result.table.verdicts
    assert (folder / "records.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"surrogates": {"mine": MINE}}, r"surrogates\.gate\.g: the run has .*sigmoid.*given is \(absent\)"),
        ({"surrogates": {"mine": MINE, "gate": "sigmoid(5*x)"}}, r"surrogates\.gate\.g: .*4\*x.*5\*x"),
        ({"recipe": {**RECIPE, "epochs": 3}}, r"recipe\.epochs: the run has 2, given is 3"),
        ({"seed": 1}, "seed: the run has 0, given is 1"),
        ({"test": None}, r"recipe\.data\.name"),
        ({"train": halves(200, 9)}, r"recipe\.data\.name"),
        (
            {"final": {**FINAL, "ablations": ["grafted"]}},
            r"final\.ablations: the run has \[\], given is \[\"grafted\"\]",
        ),
    ],
)
def test_another_comparison_is_refused_in_the_same_folder(
    finished: tuple[Path, StudyResult], changes: dict[str, Any], words: str
) -> None:
    before = (finished[0] / "records.jsonl").read_bytes()
    with pytest.raises(RunError, match=words):
        call(finished[0], **changes)
    assert (finished[0] / "records.jsonl").read_bytes() == before


GRID = np.linspace(-8, 8, 1001)
KINDS: dict[str, Surrogate | str] = {
    "named": ss.surrogate("b_silu", alpha=0.123456789012345),
    "named at unit gain": ss.surrogate("nelu").at_unit_gain(),
    "expression": ss.surrogate("tanh(x)/3 + 1"),
    "with a parameter": ss.surrogate("sigmoid(k*x)", k=3.1),
    "with a parameter at unit gain": ss.surrogate("sigmoid(k*x)", k=1 / 3).at_unit_gain(),
    "scale of its own": dataclasses.replace(ss.surrogate("elu"), scale=0.3),
    "text": "softplus(x)/(1+softplus(x))",
}


@pytest.mark.parametrize("title", KINDS)
def test_the_g_that_is_trained_is_the_g_that_was_given(title: str) -> None:
    given = KINDS[title]
    g = given if isinstance(given, Surrogate) else ss.surrogate(given)
    (trained,) = compared(config({title: entry_of(given)})).values()
    np.testing.assert_array_equal(trained(GRID), g(GRID))
    assert trained.gain == pytest.approx(g.gain, rel=1e-12)
    if title != "scale of its own":  # which becomes part of the formula
        assert (trained.identity, trained.scale) == (g.identity, g.scale)


def test_a_g_of_an_exported_file_is_written_out(tmp_path: Path) -> None:
    export(MINE, tmp_path)
    entry = entry_of(str(tmp_path / "g.yaml"))
    (tmp_path / "g.yaml").unlink()
    assert compared(config({"mine": entry}))["mine"] == MINE


def config(surrogates: Any, **changes: Any) -> ComparisonConfig:
    value = {
        "name": "c",
        "surrogates": surrogates,
        "recipe": {"data": "digits", "model": "deep_narrow_mlp", "epochs": 1},
        "final": {"learning_rates": [0.1], "replicates": 9},
        **changes,
    }
    return loader.check(yamlfile.Document("test", json.loads(json.dumps(value))), ComparisonConfig)


@pytest.mark.parametrize(
    ("surrogates", "words"),
    [
        ({"a": "elu", "b": "if_positive(x, 1, exp(x))"}, "'a' and 'b' are one function at one scale"),
        ({"relu": "elu"}, "'relu' would be the name of two arms"),
        ({"b_silu(alpha=1.67)": "elu"}, "'b_silu(alpha=1.67)' would be the name of two arms"),
        ({"a": "elu", "a at unit gain": "sigmoid(x)"}, "'a at unit gain' would be the name of two arms"),
        ({"a": "b_silu(alpha=1.3)", "b": "b_silu(alpha=1.3000001)"}, "'a' and 'b' differ too little"),
        (["relu"], "ReLU stands in every comparison"),
        (["relu", "step(x)"], "are one function"),
    ],
)
def test_surrogates_that_cannot_be_told_apart_are_refused(surrogates: Any, words: str) -> None:
    with pytest.raises(UsageError) as refusal:
        compared(config(surrogates))
    assert words in str(refusal.value)


def test_names_of_ablations_are_taken_too() -> None:
    surrogates, final = {"a": "elu", "a grafted": "sigmoid(x)"}, {"learning_rates": [0.1], "replicates": 9}
    assert compared(config(surrogates, final=final)).keys() == {"a", "a grafted"}
    with pytest.raises(UsageError, match="'a grafted' would be the name of two arms"):
        compared(config(surrogates, final={**final, "ablations": ["grafted"]}))


def test_one_shape_at_two_scales_is_two_surrogates() -> None:
    both = compared(config({"own": "elu", "unit": {"g": "elu", "gain": "unit"}}))
    assert both["own"].identity == both["unit"].identity
    assert both["unit"].gain == pytest.approx(1)
    assert both["own"].gain == pytest.approx(1.156, abs=1e-3)


def test_a_control_may_be_among_the_surrogates() -> None:
    assert compared(config(["relu", "b_silu", "elu"])).keys() == {"relu", "b_silu", "elu"}


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"surrogates": {}}, ConfigurationError, "surrogates"),
        ({"surrogates": "elu"}, UsageError, "one text is no list"),
        ({"surrogates": ["elu", "elu"]}, UsageError, "'elu' is there twice"),
        ({"surrogates": {"a": "sigmoid(y)"}}, ConfigurationError, r"surrogates\.a\.g.*unknown name 'y'"),
        ({"surrogates": {"a": "exp(exp(x))"}}, AdmissionError, "not admitted"),
        ({"final": {"replicates": 3}}, ConfigurationError, r"final\.replicates is not allowed: with 3 seeds"),
        ({"final": {"replicates": 7}}, ConfigurationError, r"^compare\(\): with 7 seeds an arm .* on 2 finalists"),
        (
            {"final": {"ablations": ["adam"]}},
            ConfigurationError,
            r"^compare\(\): the ablation adam is for recipes of sgd",
        ),
        ({"final": {"rates": [0.1]}}, ConfigurationError, r"final\.rates is not allowed"),
        ({"workers": 2}, UnknownNameError, "setting 'workers'"),
        ({"space": "gat"}, UnknownNameError, "gate"),
    ],
)
def test_bad_input_is_named_before_there_is_a_folder(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


class StopError(Exception):
    """What ends a sitting."""


class Stopper(Silent):
    """Ends the sitting once so many jobs of a stage are done."""

    def __init__(self, stage: str, after: int) -> None:
        self.at = stage, after
        self.titles: list[str] = []

    def started(self, config: Any, folder: Path, resumed: int) -> None:
        self.titles = list(config.surrogates)

    def stage(self, name: str, done: int, total: int) -> None:
        if name == self.at[0] and done >= self.at[1]:
            raise StopError


def test_a_list_takes_surrogates_too_and_calls_them_by_their_labels(tmp_path: Path) -> None:
    stopper = Stopper("tuning", 0)
    with pytest.raises(StopError):
        call(tmp_path / "run", surrogates=["elu", MINE], observer=stopper)
    assert stopper.titles == ["elu", f"{MINE.label} at unit gain"]
    assert records(tmp_path / "run") == []


def test_a_comparison_that_was_stopped_goes_on_and_ends_as_an_unstopped_one(
    finished: tuple[Path, StudyResult], tmp_path: Path
) -> None:
    folder, whole = tmp_path / "run", finished[1]
    with pytest.raises(StopError):
        call(folder, observer=Stopper("final", 5))
    kept = (folder / "records.jsonl").read_bytes()
    assert 0 < len(kept) < len((finished[0] / "records.jsonl").read_bytes())
    assert not (folder / "results.json").exists()
    assert call(folder).final == whole.final
    assert (folder / "records.jsonl").read_bytes().startswith(kept)
    assert len(records(folder)) == len(records(finished[0]))

"""The benchmark of searches: that both ways do the same work, and what the section says; never times."""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path

import pytest
import torch
from optuna.trial import FixedTrial
from torch.utils.data import DataLoader, RandomSampler

from benchmarks import throughput
from benchmarks.harness import Settings
from benchmarks.throughput import Case, PlainActivation
from benchmarks.training import Loaders, PlainRun
from sugarsearch.config.schema import StudyConfig
from sugarsearch.data.device import DeviceArrays, normalisation
from sugarsearch.data.splits import training_split
from sugarsearch.evaluation.executor import InlineExecutor
from sugarsearch.models.build import build_seeded
from sugarsearch.symbolic.library import surrogate
from sugarsearch.training.network import Member
from sugarsearch.training.trainer import TrainingRun

CPU = torch.device("cpu")
ONE = Settings(CPU, threads=1)
TINY = (
    "recipe.data.train_limit=100",
    "recipe.model.options.depth=2",
    "recipe.epochs=3",
    "search.learning_rates=[0.003, 0.01]",
    "search.replicates=2",
    "search.batch=2",
)
CASE = Case("tiny", "quickstart", 4, 1, 10.0, overrides=TINY)


def config() -> StudyConfig:
    return throughput._config(CASE, ONE, 0)


def test_both_ways_are_timed_over_the_same_work() -> None:
    section = throughput.measure(ONE, [CASE])
    (figure,) = section.figures
    assert (figure.name, figure.target) == ("tiny", ">= 10")
    assert figure.value > 0
    assert (figure.detail["threads"], figure.detail["reference_threads"]) == (1, [1])
    assert 0 < figure.detail["reference_share_outside_training"] < 1
    assert 0 < figure.detail["share_outside_training"] < 1
    assert len(section.notes) == 1
    json.dumps(section.to_json(), allow_nan=False)


def test_epochs_count_and_pruning_shows_in_a_figure_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sugarsearch.evaluation.executor.ProcessExecutor", InlineExecutor)
    own = throughput.ours(config(), tmp_path / "run")
    reference = throughput.obvious(config(), tmp_path, CPU, images=False, candidates=2)
    assert own.epochs == reference.epochs == 2 * 2 * 3
    assert own.training < own.seconds
    assert reference.training < reference.seconds
    pruned = Case("pruned", "quickstart", 4, 1, overrides=(*TINY, "search.pruning={rungs: [1], keep: 0.5}"))
    study = throughput._config(pruned, ONE, 0)
    early = throughput.ours(study, tmp_path / "pruned")
    assert early.epochs < own.epochs
    all_work, same_work = throughput._figures(pruned, study, [early], [reference])
    assert same_work.value == pytest.approx(all_work.value * early.epochs / reference.epochs)


def test_images_are_loaded_one_by_one_in_the_obvious_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "IMAGE_WORKERS", 0)  # Python warns of forks in processes with threads
    outcome = throughput.obvious(config(), tmp_path, CPU, images=True)
    assert outcome.epochs == 2 * 2 * 3


def test_the_obvious_way_trains_as_training_run() -> None:
    study, seed = config(), 3
    split = training_split(study.recipe.data)
    scale = normalisation(split.train)
    assert scale is not None
    data = [DeviceArrays(part, scale) for part in (split.train, split.validation)]
    # One batch, so that its order does not matter.
    recipe = study.recipe.model_copy(update={"batch_size": len(data[0])})
    train, scoring = (throughput._normalised(part, scale) for part in (split.train, split.validation))
    loaders = Loaders(DataLoader(train, len(train), sampler=RandomSampler(train)), DataLoader(scoring, len(scoring)))
    network = build_seeded(
        recipe.model, data[0].shape, data[0].classes, seed, lambda: PlainActivation(lambda x: torch.sigmoid(4 * x))
    )
    plain = PlainRun(network, recipe, 0.01, loaders, CPU)
    own = TrainingRun([Member(surrogate("sigmoid(4*x)"), seed)], 0.01, recipe, 3, data[0], data[1], CPU, "eager")
    for _ in range(3):
        (report,), epoch = own.advance(), plain.advance()
        assert epoch.train_loss == pytest.approx(report.train_loss, rel=1e-4)
        assert epoch.loss == pytest.approx(report.loss, rel=1e-4)
        assert epoch.accuracy == pytest.approx(report.accuracy)


def test_drawn_candidates_are_gates_and_are_the_gradient() -> None:
    g = throughput.draw(
        FixedTrial({"k": 4.0, "left": "tanh", "right": "sin", "binary": "max", "a": 1.0, "b": -1.0, "c": 0.5})
    )
    x = torch.linspace(-4, 4, 33, requires_grad=True)
    output = PlainActivation(g)(x)
    assert torch.equal(output, torch.relu(x))
    (gradient,) = torch.autograd.grad(output.sum(), x)
    wanted = torch.sigmoid(4 * x) * torch.maximum(torch.tanh(x), torch.sin(-x) + 0.5)
    assert torch.equal(gradient, wanted)


def test_the_words_are_those_of_the_space() -> None:
    space = throughput._config(CASE, ONE, 0).space
    assert (set(throughput.UNARY), set(throughput.BINARY)) == (set(space.unary), set(space.binary))
    x = torch.linspace(-3, 3, 13)
    for name, word in throughput.UNARY.items():
        own = surrogate(f"{name}(x)" if name != "neg" else "-x")
        assert torch.allclose(word(x).double(), torch.from_numpy(own(x.double().numpy())), atol=1e-6), name


def test_cases_are_the_shipped_studies_and_one_more_on_a_gpu(tmp_path: Path) -> None:
    for quick in (False, True):
        on_cpu = throughput.cases(Settings(CPU, quick=quick, data=tmp_path))
        assert [case.target for case in on_cpu] == [10, 1.7]
        studies = [throughput._config(case, Settings(CPU, quick=quick), 0) for case in on_cpu]
        assert [study.recipe.model.name for study in studies] == ["deep_narrow_mlp", "small_conv"]
        assert studies[1].recipe.data.name == str(tmp_path)
    on_gpu = throughput.cases(Settings(torch.device("cuda")))
    assert [(case.name, case.target) for case in on_gpu[1:]] == [("small conv net", None), ("ResNet-8 on a GPU", 10)]
    study = throughput._config(on_gpu[2], Settings(torch.device("cuda")), 1)
    assert (study.recipe.model.name, study.execution.device, study.search.queue) == ("resnet8", "cuda", ())


def test_without_optuna_the_section_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "find_spec", lambda name: None)
    section = throughput.measure(ONE)
    assert (section.figures, section.notes) == ((), (throughput.MISSING,))


def test_importing_the_benchmark_does_not_import_optuna() -> None:
    """Optuna is in sugarsearch.search alone, says tests/test_architecture.py."""
    body = ast.parse(inspect.getsource(throughput)).body
    modules = [str(node.module) for node in body if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in body if isinstance(node, ast.Import) for alias in node.names]
    assert "torch" in modules
    assert not [name for name in modules if name.startswith(("optuna", "sugarsearch.search"))]

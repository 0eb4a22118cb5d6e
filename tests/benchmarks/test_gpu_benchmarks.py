"""The GPU's benchmarks, as far as a CPU goes: what they train, what they say, what they leave out; never times."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor, nn

from benchmarks import gpu_population, gpu_training, paper
from benchmarks.gpu_groups import Groups, grouped_network
from benchmarks.harness import Figure, Section, Settings
from sugarsearch.config.schema import ModelConfig
from sugarsearch.errors import RunError
from sugarsearch.evaluation.jobs import recipe_hash
from sugarsearch.evaluation.records import Record, RecordLog, Status
from sugarsearch.models.build import build_seeded
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.reproduction.accuracy.cells import Cell
from sugarsearch.runs.folder import RECORDS
from sugarsearch.symbolic.library import surrogate
from sugarsearch.training import trainer

CPU = Settings(torch.device("cpu"), quick=True, threads=1)
CUDA = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records and caches of data go here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUGARSEARCH_DATA", str(tmp_path / "cache"))


@pytest.fixture
def _not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mode is compiled's; what a compiler does is measured, not tested."""
    monkeypatch.setattr(torch, "compile", lambda module, **options: module)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of 26 images to train on and 12 to test on, of two classes."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 13), ("test", 6)):
        for name in ("cat", "dog"):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "images"


def figures_of(section: Section) -> dict[str, Figure]:
    """By name; the section must be fit to be written."""
    json.dumps(section.to_json(), allow_nan=False)
    assert not section.what.endswith(".")  # the page adds it
    figures = {figure.name: figure for figure in section.figures}
    assert len(figures) == len(section.figures)
    return figures


@pytest.mark.usefixtures("_not_compiled")
def test_a_training_is_measured_in_every_way_that_a_cpu_has() -> None:
    section = gpu_training.measure(CPU)
    figures = figures_of(section)
    ways = [f"{text}, {way}" for way in ("eager", "compiled, launches") for text in ("ReLU", "SUGAR B-SiLU")]
    ratios = {f"SUGAR B-SiLU over ReLU, {way}" for way in ("eager", "compiled, launches")}
    others = {"first step of mode compiled, nothing in caches", "change of the candidate"}
    assert (
        set(figures)
        == {*ways, *(f"50 epochs, {way}" for way in ways), "compilations in these changes"} | ratios | others
    )
    whole, epoch = figures["50 epochs, ReLU, eager"], figures["ReLU, eager"]
    assert whole.value == pytest.approx(epoch.value * 50 * 45_000 / 12)
    assert whole.unit == "s, extrapolated from 2 epochs of 12 images"
    assert figures["change of the candidate"].detail["graph_kept"] is True
    assert {name for name, figure in figures.items() if figure.target} == {"compilations in these changes"}
    assert figures["compilations in these changes"].met
    (note,) = section.notes
    assert note.startswith("On a CPU there are no CUDA graphs")
    assert "12 made-up images of 8x8" in section.what


def bench() -> gpu_training.Bench:
    return gpu_training.Bench(CPU, "resnet18", 12, 8, 8, 4)


@pytest.mark.usefixtures("_not_compiled")
def test_steps_are_launched_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "can_be_captured", lambda *_: True)
    at = bench()
    assert [at.run("b_silu", "compiled", captured=captured)._capturable for captured in (True, False)] == [True, False]
    assert trainer.can_be_captured(at.recipe, at.device, "eager")


def test_memory_is_measured_of_trainings_alike_but_for_the_activation() -> None:
    at = bench()
    ways = gpu_training.activations()
    steps = [gpu_training.training_step(at, activation, compiled=False) for activation, _ in ways.values()]
    assert len({step().item() for step in steps}) == 1
    assert [name for name, (_, compiled) in ways.items() if compiled] == ["ReLU, compiled", "SUGAR B-SiLU, compiled"]


def test_kernels_are_told_apart() -> None:
    kernels = [
        ("sm90_xmma_fprop_implicit_gemm", 0.0, 40.0),
        ("cudnn::bn_fw_tr_1C11_kernel_NCHW", 50.0, 60.0),
        ("sugar_gradient", 60.0, 65.0),
        ("triton_poi_fused__native_batch_norm_legit_functional_add_relu_3", 70.0, 80.0),
        ("triton_red_fused__to_copy_sum_1", 75.0, 85.0),
        ("void at::native::multi_tensor_apply_kernel<FusedSgd>", 85.0, 95.0),
        ("void at::native::index_elementwise_kernel", 95.0, 98.0),
        ("something else", 98.0, 100.0),
    ]
    wanted = {"idle": 0.15, "convolution": 0.4, "batch norm": 0.1, "activation": 0.05, "optimiser": 0.1}
    wanted |= {"fused batch norm, activation, sum": 0.1, "other fused kernels": 0.1, "batches": 0.03, "other": 0.02}
    assert gpu_training.shares_of(kernels[::-1]) == pytest.approx(wanted)
    with pytest.raises(ValueError, match="has seen no kernel"):
        gpu_training.shares_of([])


def test_a_part_that_fails_is_left_out_with_a_note() -> None:
    notes: list[str] = []

    def fail() -> Sequence[Figure]:
        raise RuntimeError("no room\nand more")

    assert gpu_training.tried("the memory", fail, notes) == ()
    assert notes == ["Left out, since it failed: the memory (RuntimeError: no room)."]


def test_real_images_are_cut_to_what_is_asked_for_or_to_whole_batches(images: Path) -> None:
    settings = Settings(CPU.device, data=images)
    for asked, batch, got in ((12, 8, 12), (100, 8, 24), (100, 10, 20)):
        split = gpu_training.images_of(settings, asked, 1, 32, batch)
        assert len(split.train) == got
        assert split.train.classes == ("cat", "dog")


def test_made_up_images_are_always_the_same_and_differ_by_class() -> None:
    (pixels, labels), (again, _), (others, _) = (paper.made_up(40, 8, stream) for stream in (0, 0, 1))
    assert pixels.shape == (40, 3, 8, 8)
    assert np.bincount(labels).tolist() == [4] * 10
    assert np.array_equal(pixels, again)
    assert not np.array_equal(pixels, others)
    assert {name: len(pair[1]) for name, pair in paper.few().items()} == {"train": 20, "test": 10}


def test_a_population_is_trained_in_every_way_that_a_cpu_has() -> None:
    section = gpu_population.measure(CPU)
    figures = figures_of(section)
    others = ("2 processes", "grouped convolutions")
    assert set(figures) == {"one after another", *others, *(f"{name}, ratio" for name in others)}
    rates = {name: figure.value for name, figure in figures.items() if not name.endswith("ratio")}
    for name, rate in rates.items():
        assert rate > 0
        if name != "one after another":
            figure = figures[f"{name}, ratio"]
            assert figure.value == pytest.approx(rate / rates["one after another"])
            assert figure.detail["mean_difference_of_accuracies"] <= 1 / 16
    left_out, best = section.notes
    assert left_out.startswith("Streams are for CUDA devices and were left out")
    assert best.startswith(f"Best measures: {max(rates, key=lambda name: rates[name])}, with ")


def test_streams_train_as_one_after_another_does() -> None:
    sizes = gpu_population.QUICK
    at = gpu_population.bench_of(CPU, sizes)
    (serial,) = gpu_population.serial(at, sizes).values()
    (lanes,) = gpu_population.streams(at, sizes).values()
    assert lanes.accuracies == serial.accuracies
    assert sorted(serial.accuracies) == sorted(gpu_population.candidates(sizes))


def test_the_best_way_is_named_with_its_ratio() -> None:
    took = {"one after another": gpu_population.Took(2.0, {"a": 0.5, "b": 0.5}, 0.0)}
    assert gpu_population._best(took).endswith(": one after another, with 1.00 candidates per second.")
    took["4 streams"] = gpu_population.Took(1.0, {"a": 0.5, "b": 0.5}, 0.0)
    assert gpu_population._best(took) == (
        "Best measures: 4 streams, with 2.00 candidates per second, 2.00 times as many as one after another."
    )


def test_a_process_that_has_ended_is_not_waited_for() -> None:
    with pytest.raises(RuntimeError, match="a process ended with exit code 3"):
        gpu_population.collect(Queue(), [SimpleNamespace(exitcode=None), SimpleNamespace(exitcode=3)], 1)


def test_groups_of_channels_compute_what_networks_do_alone() -> None:
    config, shapes = ModelConfig(name="resnet8"), [surrogate(text) for text in ("b_silu", "sigmoid(4*x)", "relu")]

    def network(seed: int, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Module:
        return build_seeded(config, (3, 16, 16), 5, seed, activation)

    def weight_gradients(module: nn.Module, loss: Tensor) -> dict[str, Tensor]:
        torch.autograd.backward(loss)
        return {name: value.grad for name, value in module.named_parameters() if value.grad is not None}

    inputs, wanted = torch.randn(6, 3, 16, 16), torch.randn(6, 5)
    for memory_format in (torch.channels_last, torch.contiguous_format):
        whole = grouped_network([network(seed) for seed in range(3)], SugarReLU(shapes)).to(memory_format=memory_format)
        logits = whole(inputs)
        gradients = weight_gradients(whole, (logits * wanted).sum())
        for member, shape in enumerate(shapes):
            alone = network(member, partial(SugarReLU, shape, form="table"))
            own = alone(inputs)
            torch.testing.assert_close(logits[member], own, rtol=1e-4, atol=1e-4)
            for name, value in weight_gradients(alone, (own * wanted).sum()).items():
                if not name.startswith("head"):  # whose weights lie otherwise
                    torch.testing.assert_close(
                        gradients[name].chunk(3)[member], value, rtol=1e-3, atol=1e-3, msg=f"{shape}, {name}"
                    )


def test_groups_train() -> None:
    groups = Groups(at := gpu_population.bench_of(CPU, gpu_population.QUICK), ["relu", "b_silu"])
    batch = at.train.batch(torch.arange(16)), at.train.labels[:16]
    losses = [groups.step(*batch) for _ in range(6)]
    assert (losses[-1] < losses[0]).tolist() == [True, True]
    assert set(groups.train(1)) == {"relu", "b_silu"}


class Trainer:
    """In place of `reproduce`: notes what is asked for, and gives each cell an accuracy."""

    def __init__(self, accuracy: Callable[[Cell, int], float | None]) -> None:
        self.asked: list[str] = []
        self._accuracy = accuracy

    def __call__(self, group: Sequence[Cell], seeds: Sequence[int], folder: Path, *_: Any) -> None:
        self.asked += [f"{cell.name} {cell.model.recipe.precision} {seed}" for cell in group for seed in seeds]
        RecordLog(folder / RECORDS).append([self._record(cell, seed) for cell in group for seed in seeds])

    def _record(self, cell: Cell, seed: int) -> Record:
        recipe, score = cell.model.recipe, self._accuracy(cell, seed)
        status, epochs = (Status.COMPLETED, recipe.epochs) if score is not None else (Status.DIVERGED, 0)
        scores = tuple(round((score or 0.0) - 0.001 * (recipe.epochs - epoch), 6) for epoch in range(1, epochs + 1))
        about = (cell.job(seed), recipe_hash(recipe), "compiled", "a GPU", status, 10, 60.0, {"torch": "2"})
        return Record(*about, scores, (0.0,) * epochs, (0.0,) * epochs)


def accuracy(cell: Cell, seed: int) -> float | None:
    """bf16 is better by a point on the average, B-SiLU by 5 points, a higher rate by 10; ReLU diverges at 0.1."""
    if cell.row_name == "relu":
        return None if cell.learning_rate == 0.1 else 0.7 + cell.learning_rate * 10
    bf16 = 0.01 + 0.002 * (seed % 3) if cell.model.recipe.precision == "bf16" else 0.001 * (seed % 2)
    return 0.75 + min(cell.learning_rate, 0.01) * 10 + bf16


@pytest.fixture
def full(images: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Settings, Trainer]:
    """Settings of a whole measurement on a GPU, whose trainings are made up."""
    made = Trainer(accuracy)
    monkeypatch.setattr(paper, "reproduce", made)
    return Settings(CUDA, data=images), made


TABLE = ["resnet18/relu fp32 1", "resnet18/b_silu/sugar fp32 1", "vgg16/relu fp32 1", "vgg16/b_silu/sugar fp32 1"]
RATES = [f"resnet18/{row}@{rate} fp32 1" for rate in ("0.01", "0.1") for row in ("relu", "b_silu/sugar")]
PRECISIONS = [f"resnet18/b_silu/sugar {name} {seed}" for name in ("fp32", "bf16") for seed in (1, 10, 20)]


def test_the_papers_trainings_are_set_beside_what_is_printed(full: tuple[Settings, Trainer]) -> None:
    settings, made = full
    section = paper.measure(settings)
    assert made.asked == [*TABLE, *RATES, *PRECISIONS]
    figures = figures_of(section)
    relu = figures["ResNet-18, ReLU, 50 epochs"]
    assert (relu.value, relu.unit) == (71.0, "% of test images; the paper: 73.22 ± 0.42")
    assert (relu.detail["printed"], relu.detail["distance"]) == ([73.22, 0.42], -2.22)
    lead = figures["VGG-16, B-SiLU, SUGAR over ReLU"]
    assert (lead.value, lead.unit) == (5.1, "points; the paper: 12.50")
    rates = {name: figure.value for name, figure in figures.items() if "learning rate" in name}
    assert rates == {
        "ResNet-18, ReLU, learning rate 0.001, 15 epochs": 67.5,  # the first of the 50
        "ResNet-18, B-SiLU, SUGAR, learning rate 0.001, 15 epochs": 72.6,
        "ResNet-18, ReLU, learning rate 0.01, 15 epochs": 80.0,
        "ResNet-18, B-SiLU, SUGAR, learning rate 0.01, 15 epochs": 85.1,
        "ResNet-18, ReLU, learning rate 0.1, 15 epochs": 10.0,
        "ResNet-18, B-SiLU, SUGAR, learning rate 0.1, 15 epochs": 85.1,
    }
    assert figures["SUGAR B-SiLU over ReLU, each at its best of these rates"].value == 5.1
    assert section.notes == ("resnet18/relu@0.1, seed 1, is DIVERGED and counts as chance.",)
    made.asked.clear()
    assert paper.measure(settings) == section
    assert made.asked == [*TABLE, *RATES, *PRECISIONS]  # `reproduce` itself trains what it has no record of


def test_precisions_are_compared_by_welchs_interval(full: tuple[Settings, Trainer]) -> None:
    settings, _ = full
    figure = figures_of(paper.measure(settings))["bf16 minus fp32, ResNet-18, SUGAR B-SiLU, 10 epochs"]
    scores = figure.detail["accuracies"]
    bf16, fp32 = ([100 * value for value in scores[name].values()] for name in ("bf16", "fp32"))
    interval = stats.ttest_ind(bf16, fp32, equal_var=False).confidence_interval(0.95)
    assert figure.value == pytest.approx(np.mean(bf16) - np.mean(fp32))
    assert (figure.low, figure.high) == pytest.approx((interval.low, interval.high))
    assert figure.unit == "points, with Welch's 95% interval"


def test_what_would_take_too_long_is_left_out_and_named(
    full: tuple[Settings, Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, made = full
    clock = iter(float(second) for second in range(0, 10_000, 100))
    monkeypatch.setattr(paper, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(paper, "BUDGET", 400.0)
    section = paper.measure(settings)
    # The first part was estimated at 245 s; by the clock it took 200, the second (165 s) 100.
    assert made.asked == TABLE
    note = section.notes[-1]
    assert note.startswith("Left out, to stay within 400 s: other learning rates (about ")
    assert "bf16 against fp32 (about " in note
    assert f"`python -m benchmarks --gpu --only paper --data {settings.data}` goes on from here." in note
    assert not [name for name in figures_of(section) if "learning rate" in name or "bf16" in name]
    monkeypatch.setattr(paper, "BUDGET", None)
    assert "bf16 minus fp32, ResNet-18, SUGAR B-SiLU, 10 epochs" in figures_of(paper.measure(settings))


def test_a_part_that_cannot_be_run_does_not_end_the_others(
    full: tuple[Settings, Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, made = full

    def reproduce(group: Sequence[Cell], *rest: Any) -> None:
        if group[0].model_name == "vgg16":
            raise RunError("other data.")
        made(group, *rest)

    monkeypatch.setattr(paper, "reproduce", reproduce)
    failed, missing, _ = paper.measure(settings).notes
    assert failed == "table 4 with VGG-16 failed: other data."
    assert missing == "table 4 with VGG-16: no training has ended well of vgg16/b_silu/sugar, vgg16/relu."
    assert made.asked == [*TABLE[:2], *RATES, *PRECISIONS]


def test_made_up_images_claim_nothing(full: tuple[Settings, Trainer]) -> None:
    section = paper.measure(Settings(CUDA))
    assert section.notes[0].startswith("The images are made up: no accuracy here says anything")
    for figure in section.figures:
        assert "made-up images" in figure.unit
        assert "the paper" not in figure.unit
        assert "printed" not in figure.detail


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_folder_of_images_is_trained_on(images: Path) -> None:
    section = paper.measure(Settings(CPU.device, quick=True, threads=1, data=images))
    figures = figures_of(section)
    names = [f"{model}, {row}, 1 epochs" for model in ("ResNet-18", "VGG-16") for row in ("ReLU", "B-SiLU, SUGAR")]
    assert set(names) <= set(figures)
    assert all(figures[name].detail["mode"] == "eager" for name in names)
    assert "ResNet-18, ReLU, learning rate 0.01, 1 epochs" in figures
    assert section.notes == ("bf16 against fp32 is for CUDA devices and was left out.",)
    kept = RecordLog(paper.RECORDS / RECORDS).load()
    assert [record.status for record in kept] == [Status.COMPLETED] * 6


def test_nothing_needs_optuna() -> None:
    script = """
import sys


class NoOptuna:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "optuna":
            raise ImportError("optuna is not installed")


sys.meta_path.insert(0, NoOptuna())
import benchmarks.gpu_population, benchmarks.gpu_training, benchmarks.paper, sugarsearch.evaluation.worker
"""
    root = Path(paper.__file__).resolve().parent.parent
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("module", [gpu_training, gpu_population, paper], ids=lambda module: module.__name__)
def test_nothing_is_left_out_on_a_gpu(module: Any) -> None:
    section = module.measure(Settings(CUDA, quick=True))
    assert figures_of(section)
    assert not [note for note in section.notes if "failed" in note or "no training has ended well" in note]

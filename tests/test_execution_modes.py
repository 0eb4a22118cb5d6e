"""Every execution mode, on every device at hand, through the whole stack: g's own gradient, and equal training.

On the CPU these run in the default suite (without the compiler, which tests/nn and tests/training exercise); with
`-m gpu` they run on the CUDA device, where bf16 autocast and compiled training belong.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sugarsearch.config.schema import DataConfig, ModelConfig, OptimizerConfig, Recipe
from sugarsearch.data.arrays import from_pairs
from sugarsearch.data.device import DeviceArrays, normalisation
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.selftest import self_test
from sugarsearch.symbolic.library import LIBRARY, surrogate
from sugarsearch.training.network import Member, Mode
from sugarsearch.training.trainer import EpochReport, TrainingRun

GPU = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
)
DEVICES = ["cpu", GPU]
ASYMMETRIC = "0.5 + sigmoid(x) if x > 0 else 0.3*cos(x)/(1 + x**2) - 0.2"
GPU_MODES: list[Mode] = ["eager", "compiled", "population"]


def gradient(activation: nn.Module, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (result,) = torch.autograd.grad(activation(x).sum(), x)
    return result


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("form", ["closed", "table"])
def test_gradients_are_g(device: str, form: str) -> None:
    x = torch.cat([torch.linspace(-9, 9, 2001), torch.tensor([0.0, -0.0, 1e-30, -1e-30, 6e4, -6e4])])
    for text in [*LIBRARY, ASYMMETRIC]:
        g = surrogate(text)
        got = gradient(SugarReLU(g, form=form).to(device), x.to(device)).cpu()  # type: ignore[arg-type]
        tolerance = 1e-4 if form == "table" and text == "fast_sigmoid" else 5e-6
        np.testing.assert_allclose(got.numpy(), g(x.double().numpy()), atol=tolerance, rtol=1e-5, err_msg=text)


@pytest.mark.parametrize("device", DEVICES)
def test_members_have_their_own_g(device: str) -> None:
    texts = ["0.25", "3", ASYMMETRIC, "step(x)"]
    x = torch.randn(len(texts), 5, 7)
    got = gradient(SugarReLU([surrogate(text) for text in texts]).to(device), x.to(device)).cpu()
    wanted = np.stack([surrogate(text)(row) for text, row in zip(texts, x.double().numpy(), strict=True)])
    np.testing.assert_allclose(got.numpy(), wanted, atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", ["closed", "table"])
def test_relus_derivative_is_relu_bit_for_bit(device: str, dtype: torch.dtype, form: str) -> None:
    activation = SugarReLU("relu", form=form).to(device)  # type: ignore[arg-type]
    x = torch.cat([torch.randn(1000), torch.tensor([0.0, -0.0])]).to(device, dtype)
    x = x.requires_grad_()
    for function in (activation, F.relu):
        assert torch.equal(function(x), torch.relu(x))
    got, wanted = (torch.autograd.grad(function(x).sum(), x)[0] for function in (activation, F.relu))
    assert torch.equal(got, wanted)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("form", ["closed", "table"])
@pytest.mark.parametrize("mode", GPU_MODES)
def test_self_test_passes_on_a_gpu(mode: Mode, form: str) -> None:
    self_test(mode, torch.device("cuda"), form)  # type: ignore[arg-type]


def train(
    mode: Mode, device: str, texts: list[str], model: ModelConfig, *, precision: str = "fp32", rate: float = 0.05
) -> list[EpochReport]:
    """Three epochs on 512 images whose class is the brightest of four corners."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 200, (640, 3, 16, 16)).astype(np.uint8)
    labels = generator.integers(0, 4, 640)
    for image, label in zip(images, labels, strict=True):
        image[:, 8 * (label // 2) :, 8 * (label % 2) :][:, :8, :8] += 55
    pairs = from_pairs({"train": (images[:512], labels[:512]), "scoring": (images[512:], labels[512:])}, name="corners")
    recipe = Recipe(
        data=DataConfig(name="corners"),
        model=model,
        optimizer=OptimizerConfig(momentum=0.9),
        epochs=3,
        batch_size=64,
        precision=precision,  # type: ignore[arg-type]
    )
    scale = normalisation(pairs["train"])
    train_data, scoring = (DeviceArrays(pairs[name], scale, device) for name in ("train", "scoring"))
    members = [Member(surrogate(text), seed=7) for text in texts]
    run = TrainingRun(members, rate, recipe, 3, train_data, scoring, torch.device(device), mode)
    for _ in range(2):
        run.advance()
    return run.advance()


@pytest.mark.parametrize("device", DEVICES)
def test_a_population_trains_as_its_single_runs(device: str) -> None:
    model, texts = (
        ModelConfig(name="deep_narrow_mlp", options={"depth": 3, "width": 16}),
        ["relu", "b_silu", ASYMMETRIC],
    )
    together = train("population", device, texts, model, rate=0.01)
    for text, member in zip(texts, together, strict=True):
        (alone,) = train("eager", device, [text], model, rate=0.01)
        assert member.train_loss == pytest.approx(alone.train_loss, rel=1e-3), text
        assert member.loss == pytest.approx(alone.loss, rel=1e-3), text
    assert together[0].train_loss != pytest.approx(together[1].train_loss, rel=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("text", ["relu", "b_silu"])
def test_compiled_and_bf16_training_agree_with_eager_fp32_on_a_gpu(text: str, precision: str) -> None:
    model = ModelConfig(name="small_conv")
    (wanted,) = train("eager", "cuda", [text], model)
    (got,) = train("compiled", "cuda", [text], model, precision=precision)
    assert got.train_loss == pytest.approx(wanted.train_loss, rel=0.02 if precision == "fp32" else 0.1)
    assert got.accuracy == pytest.approx(wanted.accuracy, abs=0.1)

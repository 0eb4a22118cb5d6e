"""Conv2NeXt against its description, written down a second time in plain functions."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from sugarsearch.models.conv2next import Block, Conv2NeXt, MixedAttention, conv2next
from sugarsearch.nn.activation import SugarReLU

State = dict[str, Tensor]


def small(activation: Callable[[], nn.Module] = nn.ReLU) -> Conv2NeXt:
    """A narrow network whose numbers are all far from trivial, in float64 and eval."""
    torch.manual_seed(0)
    network = Conv2NeXt(3, 5, (1, 2, 1, 1), (8, 8, 12, 12), activation).double().eval()
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)  # variances must be positive; signs come with what is multiplied
            value.mul_(torch.where(torch.rand_like(value) < 0.5, -1, 1) if value.ndim > 1 else 1)
    return network


def part(state: State, name: str) -> State:
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


def batch_norm(x: Tensor, s: State, name: str) -> Tensor:
    mean, variance, weight, bias = (s[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
    column = (slice(None), None, None)
    return (x - mean[column]) / (variance[column] + 1e-5).sqrt() * weight[column] + bias[column]


def layer_norm(x: Tensor, s: State) -> Tensor:
    """Over the channels, dimension 1."""
    column = (slice(None), *[None] * (x.ndim - 2))
    deviation = (x.var(1, correction=0, keepdim=True) + 1e-6).sqrt()
    return (x - x.mean(1, keepdim=True)) / deviation * s["weight"][column] + s["bias"][column]


def conv(x: Tensor, s: State, name: str) -> Tensor:
    """Padded to the same size; depth-wise if the weight has one input channel for several of x."""
    weight = s[f"{name}.weight"]
    weight = weight if weight.ndim == 4 else weight[:, :, None, None]
    return F.conv2d(x, weight, s[f"{name}.bias"], padding=weight.shape[-1] // 2, groups=x.shape[1] // weight.shape[1])


def block(x: Tensor, s: State) -> Tensor:
    y = batch_norm(conv(x, s, "conv1"), s, "bn1")
    z = conv(conv(y, s, "expand").relu(), s, "project") * s["scale"][:, None, None]
    return x + batch_norm(conv(y + z, s, "conv2"), s, "bn2")


def mixed_attention(x: Tensor, s: State) -> Tensor:
    half, height = x.shape[1] // 2, x.shape[2]
    a, b = x[:, :half], x[:, half:]
    lines = torch.cat([a.mean(3), a.mean(2)], 2).unsqueeze(3)
    lines = batch_norm(conv(lines, s, "coordinate.squeeze.0"), s, "coordinate.squeeze.1")
    lines = lines * (lines + 3).clamp(0, 6) / 6
    rows = conv(lines[:, :, :height], s, "coordinate.rows").sigmoid()
    columns = conv(lines[:, :, height:], s, "coordinate.columns").sigmoid().permute(0, 1, 3, 2)
    summary = torch.stack([b.max(1).values, b.mean(1)], 1)
    mixed = torch.cat([a * rows * columns, b * conv(summary, s, "spatial").sigmoid()], 1)
    return F.channel_shuffle(mixed + x, half)


def reference(x: Tensor, state: State) -> Tensor:
    """What `small` gives for depths 1, 2, 1, 1."""
    s = [part(state, f"features.{index}") for index in range(13)]
    x = layer_norm(conv(x, state, "features.0"), s[1])
    x = mixed_attention(layer_norm(block(x, s[2]), s[3]), s[4])
    x = block(block(x, s[5]), s[6])
    x = layer_norm(F.conv2d(x, s[7]["weight"], s[7]["bias"], stride=2), s[8])
    x = mixed_attention(layer_norm(block(x, s[9]), s[10]), s[11])
    x = block(x, s[12])
    return F.linear(layer_norm(x.mean((2, 3)), part(state, "norm")), state["head.weight"], state["head.bias"])


@pytest.mark.parametrize(("channels", "units"), [(8, 8), (32, 8), (40, 10), (256, 64)])
def test_attention_squeezes_its_half_to_half_but_not_below_eight(channels: int, units: int) -> None:
    assert MixedAttention(channels).coordinate.rows.in_channels == units


def test_it_computes_what_its_description_says() -> None:
    network, images = small(), torch.randn(2, 3, 10, 8, dtype=torch.float64)
    torch.testing.assert_close(network(images), reference(images, network.state_dict()))


@pytest.mark.parametrize(("classes", "millions"), [(10, "7.36"), (100, "7.38"), (200, "7.41")])
def test_the_published_parameters_and_a_site_for_each_block(classes: int, millions: str) -> None:
    with torch.device("meta"):
        network = conv2next((3, 32, 32), classes, lambda: SugarReLU("b_silu"))
    assert f"{sum(parameter.numel() for parameter in network.parameters()) / 1e6:.2f}" == millions
    sites = [module for module in network.modules() if isinstance(module, SugarReLU)]
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    assert [one.activation for one in blocks] == sites
    assert len(sites) == 18


def test_fresh_weights() -> None:
    torch.manual_seed(0)
    network = conv2next((3, 32, 32), 10, nn.ReLU)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            assert module.bias is not None
            assert not module.bias.any()
            # 18 weights of the smallest convolution estimate 0.02 to a sixth or so
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05 if module.weight.numel() > 5000 else 0.6)
        if isinstance(module, Block):
            assert torch.equal(module.scale, torch.full_like(module.scale, 1e-6))


def test_stochastic_depth_rises_to_a_tenth_and_drops_all_of_a_block_but_its_input() -> None:
    network = conv2next((3, 8, 8), 10, nn.ReLU)
    rates = [module.p for module in network.modules() if isinstance(module, StochasticDepth)]
    assert rates == pytest.approx([0.1 * index / 17 for index in range(18)])
    x = torch.randn(64, 8, 4, 4)
    half = Block(8, 0.5, nn.ReLU).train()
    kept = (half(x) != x).flatten(1).any(1)
    assert 0 < int(kept.sum()) < 64  # image by image
    assert torch.equal(Block(8, 1.0, nn.ReLU).train()(x), x)


@pytest.mark.parametrize("device", ["cpu", "meta"])  # meta decides by the rules of devices other than a CPU
def test_the_parts_keep_channels_last(device: str) -> None:
    x = torch.randn(2, 8, 4, 4, device=device).contiguous(memory_format=torch.channels_last)
    for module in (Block(8, 0.5, nn.ReLU), MixedAttention(8)):
        module.to(device).to(memory_format=torch.channels_last)
        assert module(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # the compiler's own
def test_a_compiled_block_with_a_surrogate_gives_the_eager_gradients() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    module = Block(8, 0.0, lambda: SugarReLU("b_silu", form="table"))
    nn.init.ones_(module.scale)
    x = torch.randn(4, 8, 6, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    inputs = [x, *module.parameters()]
    compiled = torch.compile(module, fullgraph=True, dynamic=False)
    ours, theirs = (torch.autograd.grad(one(x).square().sum(), inputs) for one in (compiled, module))
    plain = Block(8, 0.0, nn.ReLU)
    plain.load_state_dict(module.state_dict())
    relus = torch.autograd.grad(plain(x).square().sum(), [x, *plain.parameters()])
    for mine, eager in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, eager, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(ours[0], relus[0], rtol=1e-2)  # the surrogate is in both

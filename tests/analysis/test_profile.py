"""Profiles of networks made by hand, whose dead, linear and half-asleep units are known."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from sugarsearch.analysis.profile import BINS, LayerProfile, dead_share, profile
from sugarsearch.errors import UsageError
from sugarsearch.nn.activation import SugarReLU


def linear(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(bias))
    layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    return layer


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU(inplace=True), SugarReLU("b_silu")])
def test_units_of_a_layer_made_by_hand(activation: nn.Module) -> None:
    # Units: x, -x, always -1, always above 0, above 0 for x = 3 alone.
    first = linear([[1.0], [-1.0], [0.0], [0.1], [1.0]], [0.0, 0.0, -1.0, 1.0, -2.0])
    network = nn.Sequential(first, activation)
    (layer,) = profile(network, [torch.tensor([[1.0], [2.0]]), torch.tensor([[-1.0], [3.0], [0.0]])])
    assert (layer.name, layer.units, layer.samples) == ("1", 5, 5)
    assert layer.fired == (3, 1, 0, 5, 1)
    assert (layer.silent, layer.linear) == ((2,), (3,))
    assert (layer.dead, layer.always_on) == (1, 1)
    assert layer.shares == pytest.approx((0.6, 0.2, 0.0, 1.0, 0.2))
    # Of the samples fire 2, 2, 2, 3 and 1 units.
    assert (layer.fewest, layer.mean, layer.most) == (1, 2.0, 3)
    assert layer.zeros == pytest.approx(15 / 25)
    assert dead_share([layer, layer]) == pytest.approx(0.2)


def test_the_division_into_batches_does_not_matter() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(20, 7), nn.ReLU())
    inputs = torch.randn(23, 2, 4, 4)
    whole = profile(network, [inputs])
    assert profile(network, torch.split(inputs, 1)) == whole
    assert profile(network, torch.split(inputs, 10)) == whole


def test_a_channel_fires_if_any_position_does_and_is_linear_only_if_all_do() -> None:
    images = torch.full((2, 4, 3, 3), -1.0)
    images[0, 0, 2, 1] = 1.0  # channel 0 fires for one image, channel 1 for none
    images[:, 2, 0, 0] = 1.0  # channel 2 fires for every image, and is not linear
    images[:, 3] = 0.5
    (layer,) = profile(nn.Sequential(nn.ReLU()), [images.to(memory_format=torch.channels_last)])
    assert layer.fired == (1, 0, 2, 2)
    assert (layer.silent, layer.linear) == ((1,), (3,))
    assert (layer.fewest, layer.mean, layer.most) == (2, 2.5, 3)
    assert layer.zeros == pytest.approx(1 - (1 + 2 + 18) / 72)


def test_tokens_have_their_units_last() -> None:
    tokens = torch.tensor([[[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]], [[-1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]]])
    (layer,) = profile(nn.Sequential(nn.ReLU()), [tokens])
    assert (layer.samples, layer.fired, layer.linear) == (2, (1, 0, 2), (2,))


class Twice(nn.Module):
    """One activation called twice, with another between the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.other = nn.ReLU(), nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.shared(self.other(self.shared(x)) - 1.5)
        return result


def test_calls_of_a_module_used_twice_are_told_apart() -> None:
    layers = profile(Twice(), [torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, -1.0]])])
    assert [layer.name for layer in layers] == ["shared#1", "other", "shared#2"]
    assert [layer.fired for layer in layers] == [(2, 1), (2, 1), (0, 1)]
    assert [layer.samples for layer in layers] == [2, 2, 2]


def test_below_zero_is_no_firing_and_no_zero() -> None:
    (layer,) = profile(nn.Sequential(nn.LeakyReLU(0.1)), [torch.tensor([[-1.0, 0.0, 1.0]])])
    assert layer.fired == (0, 0, 1)
    assert layer.zeros == pytest.approx(1 / 3)


def test_histogram_has_never_and_always_apart_and_exact_edges() -> None:
    samples = 40
    fired = (0, 0, 1, 2, 3, 6, 39, 40)  # 2 and 6 of 40 lie on the edges 0.05 and 0.15
    layer = LayerProfile("a", samples, fired, (), 0, 0.0, 0, 0.0)
    expected = [0] * (BINS + 2)
    expected[0], expected[1], expected[2], expected[4], expected[BINS], expected[BINS + 1] = 2, 1, 2, 1, 1, 1
    assert list(layer.histogram) == expected


def test_evaluation_mode_inside_and_each_modules_mode_after() -> None:
    dropout, norm = nn.Dropout(0.9), nn.BatchNorm1d(3)
    network = nn.Sequential(norm, nn.ReLU(), dropout)
    network.train()
    norm.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first = profile(network, [torch.randn(4, 3, generator=torch.Generator().manual_seed(0))])
    assert [module.training for module in network.modules()] == [True, False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not network[1]._forward_hooks
    assert first[0].units == 3


def test_mode_and_hooks_are_put_back_when_the_forward_pass_fails() -> None:
    network = nn.Sequential(nn.ReLU(), nn.Linear(2, 2)).train()
    with pytest.raises(RuntimeError):
        profile(network, [torch.ones(1, 3)])
    assert network[1].training
    assert not network[0]._forward_hooks


def test_no_graph_is_kept_and_batches_may_be_a_stream() -> None:
    seen: list[bool] = []

    class Asks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(torch.is_grad_enabled() or self.training)
            return x

    def stream() -> Iterator[Tensor]:
        yield from (torch.ones(2, 3) for _ in range(3))

    (layer,) = profile(nn.Sequential(Asks(), nn.ReLU()), stream())
    assert (seen, layer.samples) == ([False] * 3, 6)


@pytest.mark.parametrize("network", [nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Sigmoid())])
def test_a_network_without_activations_is_refused(network: nn.Module) -> None:
    with pytest.raises(UsageError, match=r"nn\.ReLU, not F\.relu"):
        profile(network, [torch.ones(1, 2)])


def test_no_samples_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one batch"):
        profile(nn.Sequential(nn.ReLU()), [])


def test_outputs_that_are_not_finite_are_no_dead_units() -> None:
    with pytest.raises(UsageError, match="outputs of 0 are not finite"):
        profile(nn.Sequential(nn.ReLU()), [torch.tensor([[1.0, float("nan")]]), torch.ones(1, 2)])

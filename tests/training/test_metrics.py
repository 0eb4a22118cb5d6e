"""Dead units, sparsity and measured gain, counted by hand on networks made by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sugarsearch.nn.activation import SugarReLU
from sugarsearch.symbolic.library import surrogate
from sugarsearch.training.metrics import measured_gain, watch


def linear(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(bias))
    layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    return layer


def test_dead_units_and_sparsity_of_a_network_made_by_hand() -> None:
    # Unit 0 is x, unit 1 is -x, unit 2 is dead; in the second layer both units are dead, one by its bias alone.
    first = linear([[1.0], [-1.0], [0.0]], [0.0, 0.0, -1.0])
    second = linear([[-1.0, -1.0, 0.0], [0.0, 0.0, 0.0]], [0.0, 0.0])
    network = nn.Sequential(first, SugarReLU("relu"), second, SugarReLU("relu"))
    with watch(network, stacked=False) as activity, torch.no_grad():
        network(torch.tensor([[1.0], [2.0], [-3.0], [0.0]]))
    assert [dead.tolist() for dead in activity.dead] == [[1], [2]]
    assert activity.units == [3, 2]
    assert activity.dead_share().tolist() == pytest.approx([3 / 5])
    assert [zeros.item() for zeros in activity.zeros] == pytest.approx([9 / 12, 1.0])
    assert activity.sparsity().tolist() == pytest.approx([(9 + 8) / (12 + 8)])
    with torch.no_grad():
        network(torch.tensor([[1.0]]))
    assert len(activity.dead) == 2, "nothing may be counted after the block"


def test_a_channel_is_dead_only_if_every_position_of_every_image_is_zero() -> None:
    images = torch.full((2, 3, 4, 4), -1.0)
    images[1, 0, 2, 3] = 5.0  # one position of one image keeps channel 0 alive
    with watch(network := nn.Sequential(SugarReLU("relu")), stacked=False) as activity:
        network(images.to(memory_format=torch.channels_last))
    assert activity.dead[0].tolist() == [2]
    assert activity.sparsity().tolist() == pytest.approx([95 / 96])


def test_tokens_have_their_units_last() -> None:
    tokens = torch.tensor([[[1.0, -1.0], [-1.0, -1.0]], [[-1.0, -1.0], [-1.0, -1.0]]])
    with watch(network := nn.Sequential(SugarReLU("relu")), stacked=False) as activity:
        network(tokens)
    assert (activity.units, activity.dead[0].tolist()) == ([2], [1])


def test_members_of_a_population_are_counted_apart() -> None:
    population = SugarReLU([surrogate("relu"), surrogate("b_silu")])
    values = torch.tensor([[[1.0, -1.0], [-1.0, -1.0], [0.0, 0.0]], [[1.0, 1.0], [2.0, 2.0], [-1.0, 3.0]]])
    with watch(nn.Sequential(population), stacked=True) as activity:
        population(values)
    assert activity.dead_share().tolist() == pytest.approx([2 / 3, 0.0])
    assert activity.sparsity().tolist() == pytest.approx([5 / 6, 1 / 6])


@pytest.mark.parametrize("text", ["relu", "b_silu", "nelu", "straight_through"])
def test_measured_gain_over_normal_inputs_is_the_gain(text: str) -> None:
    torch.manual_seed(0)
    (measured,) = measured_gain(nn.Sequential(SugarReLU(text)), torch.randn(400, 1000))
    assert measured == pytest.approx(surrogate(text).gain, rel=5e-3)


def test_measured_gain_is_over_each_sites_own_inputs() -> None:
    def shift(by: float) -> nn.Module:
        return linear([[1.0]], [by])

    inputs: Tensor = torch.linspace(0.1, 1.0, 10).unsqueeze(1)
    network = nn.Sequential(SugarReLU("relu"), shift(-10.0), SugarReLU("leaky_relu(alpha=0.5)"))
    # All positive: g = 1 throughout; then all negative: g = 0.5 throughout.
    assert measured_gain(network, inputs) == pytest.approx([math.sqrt(2), math.sqrt(0.5)])

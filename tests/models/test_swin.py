"""Swin-T is torchvision's, but for its activations and the channels of the images."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sugarsearch.models.swin import swin_t
from sugarsearch.nn.activation import SugarReLU


def test_with_gelu_in_its_sites_it_is_torchvisions_swin_t() -> None:
    torch.manual_seed(3)
    network = swin_t((3, 64, 64), 200, nn.GELU)
    torch.manual_seed(3)
    reference = torchvision.models.swin_t(num_classes=200)
    assert str(network) == str(reference)  # every layer with its settings, stochastic depth too
    ours, theirs = network.state_dict(), reference.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(network.eval()(images), reference.eval()(images))


def test_parameters_at_200_classes_and_the_published_cost_at_224() -> None:
    with torch.device("meta"), torch.no_grad():
        network = swin_t((3, 224, 224), 200, nn.ReLU).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 224, 224))
    assert sum(parameter.numel() for parameter in network.parameters()) == 27_673_154
    assert counter.get_total_flops() / 2e9 == pytest.approx(4.49, abs=0.005)


def test_each_gelu_gives_way_to_a_module_of_its_own() -> None:
    made: list[nn.Module] = []

    def activation() -> nn.Module:
        made.append(SugarReLU("b_silu"))
        return made[-1]

    with torch.device("meta"):
        network = swin_t((3, 64, 64), 10, activation)
    assert [module for module in network.modules() if isinstance(module, (SugarReLU, nn.GELU))] == made
    assert len(made) == 12


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 9, 14), (2, 32, 32)])
def test_small_images_and_other_channels_than_three(shape: tuple[int, ...]) -> None:
    network = swin_t(shape, 5, nn.ReLU)
    logits = network(torch.randn(2, *shape))
    assert logits.shape == (2, 5)
    torch.autograd.backward(logits.square().sum())
    assert all(parameter.grad is not None for parameter in network.parameters())

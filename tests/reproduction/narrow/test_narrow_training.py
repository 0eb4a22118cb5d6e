"""Populations against one plain torch network trained by autograd and torch.optim.Adam."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sugarsearch.config.narrow_nets import NarrowNetsBaseline
from sugarsearch.reproduction.narrow.cells import Cell, chosen
from sugarsearch.reproduction.narrow.initialisation import initial
from sugarsearch.reproduction.narrow.nets import LANES, NarrowNets
from sugarsearch.reproduction.narrow.seeds import ORDER, generator
from sugarsearch.reproduction.narrow.targets import sample
from sugarsearch.reproduction.narrow.training import Trained, grid, prepare, train

CPU = torch.device("cpu")


class PaperBSiLU(torch.autograd.Function):
    """ReLU whose gradient is the paper's formula for B-SiLU's derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        s = 1 / (1 + torch.exp(-x))
        result: Tensor = grad * (s + (x + 1.67) * s * (1 - s))
        return result


class Activation(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = PaperBSiLU.apply(x)
        return result


def cell_of(baseline: NarrowNetsBaseline, name: str) -> Cell:
    (cell,) = chosen(baseline, [name])
    return cell


def trained(cell: Cell, runs: list[int]) -> Trained:
    return train(cell.settings, cell.function, cell.arm, runs, CPU)


def alone(cell: Cell, run: int) -> tuple[nn.Sequential, float, float]:
    """One run trained plainly: the net, its loss before and after."""
    settings, function = cell.settings, cell.function
    sizes = [function.inputs, *[settings.width] * settings.hidden_layers, function.outputs]
    modules: list[nn.Module] = []
    for (inputs, outputs), (weight, bias) in zip(
        itertools.pairwise(sizes), initial(cell.arm.initialisation, run, sizes), strict=True
    ):
        linear = nn.Linear(inputs, outputs)
        linear.load_state_dict({"weight": torch.tensor(weight).float(), "bias": torch.tensor(bias).float()})
        modules += [linear, nn.ReLU() if cell.arm.surrogate is None else Activation()]
    net = nn.Sequential(*modules[:-1])
    x = sample(run, function.inputs, settings.samples).t()
    y = function.values(x.t()).t()
    optimizer = torch.optim.Adam(net.parameters(), lr=settings.learning_rate)

    def loss() -> float:
        return 64 * float((net(x) - y).detach().square().sum(dim=1).mean())

    before = loss()
    for epoch in range(settings.epochs):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * 0.1 ** sum(epoch >= at for at in settings.milestones)
        for batch in torch.split(torch.from_numpy(generator(ORDER, epoch).permutation(settings.samples)), 64):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.mse_loss(net(x[batch]), y[batch], reduction="sum"))
            optimizer.step()
    return net, before, loss()


@pytest.mark.parametrize("name", ["f1/rai", "f4/he", "f4/rai", "f2/sugar", "f4/sugar"])
def test_a_member_trains_as_a_plain_network_does(small: NarrowNetsBaseline, name: str) -> None:
    cell = cell_of(small, name)
    runs = [2, 0, 5]
    found = trained(cell, runs)
    for index, run in enumerate(runs):
        net, before, after = alone(cell, run)
        assert abs(after - before) > 0.01 * before  # a hundred times what is compared below
        assert found.losses[index] == pytest.approx(after, rel=1e-4)
        drawn = net(grid(cell.function.inputs).t()).detach().t()
        torch.testing.assert_close(found.predictions[index], drawn, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["f1/he", "f4/sugar", "f2/gelu"])
def test_a_run_is_the_same_to_the_bit_whatever_others_are_trained(small: NarrowNetsBaseline, name: str) -> None:
    cell = cell_of(small, name)
    together = trained(cell, list(range(LANES + 6)))
    for runs in ([3], [68, 1], list(range(60, 67))):
        found = trained(cell, runs)
        assert found.losses == [together.losses[run] for run in runs]
        assert found.born_dead == [together.born_dead[run] for run in runs]
        assert torch.equal(found.predictions, together.predictions[runs])


def test_he_and_sugar_begin_with_the_same_weights_and_data(small: NarrowNetsBaseline) -> None:
    prepared = []
    for name in ("f1/he", "f1/sugar"):
        cell = cell_of(small, name)
        prepared.append(prepare(cell.settings, cell.function, cell.arm, [4, 9], CPU))
    (first, x), (second, other) = prepared
    assert torch.equal(x, other)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def rays_die(layers: list[tuple[Any, Any]]) -> bool:
    """Whether a net without biases is 0 on both sides of 0: one input makes two rays, each scaled by |x|."""
    rays = np.array([[1.0, -1.0]])
    for weight, _ in layers[:-1]:
        rays = np.maximum(weight @ rays, 0)
        if not rays.any():
            return True
    return False


def test_born_dead_nets_are_those_whose_rays_die(paper: NarrowNetsBaseline) -> None:
    cell = cell_of(paper, "f1/he")
    settings = cell.settings.model_copy(update={"epochs": 1, "samples": 64})
    runs = list(range(320))
    found = train(settings, cell.function, cell.arm, runs, CPU).born_dead
    assert found == [rays_die(initial("he", run, [1, *[2] * 9, 1])) for run in runs]


def test_the_share_of_born_dead_nets_lies_within_the_bounds_of_theory() -> None:
    """A ray lives through a layer of two units with chance 3/4, so 9 layers leave one or both with 7.5 to 15.0 %."""
    n = 4000
    dead = sum(rays_die(initial("he", run, [1, *[2] * 9, 1])) for run in range(n)) / n
    survives = 0.75**9
    slack = 3 * (0.1 * 0.9 / n) ** 0.5
    assert 1 - 2 * survives - slack < dead < 1 - survives + slack


def gradients(baseline: NarrowNetsBaseline, surrogate: str | None) -> tuple[NarrowNets, list[Tensor]]:
    """Of born-dead members, the first layer's weights' gradient by member, then the last bias's."""
    sizes = [1, *[2] * 9, 1]
    layers = [initial("he", run, sizes) for run in range(40)]
    # Dead before the last hidden layer, so that its own pre-activations are all 0.
    dead = [one for one in layers if rays_die(one[:-1])]
    assert len(dead) > 20
    nets = NarrowNets(dead, surrogate)
    x = torch.stack([sample(run, 1, 100) for run in range(len(dead))], dim=-1)
    (nets(x) - x.abs()).square().sum().backward()
    found = [parameter.grad for parameter in (nets.weights[0], nets.biases[-1])]
    assert all(gradient is not None for gradient in found)
    return nets, [gradient for gradient in found if gradient is not None]


@pytest.mark.parametrize("surrogate", [None, "nelu(alpha=0.05)", "b_silu(alpha=1.67)", "leaky_relu(alpha=0.01)"])
def test_nelu_revives_no_dead_net_and_a_g_with_a_value_at_0_does(
    paper: NarrowNetsBaseline, surrogate: str | None
) -> None:
    nets, (first, last) = gradients(paper, surrogate)
    hidden = [bias.grad for bias in list(nets.biases)[:-1]]
    assert last.abs().min() > 0
    if surrogate is None or surrogate.startswith("nelu"):
        assert not first.any()
        assert not any(gradient.any() for gradient in hidden if gradient is not None)
    else:
        assert all(gradient is not None and gradient.any() for gradient in hidden[-2:])


def test_activity_is_a_share_by_layer_and_epoch_of_the_asked_runs_alone(small: NarrowNetsBaseline) -> None:
    cell = cell_of(small, "f1/he")
    one = [trained(cell, [run]) for run in (0, 1)]
    both = trained(cell, [0, 1])
    assert both.epochs == list(range(11))
    mean = (np.array(one[0].activity) + np.array(one[1].activity)) / 2
    assert mean.shape == (11, small.experiment.hidden_layers)
    np.testing.assert_allclose(both.activity, mean, rtol=1e-12)
    x = sample(0, 1, 150).numpy()
    weight, _ = initial("he", 0, [1, 2, 2, 2, 1])[0]
    assert one[0].activity[0][0] == pytest.approx(float((weight @ x > 0).mean()))

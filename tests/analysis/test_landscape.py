"""Loss landscapes against closed forms; and the network afterwards is what it was before."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sugarsearch.analysis.landscape import Batch, Landscape, Normalise, directions, landscape
from sugarsearch.errors import UsageError


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class Bowl(nn.Module):
    """Its mean cross-entropy for label 0 is (|weight|^2 + bias^2) / 2, for every input."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(3, 4, 2, generator=generator, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(5, generator=generator, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        height = (self.weight.square().sum() + self.bias.square().sum()) / 2
        logit = torch.log(torch.expm1(height)).expand(len(inputs))
        return torch.stack([torch.zeros_like(logit), logit], dim=1)


def bowl_batches() -> list[Batch]:
    return [(torch.zeros(size, 1, dtype=torch.float64), torch.zeros(size, dtype=torch.int64)) for size in (3, 2)]


def convnet(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.GroupNorm(2, 4),
            nn.Flatten(), nn.LayerNorm((64,)), nn.Linear(64, 3),
        )  # fmt: skip
        network(torch.randn(32, 2, 6, 6))  # running statistics of its own
    return network


def image_batches(*sizes: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(2)
    return [
        (torch.randn(size, 2, 6, 6, generator=generator), torch.randint(3, (size,), generator=generator))
        for size in sizes
    ]


def bits(network: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("normalise", ["layer", "filter"])
def test_a_quadratic_is_met_at_every_point(normalise: Normalise) -> None:
    network = Bowl()
    first, second = (part["weight"].numpy() for part in directions(network, 3, normalise))
    weight, bias = network.weight.detach().numpy(), network.bias.detach().numpy()
    made = landscape(network, bowl_batches(), points=7, reach=0.5, seed=3, normalise=normalise)
    np.testing.assert_allclose(made.alphas, np.linspace(-0.5, 0.5, 7), atol=1e-15)
    assert made.betas == made.alphas
    for i, alpha in enumerate(np.linspace(-0.5, 0.5, 7)):
        for j, beta in enumerate(np.linspace(-0.5, 0.5, 7)):
            height = ((weight + alpha * first + beta * second) ** 2).sum() / 2 + (bias**2).sum() / 2
            assert made.losses[i, j] == pytest.approx(height, rel=1e-12)
    assert np.ptp(made.losses) > 1


def test_losses_and_accuracies_of_a_linear_network_are_those_of_its_moved_weights() -> None:
    network = nn.Linear(5, 3, dtype=torch.float64)
    generator = torch.Generator().manual_seed(4)
    inputs = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (40,), generator=generator)
    first, second = (part["weight"].numpy() for part in directions(network, 0, "filter"))
    batches = [(inputs[:33], labels[:33]), (inputs[33:], labels[33:])]  # a mean of means would weigh them alike
    made = landscape(network, batches, points=5, reach=1.0, normalise="filter")
    for i, alpha in enumerate(made.alphas):
        for j, beta in enumerate(made.betas):
            weight = network.weight.detach().numpy() + alpha * first + beta * second
            logits = inputs.numpy() @ weight.T + network.bias.detach().numpy()
            losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(40), labels.numpy()]
            assert made.losses[i, j] == pytest.approx(losses.mean(), rel=1e-12)
            assert made.accuracies[i, j] == (logits.argmax(axis=1) == labels.numpy()).mean()


def test_the_centre_is_the_plain_loss_to_the_last_bit() -> None:
    network = convnet()
    (inputs, labels), *_ = batches = image_batches(64)
    with torch.no_grad():
        logits = network.eval()(inputs)
    plain = F.cross_entropy(logits, labels, reduction="none").double().sum().item() / 64
    made = landscape(network.train(), batches, points=3)
    assert made.centre == (plain, (logits.argmax(1) == labels).double().mean().item())
    assert plain == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)
    assert 0.0 in made.alphas


@pytest.mark.parametrize("normalise", ["layer", "filter"])
def test_directions_have_the_norms_of_the_weights_and_spare_the_rest(normalise: Normalise) -> None:
    network = convnet()
    inner = {"layer": 0, "filter": 1}[normalise]
    weights = dict(network.named_parameters())
    first, second = directions(network, 0, normalise)
    for direction in (first, second):
        assert list(direction) == ["0.weight", "3.weight", "7.weight"]
        for name, step in direction.items():
            assert step.shape == weights[name].shape
            lengths, wanted = (each.detach().flatten(inner).norm(dim=-1) for each in (step, weights[name]))
            torch.testing.assert_close(lengths, wanted)
    cosine = sum((first[name] * second[name]).sum() for name in first) / sum(w.square().sum() for w in first.values())
    assert abs(float(cosine)) < 0.2


def test_a_normalising_layer_is_spared_whatever_its_shape() -> None:
    network = nn.Sequential(nn.LayerNorm((4, 3)), nn.Flatten(), nn.Linear(12, 2))
    first, _ = directions(network, 0, "layer")
    assert list(first) == ["2.weight"]


def test_two_networks_of_one_architecture_share_their_directions_but_for_the_norms() -> None:
    one, other = convnet(0), convnet(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    pairs = [directions(network, 5, "filter") for network in (one, other)]
    for mine, theirs in zip(*pairs, strict=True):
        for name in mine:
            assert not torch.equal(mine[name], theirs[name])
            units = [F.normalize(each[name].flatten(1)) for each in (mine, theirs)]
            torch.testing.assert_close(*units)
    assert not torch.equal(pairs[0][0]["0.weight"], directions(one, 6, "filter")[0]["0.weight"])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]


class Recorder:
    """Batches that note what the network is like each time they are gone through; at `fails_at` they raise."""

    def __init__(self, network: nn.Module, fails_at: int | None = None) -> None:
        self.seen: list[dict[str, bytes]] = []
        self._network, self._fails_at = network, fails_at

    def __iter__(self) -> Iterator[Batch]:
        if len(self.seen) == self._fails_at:
            raise KeyboardInterrupt
        assert not any(module.training for module in self._network.modules())
        self.seen.append(bits(self._network))
        yield from image_batches(8)


def test_the_network_is_the_same_afterwards_bit_for_bit() -> None:
    network = convnet()
    network[4].eval()  # modes differ, and come back
    with torch.no_grad():
        network.get_parameter("0.weight")[0, 0, 0, 0] = -0.0
    before, modes = bits(network), [module.training for module in network.modules()]
    recorder = Recorder(network)
    landscape(network, recorder, points=5)
    assert bits(network) == before
    assert [module.training for module in network.modules()] == modes
    moved = {name for seen in recorder.seen for name in before if seen[name] != before[name]}
    assert moved == {"0.weight", "3.weight", "7.weight"}
    assert len({seen["0.weight"] for seen in recorder.seen}) == 25
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_and_after_an_exception() -> None:
    network = convnet()
    before = bits(network)
    with pytest.raises(KeyboardInterrupt):
        landscape(network, Recorder(network, fails_at=4), points=3)
    assert bits(network) == before
    assert network.training


def test_weights_do_not_drift_over_the_grid() -> None:
    network = convnet()
    first, second = directions(network, 0, "layer")
    weight = network.get_parameter("7.weight").detach().clone()
    recorder = Recorder(network)
    made = landscape(network, recorder, points=9)
    last = weight + made.alphas[-1] * first["7.weight"] + made.betas[-1] * second["7.weight"]
    assert recorder.seen[-1]["7.weight"] == last.numpy().tobytes()


def test_memory_is_three_copies_of_the_weights_however_fine_the_grid() -> None:
    network = nn.Sequential(nn.Linear(50, 400), nn.ReLU(), nn.Linear(400, 50))
    weights = sum(4 * part.weight.numel() for part in network if isinstance(part, nn.Linear))

    def tensors() -> int:
        sizes = {}
        for each in gc.get_objects():
            if type(each) in (Tensor, nn.Parameter):
                with suppress(RuntimeError):  # what other tests have compiled leaves tensors without storage behind
                    sizes[each.data_ptr()] = each.numel() * each.element_size()
        return sum(sizes.values())

    class Measuring:
        """Batches that measure at the first point and the last."""

        def __init__(self, points: int) -> None:
            self.sizes: list[int] = []
            self._calls, self._last = 0, points**2

        def __iter__(self) -> Iterator[Batch]:
            self._calls += 1
            if self._calls in (1, self._last):
                self.sizes.append(tensors())
            yield torch.zeros(1, 50), torch.zeros(1, dtype=torch.int64)

    before, sizes = tensors(), []
    for points in (5, 15):
        batches = Measuring(points)
        landscape(network, batches, points=points)
        sizes += batches.sizes
    assert len(sizes) == 4
    assert len(set(sizes)) == 1
    assert 3 * weights <= sizes[0] - before <= 3 * weights + 1000
    assert tensors() == before


def test_what_is_not_finite_stays_so_and_is_none_in_json() -> None:
    network = Bowl()
    network.weight.data *= (2 * 700 / network.weight.detach().square().sum()).sqrt()  # expm1 overflows beyond 709.8
    made = landscape(network, bowl_batches(), points=3, reach=0.1)
    assert np.isfinite(made.losses).any()
    assert not np.isfinite(made.losses).all()
    text = json.dumps(made.to_json(), allow_nan=False)
    read = np.array(json.loads(text)["losses"], dtype=np.float64)
    np.testing.assert_array_equal(np.isnan(read), ~np.isfinite(made.losses))


def test_json_holds_the_grid() -> None:
    losses = np.array([[1.0, np.nan, 3.0], [4.0, 5.0, np.inf], [7.0, 8.0, 9.0]])
    made = Landscape((-1.0, 0.0, 1.0), (-1.0, 0.0, 1.0), losses, np.full((3, 3), 0.5))
    assert made.to_json() == {
        "alphas": [-1.0, 0.0, 1.0],
        "betas": [-1.0, 0.0, 1.0],
        "losses": [[1.0, None, 3.0], [4.0, 5.0, None], [7.0, 8.0, 9.0]],
        "accuracies": [[0.5] * 3] * 3,
    }
    assert made.centre == (5.0, 0.5)


def test_rows_are_told() -> None:
    told: list[int] = []
    landscape(Bowl(), bowl_batches(), points=5, progress=told.append)
    assert told == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"points": 4}, "points is 4"),
        ({"points": 1}, "points is 1"),
        ({"points": -3}, "points is -3"),
        ({"reach": 0.0}, "reach is 0.0"),
        ({"reach": float("nan")}, "reach is nan"),
        ({"reach": float("inf")}, "reach is inf"),
        ({"normalise": "row"}, "allowed: layer, filter"),
        ({"batches": iter(bowl_batches())}, "give a list"),
        ({"batches": []}, "no batches"),
    ],
)
def test_what_is_not_allowed_is_said_and_nothing_is_changed(settings: dict[str, Any], part: str) -> None:
    network = Bowl()
    before = bits(network)
    with pytest.raises(UsageError, match=part):
        landscape(network, **{"batches": bowl_batches(), **settings})
    assert bits(network) == before
    assert network.training

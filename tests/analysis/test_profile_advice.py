"""The words about profiles: each of the findings is said where it holds, with its numbers, and not elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import nn

from sugarsearch.analysis.advice import (
    DRAWS,
    REMEDIES,
    Beginning,
    advise,
    look_at_beginning,
    raise_biases,
    sampling_noise,
)
from sugarsearch.analysis.profile import LayerProfile, profile
from sugarsearch.symbolic.library import surrogate

SAMPLES = 100


def layer(name: str, dead: Sequence[int] = (), linear: Sequence[int] = (), units: int = 10) -> LayerProfile:
    fired = tuple(0 if unit in dead else SAMPLES if unit in linear else 50 for unit in range(units))
    return LayerProfile(name, SAMPLES, fired, tuple(linear), 0, 5.0, units, 0.5)


def beginning(layers: Sequence[LayerProfile], dead: float = 0.0, largest_bias: float = 0.0) -> Beginning:
    return Beginning(7, layers, SAMPLES, dead, {0.01: 0.2, 0.1: 0.05}, [0.25, 0.3], largest_bias, False)


def said(now: Sequence[LayerProfile], then: Beginning, text: str = "relu", trained: bool = True) -> str:
    return "\n".join(advise(now, then, surrogate(text), trained=trained, seed_known=True))


def test_where_nothing_is_wrong_that_is_all_that_is_said() -> None:
    layers = [layer("a"), layer("b", linear=range(4))]
    assert said(layers, beginning(layers)).splitlines() == [
        "No unit is dead: each of the 20 fires for at least one of 100 samples.",
        "Nothing stands out: no layer has 10 % or more of its units dead, or 50 % or more always on.",
    ]


def test_dead_layers_are_named_with_their_numbers_and_where_they_begin() -> None:
    layers = [layer("a"), layer("b", dead=[3]), layer("c", dead=range(6)), layer("d", units=20, dead=[0])]
    text = said(layers, beginning(layers), trained=False)
    assert "8 of 50 units (16 %) are dead: they fire for none of 100 samples." in text
    assert "in 2 of 4 layers, the first being b: b (1 of 10), c (6 of 10)." in text
    assert "wholly dead" not in text
    assert "Nothing stands out" not in text


def test_few_dead_units_in_wide_layers_do_not_stand_out() -> None:
    layers = [layer("a", units=20, dead=[0])]
    text = said(layers, beginning(layers), trained=False)
    assert "1 of 20 units (5 %) are dead" in text
    assert "In no layer are they 10 % or more." in text
    assert "Nothing stands out" in text


def test_what_was_dead_from_the_beginning_is_told_from_what_died() -> None:
    text = said([layer("a", dead=[0, 1, 2])], beginning([layer("a", dead=[2, 3])]))
    assert "Dead units: 1 from initialisation on (seed 7), 2 since; dead at initialisation and firing now: 1." in text
    assert "from initialisation on" not in said(
        [layer("a", dead=[0])], beginning([layer("a", dead=[0])]), trained=False
    )


def test_of_given_weights_the_seed_is_in_doubt() -> None:
    layers = [layer("a", dead=[0])]
    text = "\n".join(advise(layers, beginning(layers), surrogate("relu"), trained=True, seed_known=False))
    assert "if the weights were trained from seed 7" in text


DEAD = layer("dead", dead=range(10))


@pytest.mark.parametrize(
    ("text", "g", "outcome"), [("relu", "0", "so no gradient"), ("b_silu", "0.917", "so gradient")]
)
def test_above_a_dead_layer_of_zero_biases_g_of_zero_decides(text: str, g: str, outcome: str) -> None:
    layers = [layer("a"), DEAD, layer("above", dead=range(10))]
    sentences = said(layers, beginning(layers), text)
    assert "2 of 3 layers are wholly dead, first dead: of its 10 units none fires" in sentences
    assert "At initialisation dead is wholly dead and all biases are 0: in all activations above it (1)" in sentences
    assert f"has g(0) = {g}, {outcome}" in sentences


@pytest.mark.parametrize(
    ("layers", "bias"),
    [([DEAD, layer("fed by a path around", dead=[1])], 0.0), ([DEAD, DEAD], 0.1), ([layer("a"), DEAD], 0.0)],
)
def test_g_of_zero_is_not_spoken_of_where_it_does_not_decide(layers: list[LayerProfile], bias: float) -> None:
    assert "g(0)" not in said(layers, beginning(layers, largest_bias=bias))


def test_other_beginnings_are_told_by_their_numbers_where_units_are_born_dead() -> None:
    layers = [layer("a", dead=range(3))]
    text = said(layers, beginning(layers, dead=0.3), trained=False)
    assert (
        "At initialisation 30 % of units are dead over 100 samples; 20 % with 0.01 added to each bias, 5 % with 0.1 "
        "added to each bias, 25 % to 30 % with 2 draws of He-normal (Kaiming) weights." in text
    )
    assert "He-normal" not in said(layers, beginning(layers, dead=0.0), trained=False)


def test_layers_that_act_linearly_are_named() -> None:
    layers = [layer("a", linear=range(5)), layer("b", linear=range(4))]
    text = said(layers, beginning(layers))
    assert "In 1 of 2 layers 50 % or more of the units are above 0 for all 100 samples" in text
    assert "a (5 of 10)" in text
    assert "Nothing stands out" not in text


def test_other_beginnings_are_measured_and_the_network_is_made_anew_for_each() -> None:
    # On inputs of 1 a unit's pre-activation is weight + bias: -0.05, -0.5 and 1; a bias of 0.1 revives the first.
    def make() -> nn.Module:
        layer = nn.Linear(1, 3)
        layer.load_state_dict({"weight": torch.tensor([[-0.05], [-0.5], [1.0]]), "bias": torch.zeros(3)})
        return nn.Sequential(layer, nn.ReLU())

    batches = [torch.ones(4, 1), torch.ones(2, 1)]
    found = look_at_beginning(make, profile(make(), batches), batches, seed=3)
    assert (found.seed, found.samples, found.largest_bias, found.batch_norm) == (3, 6, 0.0, False)
    assert found.dead == pytest.approx(2 / 3)
    assert found.with_bias == {0.01: pytest.approx(2 / 3), 0.1: pytest.approx(1 / 3)}
    assert len(found.with_kaiming) == DRAWS
    assert len(set(found.with_kaiming)) > 1
    assert all(share in (0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1) for share in found.with_kaiming)


def test_biases_of_linear_convolutional_and_batch_norm_layers_are_raised_and_nothing_else() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    raise_biases(network, 0.25)
    after = network.state_dict()
    raised = {name for name in before if not torch.equal(before[name], after[name])}
    assert raised == {"1.bias", "3.bias"}
    assert all(torch.allclose(after[name], before[name] + 0.25) for name in raised)


def test_a_network_without_biases_is_not_promised_any() -> None:
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
    batches = [torch.ones(1, 2)]
    found = look_at_beginning(lambda: network, profile(network, batches), batches, seed=0)
    assert (found.with_bias, found.largest_bias) == ({}, 0.0)


def test_noise_is_that_of_two_independent_draws_at_the_accuracy_with_most_of_it() -> None:
    assert sampling_noise([0.9, 0.5, 1.0], 200) == pytest.approx(1.96 * math.sqrt(2 * 0.25 / 200))
    assert sampling_noise([1.0], 200) == 0


def test_every_remedy_can_be_trained_with() -> None:
    assert REMEDIES[0].surrogate == "relu"
    assert all(surrogate(remedy.surrogate).primitive or remedy.arm == "sugar" for remedy in REMEDIES)

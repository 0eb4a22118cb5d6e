"""Every model of the catalogue: sites, parameters, cost, and training with a surrogate in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sugarsearch.config.fields import OptionValue
from sugarsearch.config.schema import ModelConfig
from sugarsearch.errors import UnknownNameError, UsageError
from sugarsearch.models.build import build, build_population, build_seeded
from sugarsearch.models.catalog import MODELS, check_model
from sugarsearch.nn.activation import SugarReLU


class Case(NamedTuple):
    name: str
    options: Mapping[str, OptionValue]
    shape: tuple[int, ...]
    sites: int
    parameters: int
    mega_macs: float


IMAGE = (3, 32, 32)
# Parameters are of 10 classes; multiply-accumulates are the published counts, where there are any.
CASES = [
    Case("deep_narrow_mlp", {}, (1, 8, 8), 16, 65 * 12 + 15 * 13 * 12 + 13 * 10, 64 * 12e-6 + 15 * 144e-6 + 120e-6),
    Case("deep_narrow_mlp", {"depth": 2, "width": 3}, (5,), 2, 6 * 3 + 4 * 3 + 4 * 10, (15 + 9 + 30) * 1e-6),
    Case("small_conv", {}, IMAGE, 4, 47_482, 1.07),
    Case("resnet8", {}, IMAGE, 7, 78_042, 12.5),
    Case("resnet20", {}, IMAGE, 19, 272_474, 41.0),
    Case("resnet18", {}, IMAGE, 17, 11_173_962, 555.0),
    Case("resnet18", {"stem": "imagenet"}, (3, 64, 64), 17, 11_181_642, 148.0),
    Case("vgg16", {}, IMAGE, 13, 14_714_688 - 4_224 + 8_448 + 5_130, 313.0),
    Case("vgg16", {"batch_norm": False}, IMAGE, 13, 14_714_688 + 5_130, 313.0),
    Case("vgg16", {"head": "classic"}, IMAGE, 15, 14_714_688 + 4_224 + 513 * 4096 + 4097 * 4106, 332.0),
    Case("conv2next", {}, IMAGE, 18, 7_360_976, 2_478.0),
    # The rows: four stages, whose attention fills its windows up to 21, 14, 7 and 7 patches a side; the rest.
    Case("swin_t", {}, (3, 64, 64), 12, 28_288_354 - 990 * 769, 78.6 + 102.9 + 297.7 + 276.3 + 15.3),
]


def name_of(case: Case) -> str:
    return "-".join([case.name, *map(str, case.options.values())])


def built(case: Case) -> nn.Module:
    config = ModelConfig(name=case.name, options=dict(case.options))
    return build_seeded(config, case.shape, 10, 0, lambda: SugarReLU("b_silu"))


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_sites_parameters_cost_and_gradients(case: Case) -> None:
    network = built(case)
    assert sum(isinstance(module, SugarReLU) for module in network.modules()) == case.sites
    assert not any(isinstance(module, nn.ReLU) for module in network.modules())
    assert sum(parameter.numel() for parameter in network.parameters()) == case.parameters
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, *case.shape))
    assert counter.get_total_flops() / 2e6 == pytest.approx(case.mega_macs, rel=0.02)
    logits = network.train()(torch.randn(2, *case.shape))
    assert logits.shape == (2, 10)
    torch.autograd.backward(logits.square().sum())
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_every_sites_input_has_a_gradient_and_the_memory_format_changes_nothing(case: Case) -> None:
    network, inputs = built(case).eval(), torch.randn(1, *case.shape)
    seen: list[Tensor] = []
    for module in network.modules():
        if isinstance(module, SugarReLU):
            module.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    logits = network(inputs)
    gradients = torch.autograd.grad(logits.square().sum(), seen)
    assert len(seen) == case.sites
    assert all(bool(gradient.any()) for gradient in gradients)
    if inputs.ndim == 4:
        network = network.to(memory_format=torch.channels_last)
        torch.testing.assert_close(network(inputs.contiguous(memory_format=torch.channels_last)), logits)


def test_resnet18_computes_what_torchvisions_does() -> None:
    config = ModelConfig(name="resnet18", options={"stem": "imagenet"})
    network, reference = build(config, (3, 64, 64), 10, nn.ReLU), torchvision.models.resnet18(num_classes=10)
    names, values = network.state_dict(), reference.state_dict().values()
    network.load_state_dict(dict(zip(names, values, strict=True)))
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(network.eval()(images), reference.eval()(images))


def test_every_model_has_a_case() -> None:
    assert {case.name for case in CASES} == set(MODELS)


@pytest.mark.parametrize("name", ["deep_narrow_mlp", "small_conv", "resnet8", "conv2next", "swin_t"])
def test_weights_come_from_the_seed_alone_and_leave_the_callers_random_state(name: str) -> None:
    config, before = ModelConfig(name=name), torch.get_rng_state()
    first = build_seeded(config, IMAGE, 10, 7, nn.ReLU).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    again = build_seeded(config, IMAGE, 10, 7, lambda: SugarReLU("nelu")).state_dict()
    other = build_seeded(config, IMAGE, 10, 8, nn.ReLU).state_dict()
    assert first.keys() == again.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_he_initialisation_keeps_the_second_moment_through_a_deep_network() -> None:
    config = ModelConfig(name="deep_narrow_mlp", options={"depth": 8, "width": 1000})
    network = build_seeded(config, (1000,), 10, 0, nn.ReLU)
    seen: list[float] = []
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].square().mean().item()))
    network(torch.randn(64, 1000))
    # Before the first site 2 E[x^2] = 2; each layer after it keeps that, since ReLU halves what He doubles.
    assert seen == pytest.approx([2.0] * 8, rel=0.25)
    assert all(not bool(value.any()) for name, value in network.state_dict().items() if name.endswith("bias"))


def test_a_population_starts_as_its_members_and_computes_what_they_compute() -> None:
    config, seeds, shape = ModelConfig(name="deep_narrow_mlp", options={"depth": 3}), [4, 9, 4], (1, 8, 8)
    population = build_population(config, shape, 10, seeds, nn.ReLU)
    singles = [build_seeded(config, shape, 10, seed, nn.ReLU) for seed in seeds]
    for name, stacked in population.state_dict().items():
        assert all(torch.equal(stacked[i], single.state_dict()[name]) for i, single in enumerate(singles))
    shared, own = torch.randn(5, *shape), torch.randn(3, 5, *shape)
    for given, inputs in ((shared, [shared] * 3), (own, list(own))):
        expected = torch.stack([single(one) for single, one in zip(singles, inputs, strict=True)])
        torch.testing.assert_close(population(given), expected)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet81", {}, "did you mean resnet8"),
        ("resnet18", {"stam": "cifar"}, "did you mean stem"),
        ("resnet18", {"stem": "svhn"}, "'svhn'; allowed: 'cifar', 'imagenet'"),
        ("vgg16", {"batch_norm": 1}, "is 1; allowed: True, False"),
        ("vgg16", {"head": "clasic"}, "'clasic'; allowed: 'linear', 'classic'"),
        ("deep_narrow_mlp", {"depth": 0}, "at least 1"),
        ("deep_narrow_mlp", {"width": True}, "whole number"),
    ],
)
def test_wrong_names_and_options_are_refused_with_what_is_allowed(
    name: str, options: dict[str, OptionValue], message: str
) -> None:
    with pytest.raises((UnknownNameError, UsageError), match=message):
        check_model(name, options)


def test_a_model_refuses_inputs_that_are_no_images_and_a_population_that_is_none() -> None:
    with pytest.raises(UsageError, match=r"at least 32x32.*\[1, 8, 8\]"):
        build(ModelConfig(name="vgg16"), (1, 8, 8), 10, nn.ReLU)
    with pytest.raises(UsageError, match=r"conv2next needs images .*at least 8x8"):
        build(ModelConfig(name="conv2next"), (3, 32, 7), 10, nn.ReLU)
    with pytest.raises(UsageError, match=r"swin_t needs images .*at least 4x4"):
        build(ModelConfig(name="swin_t"), (3, 3, 32), 10, nn.ReLU)
    with pytest.raises(UsageError, match=r"images \[C, H, W\]"):
        build(ModelConfig(name="small_conv"), (64,), 10, nn.ReLU)
    with pytest.raises(UsageError, match="models that can: deep_narrow_mlp"):
        build_population(ModelConfig(name="resnet8"), IMAGE, 10, [1, 2], nn.ReLU)


def test_a_users_factory_gets_its_options_and_must_give_a_network() -> None:
    built_by_user = build(
        ModelConfig(name="torch.nn:Linear", options={"in_features": 3, "out_features": 2}), (3,), 2, nn.ReLU
    )
    assert isinstance(built_by_user, nn.Linear)
    with pytest.raises(UsageError, match="could not be called with options"):
        build(ModelConfig(name="torch.nn:Linear", options={"size": 3}), (3,), 2, nn.ReLU)
    with pytest.raises(UsageError, match="gave a Tensor"):
        build(ModelConfig(name="torch:tensor", options={"data": 1}), (3,), 2, nn.ReLU)

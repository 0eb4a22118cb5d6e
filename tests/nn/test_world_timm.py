"""Networks of timm: what is replaced in them, and that they train, save and load as ever."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from sugarsearch.errors import SurgeryError
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.surgery import apply, remove

timm: Any = pytest.importorskip("timm", reason="timm is not installed")

# name: options, what is replaced, sites, sites whose forward changes
NETWORKS: dict[str, tuple[dict[str, Any], tuple[str, ...], int, int]] = {
    "resnet10t": ({}, ("relu",), 11, 0),
    "regnetx_002": ({}, ("relu",), 40, 0),
    "regnety_002": ({}, ("relu",), 53, 0),
    "densenet121": ({}, ("relu",), 121, 0),
    "convnext_atto": ({"act_layer": "relu"}, ("relu",), 12, 0),
    "convnext_tiny": ({"depths": (1, 1, 1, 1), "dims": (8, 16, 16, 16)}, ("gelu",), 4, 4),
    "efficientnet_b0": ({}, ("silu",), 49, 49),
    "mobilenetv3_small_050": ({}, ("relu", "hardswish"), 33, 19),
    "vit_tiny_patch16_224": ({"img_size": 64, "depth": 2}, ("gelu",), 2, 2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_surgery_and_back(name: str) -> None:
    options, replace, sites, changed = NETWORKS[name]
    model = timm.create_model(name, pretrained=False, num_classes=5, **options).eval()
    state, x = copy.deepcopy(model.state_dict()), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = model(x)
    report = apply(model, "b_silu", replace=replace)
    assert (len(report.sites), sum(site.forward_changed for site in report.sites), report.left) == (sites, changed, ())
    output = model(x)
    assert torch.equal(output, before) == (changed == 0)
    output.sum().backward()
    assert sum(isinstance(module, SugarReLU) for module in model.modules()) == sites
    model.load_state_dict(state, strict=True)
    remove(model)
    assert not any(isinstance(module, SugarReLU) for module in model.modules())
    with torch.no_grad():
        assert torch.equal(model(x), output)
    assert model.state_dict().keys() == state.keys()


def test_other_activations_are_left_and_named() -> None:
    report = apply(timm.create_model("mobilenetv3_small_050", pretrained=False), "b_silu")
    assert len(report.sites) == 14
    assert "left as it is: 19 Hardswish (bn1.act, ...); 'hardswish' in replace would make ReLU of it" in str(report)
    with pytest.raises(SurgeryError, match=r"the model has 12 GELU \(stages.0.blocks.0.mlp.act, ...\); 'gelu'"):
        apply(timm.create_model("convnext_atto", pretrained=False), "b_silu")


def test_relus_own_derivative_trains_a_regnet_as_relu_does() -> None:
    """The gradient passes every site of squeeze-and-excitation and of batch norm with an activation inside."""
    plain = timm.create_model("regnety_002", pretrained=False, num_classes=5)
    sugar, x = copy.deepcopy(plain), torch.randn(2, 3, 64, 64)
    apply(sugar, "relu")
    for model in (plain, sugar):
        model(x).square().sum().backward()
    for (name, wanted), got in zip(plain.named_parameters(), sugar.parameters(), strict=True):
        assert torch.equal(got.grad, wanted.grad), name
    other = copy.deepcopy(plain)
    apply(other, {"s[1-4].*": "b_silu"})
    assert type(other.stem.bn.act) is nn.ReLU
    other.zero_grad()
    other(x).square().sum().backward()
    assert not torch.equal(other.stem.conv.weight.grad, plain.stem.conv.weight.grad)
    assert torch.equal(other.head.fc.weight.grad, plain.head.fc.weight.grad)

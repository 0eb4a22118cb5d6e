import copy
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from sugarsearch.errors import SurgeryError
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.surgery import apply, remove
from sugarsearch.symbolic.library import surrogate

NETWORKS: dict[str, tuple[int, int, tuple[str, ...]]] = {  # name: sites, sites that were no ReLU, what is replaced
    "resnet18": (9, 0, ("relu",)),
    "vgg11": (10, 0, ("relu",)),
    "convnext_tiny": (18, 18, ("gelu",)),
    "swin_t": (12, 12, ("gelu",)),
    "mobilenet_v3_small": (33, 19, ("relu", "hardswish")),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_torchvision_networks(name: str) -> None:
    sites, changed, replace = NETWORKS[name]
    options = {"init_weights": False} if name == "vgg11" else {}  # its 133 M weights take 3 s to draw
    model = getattr(torchvision.models, name)(weights=None, **options).eval()
    state, x = copy.deepcopy(model.state_dict()), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = model(x)
    report = apply(model, "b_silu", replace=replace)
    assert (len(report.sites), sum(site.forward_changed for site in report.sites)) == (sites, changed)
    assert f"{sites} activation(s) replaced" in str(report)
    output = model(x)
    assert torch.equal(output, before) == (changed == 0)
    output.sum().backward()
    sugar = [module for module in model.modules() if isinstance(module, SugarReLU)]
    assert len(sugar) == sites
    assert not any(isinstance(module, (nn.ReLU, nn.GELU, nn.Hardswish)) for module in model.modules())
    model.load_state_dict(state, strict=True)
    remove(model)
    assert sum(type(module) is nn.ReLU for module in model.modules()) == sites
    assert not any(module.training for module in model.modules())
    with torch.no_grad():
        assert torch.equal(model(x), output)
    assert model.state_dict().keys() == state.keys()


def test_gradients_are_gs_through_the_model() -> None:
    first, last = nn.Linear(3, 4), nn.Linear(4, 1, bias=False)
    model = nn.Sequential(first, nn.ReLU(inplace=True), last)
    apply(model, "0.5 + sigmoid(x) if x > 0 else 0.2")
    x = torch.randn(1, 3)
    model(x).sum().backward()
    g = surrogate("0.5 + sigmoid(x) if x > 0 else 0.2")
    wanted = g(first(x).detach().numpy()[0]) * last.weight.detach().numpy()[0]
    assert first.bias.grad is not None
    assert first.bias.grad.tolist() == pytest.approx(wanted.tolist(), rel=1e-5)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(3, 3), nn.Linear(3, 3), nn.ReLU()
        self.block = nn.Sequential(nn.Linear(3, 3), self.relu)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.second(self.relu(self.first(x))))
        out: Tensor = self.block(x)
        return out


def test_a_module_used_at_several_places_stays_one() -> None:
    model = Twice()
    report = apply(model, "b_silu")
    assert model.relu is model.block[1]
    assert [site.paths for site in report.sites] == [("relu", "block.1")]
    assert "relu = block.1: ReLU -> SugarReLU" in str(report)
    remove(model)
    assert type(model.relu) is nn.ReLU
    assert model.relu is model.block[1]


def test_patterns_choose_a_g_by_layer() -> None:
    model = torchvision.models.resnet18(weights=None)
    report = apply(model, {"layer1.*": "b_silu", "layer[23].*": surrogate("silu")}, form="table")
    assert len(report.sites) == 6
    assert model.layer1[0].relu.surrogate.name == "b_silu"
    assert model.layer3[1].relu.surrogate.name == "silu"
    assert model.layer3[1].relu.form == "table"
    assert type(model.relu) is nn.ReLU
    assert type(model.layer4[0].relu) is nn.ReLU


def test_a_second_surgery_changes_the_surrogate() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    apply(model, "b_silu")
    report = apply(model, "silu")
    assert isinstance(model[1], SugarReLU)
    assert model[1].surrogate == surrogate("silu")
    assert not report.sites[0].forward_changed


class Own(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=0.1)


class NamedDifferently(nn.ReLU):
    """A ReLU by inheritance."""


class NotRelu(nn.ReLU):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + 1


def test_only_relu_is_replaced_unless_others_are_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2), NamedDifferently(), nn.GELU(), nn.SiLU(), nn.GELU(), Own(), NotRelu())
    report = apply(model, "b_silu")
    assert [(site.paths, site.old, site.forward_changed) for site in report.sites] == [
        (("1",), "NamedDifferently", False)
    ]
    assert "left as it is: 2 GELU (2, ...); 'gelu' in replace would make ReLU of it" in str(report)
    assert "left as it is: 1 SiLU (3); 'silu'" in str(report)
    report = apply(model, "silu", replace=("gelu", Own))
    assert [site.paths for site in report.sites] == [("1",), ("2",), ("4",), ("5",)]
    assert [site.forward_changed for site in report.sites] == [False, True, True, True]
    assert "at 3 of them the old one was no ReLU, so the model's outputs change" in str(report)
    assert type(model[3]) is nn.SiLU
    assert type(model[6]) is NotRelu


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        (("gelo",), "'gelo' is not known; allowed are classes of modules and relu, relu6"),
        (("relu", int), "is not known"),
        ("gelu", "must be a sequence"),
        ((), "at least one member"),
    ],
)
def test_what_cannot_be_named_is_refused(replace: Any, message: str) -> None:
    with pytest.raises(SurgeryError, match=message):
        apply(nn.Sequential(nn.ReLU()), "b_silu", replace=replace)


def test_an_activation_with_weights_is_refused() -> None:
    with pytest.raises(SurgeryError, match=r"0 \(PReLU\) holds weight, which would be lost"):
        apply(nn.Sequential(nn.PReLU()), "b_silu", replace=(nn.PReLU,))


def test_a_refused_network_names_what_it_has() -> None:
    model = torchvision.models.efficientnet_b0(weights=None)
    with pytest.raises(SurgeryError, match=r"looked for: relu.\n  the model has 49 SiLU .*'silu' in replace"):
        apply(model, "b_silu")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_scripted_model_is_refused() -> None:
    with pytest.raises(SurgeryError, match=r"torch.jit cannot be changed"):
        apply(nn.Sequential(torch.jit.script(nn.ReLU())), "b_silu")


def test_nothing_found_and_idle_patterns_are_refused() -> None:
    with pytest.raises(SurgeryError, match="no activation was found; looked for: relu"):
        apply(nn.Sequential(nn.Linear(2, 2), nn.Sigmoid()), "b_silu")
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with pytest.raises(SurgeryError, match=r"'7\*'; the model has: 1"):
        apply(model, {"1": "b_silu", "7*": "silu"})
    assert type(model[1]) is nn.ReLU
    with pytest.raises(SurgeryError, match="itself a ReLU"):
        apply(nn.ReLU(), "b_silu")
    with pytest.raises(SurgeryError, match="no SugarReLU"):
        remove(model)

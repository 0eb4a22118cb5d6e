import copy

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, fx, nn

from sugarsearch.errors import SurgeryError
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.surgery import apply, remove
from sugarsearch.symbolic.library import surrogate

NETWORKS = {  # name: sites, sites that were no ReLU
    "resnet18": (9, 0),
    "vgg11": (10, 0),
    "convnext_tiny": (18, 18),
    "swin_t": (12, 12),
    "mobilenet_v3_small": (33, 19),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_torchvision_networks(name: str) -> None:
    sites, changed = NETWORKS[name]
    options = {"init_weights": False} if name == "vgg11" else {}  # its 133 M weights take 3 s to draw
    model = getattr(torchvision.models, name)(weights=None, **options).eval()
    state, x = copy.deepcopy(model.state_dict()), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = model(x)
    report = apply(model, "b_silu")
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


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.relu = nn.Linear(3, 3), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.inner(x))
        x = torch.relu(x - 0.1)
        x = self.relu(x).relu()
        return F.leaky_relu(input=x, negative_slope=0.2)


def test_functional_calls_are_refused_by_place() -> None:
    model = nn.Sequential(nn.Linear(3, 3), Functional())
    with pytest.raises(SurgeryError) as caught:
        apply(model, "b_silu")
    text = str(caught.value)
    for call in ("F.relu(...)", "torch.relu(...)", "self.relu(x).relu(...)", "F.leaky_relu(...)"):
        assert f"1 (Functional): {call} at {__file__}:" in text
    line = Functional.forward.__code__.co_firstlineno + 1
    assert f"F.relu(...) at {__file__}:{line}" in text
    assert type(model[1].relu) is nn.ReLU


def test_functional_calls_can_be_left() -> None:
    model = Functional()
    report = apply(model, "b_silu", leave_functional=True)
    assert len(report.left) == 4
    assert "left as it is: the model (Functional): F.relu(...)" in str(report)
    assert isinstance(model.relu, SugarReLU)


def test_functional_calls_in_a_traced_graph_are_replaced() -> None:
    model = fx.symbolic_trace(Functional())
    x = torch.randn(8, 3)
    before = model(x)
    report = apply(model, "b_silu")
    assert sorted(site.old for site in report.sites) == ["ReLU", "leaky_relu()", "relu()", "relu()", "relu()"]
    assert [site.forward_changed for site in report.sites if site.old == "leaky_relu()"] == [True]
    output = model(x)
    assert torch.equal(output, before.clamp(min=0))
    output.sum().backward()
    remove(model)
    assert torch.equal(model(x), output)
    assert sum(type(module) is nn.ReLU for module in model.modules()) == 5


def test_an_attribute_that_holds_a_function_is_refused() -> None:
    with pytest.raises(
        SurgeryError, match=r"0 \(TransformerEncoderLayer\): attribute 'activation' is the function gelu"
    ):
        apply(nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, activation="gelu"), nn.ReLU()), "b_silu")


def test_a_class_without_source_is_named() -> None:
    names: dict[str, type[nn.Module]] = {}
    exec("from torch import nn\nclass Hidden(nn.Sequential):\n    pass", names)
    with pytest.raises(SurgeryError, match="source of class Hidden cannot be read"):
        apply(names["Hidden"](nn.ReLU()), "b_silu")


def test_nothing_found_and_idle_patterns_are_refused() -> None:
    with pytest.raises(SurgeryError, match="no activation was found; looked for: ReLU"):
        apply(nn.Sequential(nn.Linear(2, 2), nn.Sigmoid()), "b_silu")
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with pytest.raises(SurgeryError, match=r"'7\*'; the model has: 1"):
        apply(model, {"1": "b_silu", "7*": "silu"})
    assert type(model[1]) is nn.ReLU
    with pytest.raises(SurgeryError, match="itself a ReLU"):
        apply(nn.ReLU(), "b_silu")
    with pytest.raises(SurgeryError, match="no SugarReLU"):
        remove(model)

"""Activations called as functions: found by reading the source, refused by place, or traced into modules."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, fx, nn
from torch.nn.functional import relu as under_another_name

from sugarsearch.errors import SurgeryError
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.surgery import apply, remove

G = "0.5 + sigmoid(x) if x > 0 else 0.2"


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.relu = nn.Linear(3, 3), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.inner(x))
        x = torch.relu(x - 0.1)
        x = self.relu(x).relu()
        return F.leaky_relu(input=x, negative_slope=0.2)


def helper(x: Tensor) -> Tensor:
    return deeper(x) - 0.1


def deeper(x: Tensor) -> Tensor:
    return helper(-x) if x is None else under_another_name(x)


class Hidden(nn.Module):
    """Everything that a search for `F.relu(` would miss, and what a traced graph must keep."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.unused = nn.Linear(3, 3), nn.Linear(2, 2)
        self.shift: Tensor
        self.register_buffer("shift", torch.full((3,), 0.3))
        self.act, self.own = F.relu, helper
        self.note = "kept"

    def forward(self, x: Tensor, scale: float = 2.0, mask: Tensor | None = None, double: bool = False) -> Tensor:
        x = helper(self.act(self.inner(x)) - self.shift * 2)
        x = self.own(x + 0.2) + self.method(x)
        if mask is not None:
            x = x * mask
        return x * scale * (2 if double else 1)

    def method(self, x: Tensor) -> Tensor:
        choose = torch.relu
        return choose(x - 0.05)


def test_functional_calls_are_refused_by_place() -> None:
    model = nn.Sequential(nn.Linear(3, 3), Functional())
    with pytest.raises(SurgeryError) as caught:
        apply(model, "b_silu", replace=("relu", "leaky_relu"))
    text = str(caught.value)
    for call in ("F.relu(...)", "torch.relu(...)", "self.relu(x).relu(...)", "F.leaky_relu(...)"):
        assert f"1 (Functional): {call} at {__file__}:" in text
    line = Functional.forward.__code__.co_firstlineno + 1
    assert f"F.relu(...) at {__file__}:{line}" in text
    assert "trace=True" in text
    assert type(model[1].relu) is nn.ReLU


def test_calls_under_other_names_and_in_helpers_are_found() -> None:
    with pytest.raises(SurgeryError) as caught:
        apply(nn.Sequential(Hidden(), nn.ReLU()), "b_silu")
    text = str(caught.value)
    assert f"0 (Hidden): under_another_name(...) at {__file__}:{deeper.__code__.co_firstlineno + 1}" in text
    assert f"0 (Hidden): torch.relu at {__file__}:{Hidden.method.__code__.co_firstlineno + 1}" in text


def test_functional_calls_can_be_left() -> None:
    model = Functional()
    report = apply(model, "b_silu", leave_functional=True)
    assert len(report.left) == 4
    assert "left as it is: the model (Functional): F.relu(...)" in str(report)
    assert isinstance(model.relu, SugarReLU)


def test_functional_calls_of_other_kinds_are_left_and_said() -> None:
    class Mixed(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            return F.gelu(super().forward(input))  # type: ignore[no-untyped-call]

    report = apply(Mixed(nn.Linear(3, 3), nn.ReLU()), "b_silu")
    assert len(report.sites) == 1
    assert [line.startswith("the model (Mixed): F.gelu(...)") for line in report.left] == [True]


def test_functional_calls_in_a_graph_are_replaced() -> None:
    model = fx.symbolic_trace(Functional())
    x = torch.randn(8, 3)
    before = model(x)
    report = apply(model, "b_silu", replace=("relu", "leaky_relu"))
    assert sorted(site.old for site in report.sites) == ["ReLU", "leaky_relu()", "relu()", "relu()", "relu()"]
    assert [site.forward_changed for site in report.sites if site.old == "leaky_relu()"] == [True]
    output = model(x)
    assert torch.equal(output, before.clamp(min=0))
    output.sum().backward()
    remove(model)
    assert torch.equal(model(x), output)
    assert sum(type(module) is nn.ReLU for module in model.modules()) == 5


def test_an_exported_graph_is_operated_too() -> None:
    model = torch.export.export(Functional(), (torch.randn(8, 3),)).module()
    assert [site.old for site in apply(model, "b_silu").sites] == ["relu()"] * 4
    assert sum(isinstance(module, SugarReLU) for module in model.modules()) == 4


def test_an_attribute_that_holds_a_function_is_replaced() -> None:
    """nn.TransformerEncoderLayer keeps F.relu so, by default."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model, x = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)), torch.randn(2, 5, 8)
    wanted = model(x)
    report = apply(model, "b_silu")
    assert [site.paths[0] for site in report.sites] == ["0.layers.0.activation", "0.layers.1.activation"]
    assert torch.equal(model(x), wanted)
    plain, sugar = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)), model
    plain.load_state_dict(sugar.state_dict(), strict=True)
    assert not torch.equal(gradients(plain, x)[2], gradients(sugar, x)[2])
    apply(model, "relu")
    assert all(torch.equal(a, b) for a, b in zip(gradients(plain, x), gradients(sugar, x), strict=True))
    remove(model)
    assert type(model.get_submodule("0.layers.0.activation")) is nn.ReLU
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), wanted)  # evaluation takes another path in torch


def gradients(model: nn.Module, *inputs: Tensor) -> list[Tensor]:
    used = [parameter for name, parameter in model.named_parameters() if "unused" not in name]
    return list(torch.autograd.grad(model(*inputs).square().sum(), used))


@pytest.mark.parametrize("make", [Functional, Hidden, lambda: nn.Sequential(Hidden(), Functional())])
def test_a_traced_model_is_the_same_model(make: Callable[[], nn.Module]) -> None:
    model, x = make(), torch.randn(8, 3)
    twin, kinds = copy.deepcopy(model), {path: type(module) for path, module in model.named_modules()}
    report = apply(model, "relu", trace=True)
    assert torch.equal(model(x), twin(x))
    assert all(torch.equal(a, b) for a, b in zip(gradients(model, x), gradients(twin, x), strict=True))
    assert model.state_dict().keys() == twin.state_dict().keys()
    twin.load_state_dict(model.state_dict(), strict=True)
    assert all(isinstance(model.get_submodule(path), kind) for path, kind in kinds.items() if kind is not nn.ReLU)
    traced = [site for site in report.sites if "functional_" in site.paths[0]]
    assert len(traced) == sum({Functional: 3, Hidden: 4}.get(kind, 0) for kind in kinds.values())
    apply(model, G)
    assert torch.equal(model(x), twin(x))
    assert not torch.equal(gradients(model, x)[0], gradients(twin, x)[0])
    remove(model)
    assert {path: type(module) for path, module in model.named_modules()} == kinds
    assert torch.equal(model(x), twin(x))
    assert all(torch.equal(a, b) for a, b in zip(gradients(model, x), gradients(twin, x), strict=True))


def test_each_traced_site_has_its_g() -> None:
    """The same network, written with modules, is the oracle."""
    functional = Functional()
    apply(functional, {"functional_relu": G, "functional_relu_1": "silu", "*": "b_silu"}, trace=True)
    x = torch.randn(20, 3)
    inner = functional.inner
    activations = [SugarReLU(text) for text in (G, "silu", "b_silu", "b_silu")]
    value = activations[1](activations[0](inner(x)) - 0.1)
    value = F.leaky_relu(activations[3](activations[2](value)), 0.2)
    wanted = torch.autograd.grad(value.square().sum(), list(inner.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(gradients(functional, x), wanted, strict=True))


def test_a_traced_module_keeps_arguments_attributes_and_hooks() -> None:
    model, x, seen = Hidden(), torch.randn(4, 3), list[int]()
    model.register_forward_hook(lambda *_: seen.append(1))
    twin = copy.deepcopy(model)
    apply(model, "b_silu", trace=True)
    assert model.note == "kept"
    assert torch.equal(model(x, scale=3.0, mask=None), twin(x, scale=3.0))
    assert len(seen) == 2
    for wrong in ({"mask": torch.ones(3)}, {"double": True}):  # fixed when it was traced: an error, not another result
        with pytest.raises(AssertionError, match="specialized"):
            model(x, **wrong)


def test_a_traced_module_can_be_copied_and_pickled() -> None:
    model, x = nn.Sequential(Hidden(), Functional()), torch.randn(8, 3)
    apply(model, {"*functional_relu*": G}, trace=True)
    wanted = gradients(model, x)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    twins = (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(buffer, weights_only=False))
    for twin in twins:
        assert all(torch.equal(a, b) for a, b in zip(gradients(twin, x), wanted, strict=True))
        apply(twin, "relu")
        assert not torch.equal(gradients(twin, x)[0], wanted[0])
        remove(twin)
        assert type(twin[0]) is Hidden
    assert all(torch.equal(a, b) for a, b in zip(gradients(model, x), wanted, strict=True))


def test_other_functions_can_be_traced_later_and_stay_modules_after_removal() -> None:
    model, x = Functional(), torch.randn(8, 3)
    apply(model, "b_silu", trace=True)
    report = apply(model, "silu", replace=("leaky_relu",), trace=True)
    assert sorted(site.old for site in report.sites) == ["SugarReLU"] * 4 + ["leaky_relu()"]
    output = model(x)
    assert (output >= 0).all()
    remove(model)
    assert torch.equal(model(x), output)
    assert sum(type(module) is nn.ReLU for module in model.modules()) == 5


class Dropout(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(F.relu(x), 0.5, self.training)


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) if x.sum() > 0 else x


class Counter(nn.Module):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return F.relu(x)


class Constant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) * torch.tensor([2.0])


class Buffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.warm: Tensor
        self.register_buffer("warm", torch.tensor(True))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) if self.warm else x


class Elsewhere(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)

    def features(self, x: Tensor) -> Tensor:
        return torch.relu(x)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Dropout, "another one in training than in evaluation"),
        (Branch, "torch.fx cannot trace it: .*control flow"),
        (Buffer, "torch.fx cannot trace it: .*control flow"),
        (Counter, "its forward sets calls"),
        (Constant, "makes a tensor that a trace would fix"),
        (Elsewhere, r"not reached by the traced forward:\n  0 \(Elsewhere\): torch.relu"),
    ],
)
def test_what_a_trace_would_change_is_refused_and_left_as_it_was(kind: type[nn.Module], reason: str) -> None:
    model = nn.Sequential(kind(), nn.Linear(3, 3), nn.ReLU(), Functional()).train()
    before = [dict(vars(module)) for module in model.modules()]
    with pytest.raises(SurgeryError, match=reason):
        apply(model, "b_silu", trace=True)
    assert [dict(vars(module)) for module in model.modules()] == before
    assert [type(module) for module in model.children()] == [kind, nn.Linear, nn.ReLU, Functional]
    report = apply(model, "b_silu", trace=True, leave_functional=True)
    assert any(f"({kind.__name__})" in line for line in report.left)
    assert len(report.sites) == (6 if kind is Elsewhere else 5)


def test_a_class_without_source_is_named_or_traced() -> None:
    names: dict[str, type[nn.Module]] = {}
    source = "from torch import nn\nclass Unseen(nn.Sequential):\n    def forward(self, x): return self[0](x).relu()"
    exec(source, names)
    with pytest.raises(SurgeryError, match="source of class Unseen cannot be read"):
        apply(names["Unseen"](nn.ReLU()), "b_silu")
    assert len(apply(names["Unseen"](nn.ReLU()), "b_silu", trace=True).sites) == 2


def test_torchvisions_functional_networks() -> None:
    model, x = torchvision.models.googlenet(weights=None, init_weights=False).eval(), torch.randn(1, 3, 64, 64)
    with pytest.raises(SurgeryError, match=r"BasicConv2d\): F.relu"):
        apply(model, "b_silu")
    with torch.no_grad():
        wanted = model(x)
        report = apply(model, "b_silu", trace=True)
        assert len(report.sites) == 61  # 57 convolutions and 2 auxiliary heads with a linear layer more
        assert torch.equal(model(x), wanted)
    model.train()
    sum(output.sum() for output in model(x.repeat(2, 1, 1, 1))).backward()
    remove(model)
    assert type(model.conv1) is torchvision.models.GoogLeNet(init_weights=False).conv1.__class__

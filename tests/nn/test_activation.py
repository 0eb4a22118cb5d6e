import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sugarsearch.errors import UsageError
from sugarsearch.nn.activation import Form, SugarReLU
from sugarsearch.symbolic.library import LIBRARY, surrogate
from sugarsearch.symbolic.surrogate import Surrogate

ASYMMETRIC = "0.5 + sigmoid(x) if x > 0 else 0.3*cos(x)/(1 + x**2) - 0.2"
FORMS: list[Form] = ["closed", "table"]
SPECIAL = [0.0, -0.0, 1e-30, -1e-30, 1.5e-45, -1.5e-45, 1e-7, -1e-7, 3.0, -3.0, 6e4, -6e4]


def gradient(activation: nn.Module, x: Tensor, grad: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (result,) = torch.autograd.grad(activation(x), x, grad)
    return result


def relu_gradient(x: Tensor, grad: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (result,) = torch.autograd.grad(F.relu(x), x, grad)
    return result


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", [*LIBRARY, ASYMMETRIC])
def test_gradient_is_grad_times_g(text: str, form: Form) -> None:
    g = surrogate(text)
    x = torch.cat([torch.randn(500) * 3, torch.tensor(SPECIAL)])
    grad = torch.randn_like(x)
    wanted = grad.double().numpy() * g(x.double().numpy())
    tolerance = 1e-4 if form == "table" and text == "fast_sigmoid" else 5e-6  # fast_sigmoid's g'' is 600 beside 0
    np.testing.assert_allclose(gradient(SugarReLU(g, form=form), x, grad).numpy(), wanted, atol=tolerance, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_scaled_to_unit_gain_the_gradient_is_scaled(form: Form) -> None:
    g = surrogate("b_silu").at_unit_gain()
    x, grad = torch.linspace(-3, 3, 50), torch.ones(50)
    assert g.scale != 1
    np.testing.assert_allclose(gradient(SugarReLU(g, form=form), x, grad).numpy(), g(x.numpy()), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("form", FORMS)
def test_relus_own_derivative_gives_relus_gradient_bit_for_bit(form: Form, dtype: torch.dtype) -> None:
    x = torch.cat([torch.randn(500) * 3, torch.tensor(SPECIAL)]).to(dtype)
    grad = torch.randn(x.shape).to(dtype)
    got = gradient(SugarReLU("relu", form=form), x, grad)
    assert got.dtype == dtype
    assert torch.equal(got, relu_gradient(x, grad))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", FORMS)
def test_forward_is_relu_bit_for_bit(form: Form, dtype: torch.dtype) -> None:
    values = [*SPECIAL, float("nan"), float("inf"), -float("inf"), *np.linspace(-5, 5, 99)]
    x = torch.tensor(values).to(dtype)
    bits = {2: torch.int16, 4: torch.int32}[x.element_size()]
    output = SugarReLU(ASYMMETRIC, form=form)(x)
    assert output.dtype == dtype
    assert torch.equal(output.view(bits), torch.relu(x).view(bits))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch", [3, 70])  # 70 * 2048 elements are worked on in pieces on the CPU
def test_channels_last_is_kept_and_right(form: Form, batch: int) -> None:
    g = surrogate(ASYMMETRIC)
    x = torch.randn(batch, 8, 16, 16).to(memory_format=torch.channels_last)
    grad = torch.randn(batch, 8, 16, 16).to(memory_format=torch.channels_last)
    activation = SugarReLU(g, form=form)
    got = gradient(activation, x, grad)
    assert activation(x).is_contiguous(memory_format=torch.channels_last)
    assert got.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(got.numpy(), grad.numpy() * g(x.numpy()), atol=5e-6)


@pytest.mark.parametrize("form", FORMS)
def test_non_contiguous_expanded_empty_and_0d(form: Form) -> None:
    g = surrogate(ASYMMETRIC)
    activation = SugarReLU(g, form=form)
    base = torch.randn(6, 10)
    cases = [base.t(), base[::2, 1::3], torch.randn(1, 5).expand(4, 5), torch.randn(()), torch.empty(0, 3), base[:, 2]]
    for x in cases:
        grad = torch.randn(x.shape)
        np.testing.assert_allclose(gradient(activation, x, grad).numpy(), grad.numpy() * g(x.numpy()), atol=5e-6)
        expanded = torch.ones(()).expand(x.shape)  # what sum().backward() hands over
        np.testing.assert_allclose(gradient(activation, x, expanded).numpy(), g(x.numpy()), atol=5e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", FORMS)
def test_under_autocast_g_is_computed_in_float32(form: Form, dtype: torch.dtype) -> None:
    g = surrogate(ASYMMETRIC)
    linear, activation = nn.Linear(8, 16), SugarReLU(g, form=form)
    seen: list[Tensor] = []
    activation.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    inputs = torch.randn(4, 8)
    with torch.autocast("cpu", dtype=dtype):
        output = activation(linear(inputs))
    assert output.dtype == dtype
    grad = torch.randn(4, 16).to(dtype)
    (got,) = torch.autograd.grad(output, seen[0], grad)
    wanted = torch.from_numpy(grad.double().numpy() * g(seen[0].detach().double().numpy())).to(dtype)
    assert got.dtype == dtype
    torch.testing.assert_close(got, wanted, rtol=torch.finfo(dtype).eps, atol=5e-6)


MEMBERS = tuple(surrogate(ASYMMETRIC).at_unit_gain() if i == 1 else surrogate(t) for i, t in enumerate(
    ["sigmoid(3*x)", ASYMMETRIC, "relu", "0.2 if x > 0 else 0.7", "b_silu", "1.5 + 0*x"]
))  # fmt: skip


@pytest.mark.parametrize("shape", [(6, 9, 4), (6, 30), (6,), (6, 0, 3), (6, 64, 500)])
def test_every_member_of_a_population_has_its_own_g(shape: tuple[int, ...]) -> None:
    x, grad = torch.randn(shape) * 2, torch.randn(shape)
    got = gradient(SugarReLU(MEMBERS), x, grad)
    wanted = np.stack([grad[i].numpy() * g(x[i].numpy()) for i, g in enumerate(MEMBERS)])
    np.testing.assert_allclose(got.numpy(), wanted, atol=5e-6)


@pytest.mark.parametrize("shape", [(6, 9, 4), (6, 1), (6,), (6, 0, 3), (6, 64, 1000)])
def test_a_population_in_closed_form_is_its_members_bit_for_bit(shape: tuple[int, ...]) -> None:
    g, h = surrogate(ASYMMETRIC), surrogate("b_silu")
    members = [g, g, g, h, g, h]
    x, grad = torch.randn(shape) * 2, torch.randn(shape)
    activation = SugarReLU(members, form="closed")
    wanted = [gradient(SugarReLU(one), x[i], grad[i]) for i, one in enumerate(members)]
    assert torch.equal(gradient(activation, x, grad), torch.stack(wanted))
    kept = [1, 3, 4]
    activation.select(torch.tensor(kept))
    assert torch.equal(gradient(activation, x[kept], grad[kept]), torch.stack([wanted[i] for i in kept]))
    with pytest.raises(UsageError, match="population of 3 members"):
        activation(x)


def test_a_non_contiguous_population_is_right() -> None:
    x, grad = torch.randn(9, 6, 4).transpose(0, 1), torch.randn(6, 9, 4)
    wanted = np.stack([grad[i].numpy() * g(x[i].numpy()) for i, g in enumerate(MEMBERS)])
    np.testing.assert_allclose(gradient(SugarReLU(MEMBERS), x, grad).numpy(), wanted, atol=5e-6)


def test_permuted_members_give_permuted_gradients() -> None:
    order = [3, 0, 5, 1, 4, 2]
    x, grad = torch.randn(6, 50), torch.randn(6, 50)
    got = gradient(SugarReLU(MEMBERS), x, grad)
    permuted = gradient(SugarReLU([MEMBERS[i] for i in order]), x[order], grad[order])
    assert torch.equal(permuted, got[order])


def test_a_member_equals_a_single_table_bit_for_bit() -> None:
    x, grad = torch.randn(6, 50), torch.randn(6, 50)
    got = gradient(SugarReLU(MEMBERS), x, grad)
    for i, g in enumerate(MEMBERS):
        assert torch.equal(got[i], gradient(SugarReLU(g, form="table"), x[i], grad[i]))


def test_select_keeps_members_in_the_order_given() -> None:
    activation = SugarReLU(MEMBERS)
    activation.select(torch.tensor([4, 1]))
    assert activation.surrogates == (MEMBERS[4], MEMBERS[1])
    x, grad = torch.randn(2, 50), torch.randn(2, 50)
    assert torch.equal(gradient(activation, x, grad), gradient(SugarReLU([MEMBERS[4], MEMBERS[1]]), x, grad))


@pytest.mark.parametrize("form", FORMS)
def test_another_surrogate_can_be_put_in(form: Form) -> None:
    activation = SugarReLU("relu", form=form)
    x, grad = torch.randn(50), torch.randn(50)
    activation.set_surrogate("b_silu")
    assert activation.surrogate.name == "b_silu"
    np.testing.assert_allclose(
        gradient(activation, x, grad).numpy(), grad.numpy() * surrogate("b_silu")(x.numpy()), atol=5e-6
    )


def test_a_swap_between_forward_and_backward_is_an_error_not_a_wrong_gradient() -> None:
    activation = SugarReLU("relu", form="table")
    output = activation(torch.randn(5, requires_grad=True))
    activation.set_surrogate("b_silu")
    with pytest.raises(RuntimeError, match="inplace operation"):
        output.sum().backward()


@pytest.mark.parametrize("given", ["relu", MEMBERS])
def test_nothing_is_in_the_state_dict(given: str | tuple[Surrogate, ...]) -> None:
    activation = SugarReLU(given, form="table")
    assert activation.state_dict() == {}
    assert list(activation.parameters()) == list(activation.buffers()) == []
    activation.load_state_dict({}, strict=True)


def test_conversions_do_not_spoil_the_table() -> None:
    activation = SugarReLU(ASYMMETRIC, form="table")
    before = activation.derivative
    assert isinstance(before, Tensor)
    for convert in (nn.Module.half, nn.Module.bfloat16, nn.Module.double, nn.Module.float):
        convert(nn.Sequential(activation))
        assert activation.derivative is before
        assert before.dtype == torch.float32
    activation.to("meta")
    assert isinstance(activation.derivative, Tensor)
    assert activation.derivative.is_meta
    activation.to_empty(device="cpu")
    assert torch.equal(activation.derivative, before)


@pytest.mark.parametrize("given", [ASYMMETRIC, MEMBERS])
@pytest.mark.parametrize("form", FORMS)
def test_copies_are_independent_and_equal(given: str | tuple[Surrogate, ...], form: Form) -> None:
    original = SugarReLU(given, form=form)
    x, grad = torch.randn(6, 7), torch.randn(6, 7)
    wanted = gradient(original, x, grad)
    for twin in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
        assert torch.equal(gradient(twin, x, grad), wanted)
        twin.set_surrogate("relu" if isinstance(given, str) else [surrogate("relu")] * 6)
        assert torch.equal(gradient(original, x, grad), wanted)


def test_the_repr_shows_the_formula() -> None:
    assert repr(SugarReLU("leaky_relu", form="table")) == "SugarReLU(g(x) = 1 if x > 0 else 0.01, form=table)"
    assert repr(SugarReLU(MEMBERS)) == "SugarReLU(6 members, form=table)"


def test_unfit_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="in place"):
        SugarReLU("relu", inplace=True)
    with pytest.raises(UsageError, match="'open' is not known"):
        SugarReLU("relu", form="open")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="empty"):
        SugarReLU([])
    with pytest.raises(UsageError, match=r"6 members takes x of shape \[6, \.\.\.\]; given \[5, 6\]"):
        SugarReLU(MEMBERS)(torch.randn(5, 6))
    with pytest.raises(UsageError, match="takes one surrogate"):
        SugarReLU("relu").set_surrogate(MEMBERS)
    with pytest.raises(UsageError, match="select"):
        SugarReLU("relu", form="table").select(torch.tensor([0]))

"""Backward passes that take ReLU's own gradient: F.relu's, to the bit, and only while they are asked to."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from sugarsearch.nn.activation import Form, SugarReLU
from sugarsearch.nn.function import relus_own_gradient
from sugarsearch.nn.surgery import remove
from sugarsearch.symbolic.library import surrogate

FORMS: list[Form] = ["closed", "table"]


def conv_net(activation: nn.Module) -> nn.Sequential:
    """The same weights every time."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), activation, nn.Conv2d(6, 4, 3, stride=2), activation,
        nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 5),
    ).to(memory_format=torch.channels_last)  # fmt: skip


def gradients(net: nn.Sequential, loss: Tensor, keep: bool = False) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(net.parameters()), retain_graph=keep))


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("form", FORMS)
def test_a_net_has_the_gradients_of_plain_relu_within_and_its_own_before_and_after(form: Form) -> None:
    images = torch.randn(8, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(8) % 5
    net, plain = (conv_net(SugarReLU("b_silu", form=form)) for _ in range(2))
    remove(plain)
    assert not any(isinstance(part, SugarReLU) for part in plain.modules())
    loss = F.cross_entropy(net(images), labels)
    own = gradients(net, loss, keep=True)
    with relus_own_gradient():
        within = gradients(net, loss, keep=True)
    assert equal(within, gradients(plain, F.cross_entropy(plain(images), labels)))
    assert equal(gradients(net, loss), own)
    assert not equal(own, within)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_is_relus_to_the_bit_at_every_kind_of_number(
    form: Form, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    kinds = torch.tensor([1.0, -1.0, 0.0, -0.0, 1e-45, float("nan"), float("inf"), -float("inf")])
    x = torch.cat([kinds, torch.randn(40)]).repeat(6, 1).view(2, 3, 6, 8).to(dtype).contiguous(memory_format=layout)
    x.requires_grad_()
    upstream = torch.randn(2, 3, 6, 8).to(dtype)
    with relus_own_gradient():
        (got,) = torch.autograd.grad(SugarReLU("b_silu", form=form)(x), x, upstream)
    (wanted,) = torch.autograd.grad(F.relu(x), x, upstream)
    bits, wanted_bits = (gradient.contiguous().view(torch.uint8) for gradient in (got, wanted))
    assert torch.equal(bits, wanted_bits)
    assert (got.dtype, got.stride()) == (wanted.dtype, wanted.stride())


@pytest.mark.parametrize("form", FORMS)
def test_members_of_a_population_all_have_it(form: Form) -> None:
    x = torch.randn(3, 20, requires_grad=True)
    population = SugarReLU([surrogate(text) for text in ("b_silu", "b_silu", "0.5")], form=form)
    with relus_own_gradient():
        (got,) = torch.autograd.grad(population(x).sum(), x)
    assert torch.equal(got, (x > 0).float())


def test_it_holds_in_other_threads_as_cudas_backward_passes_need_and_ends_with_an_error() -> None:
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    seen: list[list[float]] = []

    def backward() -> None:
        seen.append(torch.autograd.grad(SugarReLU("0.5")(x).sum(), x)[0].tolist())

    def fail() -> None:
        with relus_own_gradient():
            with relus_own_gradient():
                backward()
            thread = threading.Thread(target=backward)
            thread.start()
            thread.join()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    backward()
    assert seen == [[0, 1], [0, 1], [0.5, 0.5]]


def test_it_cannot_be_differentiated_twice_either() -> None:
    x = torch.randn(5, requires_grad=True)
    with relus_own_gradient():
        (gradient,) = torch.autograd.grad(SugarReLU("b_silu")(x).square().sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
            torch.autograd.grad(gradient.sum(), x)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # the compiler's own
def test_compiled_code_keeps_its_g_and_is_not_compiled_again() -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    activation = torch.compile(SugarReLU("0.5", form="table"), fullgraph=True, backend=counter)
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    (before,) = torch.autograd.grad(activation(x).sum(), x)
    with relus_own_gradient():
        (within,) = torch.autograd.grad(activation(x).sum(), x)
    assert before.tolist() == within.tolist() == [0.5, 0.5]
    assert counter.frame_count == 1
    torch._dynamo.reset()

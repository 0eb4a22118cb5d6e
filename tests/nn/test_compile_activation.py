"""Under torch.compile: the gradient is g's, the graph is whole, and a table is swapped without compiling again."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from sugarsearch.nn.activation import Form, SugarReLU
from sugarsearch.nn.selftest import self_test
from sugarsearch.symbolic.library import surrogate
from sugarsearch.symbolic.surrogate import Surrogate

ASYMMETRIC = "0.3*atan(x) + 1 if x > 0 else 0.5*sigmoid(x) - cos(x)"

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # the compiler's own


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def network(activation: SugarReLU) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), activation, nn.Linear(8, 3))


def check(compiled: Callable[[Tensor], Tensor], net: nn.Sequential, g: Surrogate) -> None:
    """The first layer's bias gradient against float64 numpy."""
    first, _, last = net
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    x = torch.randn(16, 4) * 3
    before = first(x).detach().double().numpy()
    (got,) = torch.autograd.grad(compiled(x).sum(), first.bias)
    upstream = last.weight.detach().double().sum(0).numpy()
    np.testing.assert_allclose(got.numpy(), (g(before) * upstream).sum(0), atol=1e-4)


@pytest.mark.parametrize("form", ["closed", "table"])
def test_inductor_uses_g_in_one_graph(form: Form) -> None:
    net = network(SugarReLU(ASYMMETRIC, form=form))
    check(torch.compile(net, fullgraph=True), net, surrogate(ASYMMETRIC))


def test_another_table_does_not_compile_again() -> None:
    counter = CompileCounterWithBackend("aot_eager")
    activation = SugarReLU(ASYMMETRIC, form="table")
    net = network(activation)
    compiled = torch.compile(net, fullgraph=True, backend=counter)
    for text in (
        ASYMMETRIC,
        "relu",
        "b_silu",
        "b_silu(alpha=3)",
        "sigmoid(x)",
        "0.5",
        "tanh(x)",
        "sin(x)",
        "elu",
        "gelu",
    ):
        activation.set_surrogate(text)
        check(compiled, net, surrogate(text))
    assert counter.frame_count == 1


def test_a_population_compiles_and_swaps() -> None:
    counter = CompileCounterWithBackend("aot_eager")
    members = [surrogate("sigmoid(k*x)", k=1.0 + i) for i in range(3)]
    activation = SugarReLU(members)
    compiled = torch.compile(activation, fullgraph=True, backend=counter)
    x, grad = torch.randn(3, 20, requires_grad=True), torch.randn(3, 20)
    for group in (members, members[::-1]):
        activation.set_surrogate(group)
        (got,) = torch.autograd.grad(compiled(x), x, grad)
        wanted = [grad[i].numpy() * g(x[i].detach().numpy()) for i, g in enumerate(group)]
        np.testing.assert_allclose(got.numpy(), np.stack(wanted), atol=5e-6)
    assert counter.frame_count == 1


def test_double_backward_is_refused() -> None:
    compiled = torch.compile(network(SugarReLU("b_silu")), backend="aot_eager")
    x = torch.randn(5, 4, requires_grad=True)

    def second_derivative() -> Tensor:
        (gradient,) = torch.autograd.grad(compiled(x).sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.sum(), x)[0]

    with pytest.raises(RuntimeError, match=r"double backward|donated buffers"):
        second_derivative()


TRANSFORMS: dict[str, Callable[[nn.Module], Callable[[Tensor], Tensor]]] = {
    "grad": lambda activation: torch.func.grad(lambda x: activation(x).sum()),
    "vmap": lambda activation: torch.func.vmap(torch.func.grad(lambda x: activation(x).sum())),
    "vjp": lambda activation: lambda x: torch.func.vjp(activation, x)[1](torch.ones_like(x))[0],
    "jacrev": lambda activation: torch.func.jacrev(lambda x: activation(x).sum()),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_inside_compile_is_an_error_not_relus_gradient(name: str) -> None:
    transformed = TRANSFORMS[name](SugarReLU("b_silu"))
    with pytest.raises(Exception, match=r"transform|vmap"):
        torch.compile(transformed, backend="aot_eager")(torch.randn(5, 3))


@pytest.mark.parametrize("form", ["closed", "table"])
def test_the_self_test_passes_compiled_and_does_not_use_up_the_compile_limit(form: Form) -> None:
    for _ in range(12):
        self_test("compiled", "cpu", form)

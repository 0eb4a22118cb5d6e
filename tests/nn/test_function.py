import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from sugarsearch.nn.activation import Form, SugarReLU
from sugarsearch.nn.lowering import Lowered, lower
from sugarsearch.symbolic.library import LIBRARY, surrogate
from sugarsearch.symbolic.surrogate import Surrogate

FORMS: list[Form] = ["closed", "table"]
KINKED = {"relu", "leaky_relu", "prelu", "triangular", "fast_sigmoid", "nelu", "elu", "selu"}


class Smooth(torch.autograd.Function):
    """The non-SUGAR arm: the primitive forward, g backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, primitive: Lowered, g: Lowered) -> Tensor:
        ctx.save_for_backward(x)
        ctx.g = g
        return primitive(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return grad * ctx.g(x), None, None


def primitive_of(g: Surrogate) -> Lowered:
    assert g.primitive is not None
    used = {name: value for name, value in g.parameters if name in g.primitive.parameters}
    return lower(Surrogate.of(g.primitive, used))


def away_from_kinks() -> Tensor:
    return torch.tensor([-2.7, -1.3, -0.6, -0.2, 0.3, 0.7, 1.4, 2.6], dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_gradcheck_passes_on_the_primitive_and_fails_on_the_surrogate(name: str) -> None:
    g = surrogate(name)
    x = away_from_kinks()
    assert gradcheck(lambda v: Smooth.apply(v, primitive_of(g), lower(g)), x)
    if name == "relu":  # the one g that is the derivative of what is computed
        assert gradcheck(SugarReLU(g), x)
    else:
        assert not gradcheck(SugarReLU(g), x, raise_exception=False)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_gradient_is_the_primitives_by_autograd(name: str, form: Form) -> None:
    g = surrogate(name)
    x = away_from_kinks()
    (wanted,) = torch.autograd.grad(primitive_of(g)(x).sum(), x)
    (got,) = torch.autograd.grad(SugarReLU(g, form=form)(x).sum(), x)
    torch.testing.assert_close(got, wanted, atol=2e-5 if form == "table" else 1e-10, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_double_backward_is_refused(form: Form) -> None:
    x = torch.randn(5, requires_grad=True)
    net = nn.Sequential(nn.Linear(5, 5), SugarReLU("b_silu", form=form), nn.Linear(5, 1))
    (gradient,) = torch.autograd.grad(net(x), x, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        torch.autograd.grad(gradient.sum(), x)


@pytest.mark.parametrize("form", FORMS)
def test_transforms_of_torch_func_are_refused_not_silently_relu(form: Form) -> None:
    activation = SugarReLU("b_silu", form=form)
    for transform in (torch.func.vmap(activation), torch.func.grad(lambda x: activation(x).sum())):
        with pytest.raises(RuntimeError, match="setup_context"):
            transform(torch.randn(4, 3))


def small_net(form: Form) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), SugarReLU("sigmoid(3*x) - 0.2", form=form), nn.Linear(8, 3))


def parameter_gradients(net: nn.Module, output: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(output.square().sum(), list(net.parameters())))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing_changes_nothing(form: Form, use_reentrant: bool) -> None:
    net, x = small_net(form), torch.randn(6, 4, requires_grad=True)
    wanted = parameter_gradients(net, net(x))
    checkpoint(net, x, use_reentrant=use_reentrant).square().sum().backward()
    for parameter, gradient in zip(net.parameters(), wanted, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # torch.distributed's own, by version
@pytest.mark.parametrize("form", FORMS)
def test_distributed_data_parallel(form: Form, tmp_path: Path) -> None:
    net, x = small_net(form), torch.randn(6, 4)
    wanted = parameter_gradients(net, net(x))
    store = dist.FileStore(str(tmp_path / "store"), 1)  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=0, world_size=1, timeout=datetime.timedelta(seconds=20))
    try:
        parallel = DistributedDataParallel(net)
        parallel(x).square().sum().backward()
    finally:
        dist.destroy_process_group()
    for parameter, gradient in zip(net.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)

"""SugarReLU(lean=...): what it keeps, where it goes, and what is refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sugarsearch as ss
from sugarsearch.errors import UsageError
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.codes import BITS
from sugarsearch.symbolic.library import surrogate


def gradient(activation: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (result,) = torch.autograd.grad(activation(x).sum(), x)
    return result


@pytest.mark.parametrize("bits", BITS)
def test_its_gradient_is_within_the_stated_error(bits: int) -> None:
    activation = SugarReLU("b_silu", lean=bits)
    assert activation.book is not None
    x = torch.randn(64, 33)
    assert torch.equal(activation(x), torch.relu(x))
    error = np.abs(gradient(activation, x).numpy() - surrogate("b_silu")(x.numpy())).max()
    assert 1e-4 < error <= activation.book.max_error + 1e-6


@pytest.mark.parametrize(("bits", "share"), [(8, 1.0), (4, 0.5), (2, 0.25)])
def test_a_network_keeps_so_many_bytes_an_element(bits: int, share: float) -> None:
    def kept(activation: nn.Module) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), activation, nn.Conv2d(8, 4, 3, bias=False)
        )
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = network(torch.ones(4, 3, 18, 18))
        assert output.requires_grad
        return sum(sizes.values())

    elements, plain = 4 * 8 * 16 * 16, kept(nn.ReLU())
    assert kept(SugarReLU("b_silu", lean=bits)) - plain == pytest.approx(share * elements, abs=64)
    assert kept(SugarReLU("b_silu")) - plain == 4 * elements


def test_surgery_puts_it_in_and_takes_it_out() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    ss.apply(model, "nelu", lean=4)
    assert "lean=4" in repr(model[1])
    assert set(model.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    ss.remove(model)
    assert repr(model[1]) == "ReLU()"


def test_copies_another_g_and_devices() -> None:
    activation, x = SugarReLU("b_silu", lean=8), torch.randn(500)
    wanted = gradient(activation, x)
    for twin in (copy.deepcopy(activation), pickle.loads(pickle.dumps(activation))):
        twin.set_surrogate("sigmoid(3*x)")
        assert torch.equal(gradient(activation, x), wanted)
        np.testing.assert_allclose(gradient(twin, x).numpy(), surrogate("sigmoid(3*x)")(x.numpy()), atol=0.01)
    activation.to("meta")
    activation.to_empty(device="cpu")
    assert torch.equal(gradient(activation, x), wanted)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_code_has_the_exact_g() -> None:
    x = torch.randn(300)
    compiled = torch.compile(SugarReLU("b_silu", lean=2), backend="aot_eager", fullgraph=True)
    np.testing.assert_allclose(gradient(compiled, x).numpy(), surrogate("b_silu")(x.numpy()), atol=5e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {"surrogate": "relu", "lean": 3},
        {"surrogate": "relu", "lean": 4, "form": "table"},
        {"surrogate": [surrogate("relu")], "lean": 4},
    ],
)
def test_what_cannot_be_lean_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"lean=\d is not possible here; it is 8, 4, 2 bits or None"):
        SugarReLU(**arguments)

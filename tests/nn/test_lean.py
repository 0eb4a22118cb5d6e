import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.codes import BITS, Codebook, Layout, codebook, decode, encode
from sugarsearch.nn.function import relus_own_gradient
from sugarsearch.nn.lean import lean_relu
from sugarsearch.symbolic.library import LIBRARY, surrogate

SPECIAL = [0.0, -0.0, float("inf"), float("-inf"), 1e-30, -1e-30, 3.5, -3.5, float("nan")]


class Lean(nn.Module):
    def __init__(self, book: Codebook) -> None:
        super().__init__()
        self.book = book

    def forward(self, x: Tensor) -> Tensor:
        return lean_relu(x, self.book)


def book_of(name: str, bits: int) -> Codebook:
    return codebook(surrogate(name), bits)


def gradient(activation: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (result,) = torch.autograd.grad(activation(x), x, grad)
    return result


def saved_by(call: Callable[[], Tensor]) -> list[Tensor]:
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        call()
    return saved


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bits", BITS)
def test_output_is_relus_and_gradient_is_the_level_of_the_code(bits: int, dtype: torch.dtype) -> None:
    book = book_of("b_silu", bits)
    x = torch.cat([torch.tensor(SPECIAL), 2 * torch.randn(1000)]).to(dtype)
    grad = torch.randn_like(x)
    output = lean_relu(x.clone().requires_grad_(), book)
    assert torch.equal(output.view(torch.uint8), torch.relu(x).view(torch.uint8))
    got = gradient(partial(lean_relu, book=book), x, grad)
    assert got.dtype == dtype
    assert torch.equal(got, (decode(encode(x, book), book, Layout.of(x)) * grad).to(dtype))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_gradient_is_within_the_stated_error_of_the_exact_one(name: str, bits: int) -> None:
    book = book_of(name, bits)
    x = torch.cat([torch.tensor(SPECIAL[:-1]), torch.linspace(-6, 6, 10_001)])
    grad = torch.ones_like(x)
    exact = gradient(SugarReLU(surrogate(name)), x, grad)
    assert (gradient(partial(lean_relu, book=book), x, grad) - exact).abs().max() <= book.max_error + 2e-6


@pytest.mark.parametrize("bits", BITS)
def test_only_the_packed_codes_are_saved(bits: int) -> None:
    x = torch.randn(16, 33, requires_grad=True)
    saved = saved_by(lambda: lean_relu(x, book_of("b_silu", bits)))
    assert sum(tensor.untyped_storage().nbytes() for tensor in saved) == x.numel() * bits / 8


def test_nothing_is_saved_where_there_is_no_backward_pass() -> None:
    x, book = torch.randn(8), book_of("b_silu", 4)
    assert not saved_by(lambda: lean_relu(x, book))
    with torch.no_grad():
        assert not saved_by(lambda: lean_relu(x.requires_grad_(), book))


@pytest.mark.parametrize("bits", BITS)
def test_relus_own_derivative_is_exact(bits: int) -> None:
    x, grad = torch.cat([torch.tensor(SPECIAL[:-1]), torch.randn(999)]), torch.randn(1007)
    assert torch.equal(gradient(partial(lean_relu, book=book_of("relu", bits)), x, grad), gradient(F.relu, x, grad))


@pytest.mark.parametrize("bits", BITS)
def test_relus_own_gradient_comes_from_any_book(bits: int) -> None:
    x, grad = torch.cat([torch.tensor(SPECIAL[:-1]), torch.randn(999)]), torch.randn(1007)
    grad[3] = float("inf")
    for name in ("b_silu", "nelu", "straight_through"):
        with relus_own_gradient():
            got = gradient(partial(lean_relu, book=book_of(name, bits)), x, grad)
        assert torch.equal(got.view(torch.int32), gradient(F.relu, x, grad).view(torch.int32))


@pytest.mark.parametrize("bits", BITS)
def test_gradient_has_the_memory_format_of_x(bits: int) -> None:
    activation = partial(lean_relu, book=book_of("b_silu", bits))
    x, grad = torch.randn(3, 5, 7, 9), torch.randn(3, 5, 7, 9)
    plain = gradient(activation, x, grad)
    last = x.to(memory_format=torch.channels_last)
    for other in (grad, grad.to(memory_format=torch.channels_last)):
        got = gradient(activation, last, other)
        assert torch.equal(got, plain)
        assert got.stride() == gradient(F.relu, last, other).stride() == last.stride()
        assert torch.equal(gradient(activation, x[:, 1:4], other[:, 1:4]), plain[:, 1:4])
    assert torch.equal(gradient(activation, x, grad[:1].expand(3, 5, 7, 9))[0], plain[0])


@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (3, 7), (2**17 + 3,)])
@pytest.mark.parametrize("bits", BITS)
def test_any_shape(bits: int, shape: tuple[int, ...]) -> None:
    x, grad, book = torch.randn(shape), torch.randn(shape), book_of("gelu", bits)
    got = gradient(partial(lean_relu, book=book), x, grad)
    assert torch.equal(got, decode(encode(x, book), book, Layout.of(x)) * grad)


def test_double_backward_is_refused() -> None:
    x, activation = torch.randn(5, requires_grad=True), Lean(book_of("b_silu", 4))
    net = nn.Sequential(nn.Linear(5, 5), activation, nn.Linear(5, 1))
    for output in (net(x), activation(x), activation(2 * x)):
        (first,) = torch.autograd.grad(output.sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
            torch.autograd.grad(first.sum(), x)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script", "ignore:.*should not be instantiated:DeprecationWarning")
def test_transforms_of_torch_func_are_refused_not_silently_relu() -> None:
    activation = partial(lean_relu, book=book_of("b_silu", 4))
    x = torch.randn(4)
    for transform in (torch.func.vmap(activation), torch.func.grad(lambda x: activation(x).sum())):
        with pytest.raises(RuntimeError, match="setup_context"):
            transform(x)
    with pytest.raises(RuntimeError, match="jvp"), torch.autograd.forward_ad.dual_level():
        activation(torch.autograd.forward_ad.make_dual(x, x))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("bits", BITS)
def test_activation_checkpointing_and_copies_change_nothing(bits: int, use_reentrant: bool) -> None:
    net = nn.Sequential(nn.Linear(6, 9), Lean(book_of("b_silu", bits)), nn.Linear(9, 2))
    x = torch.randn(5, 6, requires_grad=True)
    parameters = list(net.parameters())
    wanted = torch.autograd.grad(net(x).square().sum(), parameters)
    for twin in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        twin.zero_grad()
        result: Any = checkpoint(twin, x, use_reentrant=use_reentrant)
        torch.autograd.backward(result.square().sum())
        for parameter, grad in zip(twin.parameters(), wanted, strict=True):
            assert parameter.grad is not None
            assert torch.equal(parameter.grad, grad)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script", "ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("bits", [8, 2])
def test_compiling_changes_nothing(bits: int) -> None:
    book = book_of("b_silu", bits)

    def twice(x: Tensor) -> Tensor:
        return lean_relu(2 * x, book)

    x, grad = torch.randn(3, 5, 7), torch.randn(3, 5, 7)
    torch.compiler.reset()
    compiled = torch.compile(twice, backend="aot_eager", fullgraph=True)
    assert torch.equal(gradient(compiled, x, grad), gradient(twice, x, grad))


def digits_loss(activation: Callable[[Tensor], Tensor], seed: int) -> tuple[float, float]:
    """Held-out loss and accuracy of a small MLP after 8 epochs."""
    digits = load_digits()
    inputs, targets = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    torch.manual_seed(seed)
    layers = nn.ModuleList([nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 10)])
    optimizer = torch.optim.Adam(layers.parameters(), lr=3e-3)

    def logits(x: Tensor) -> Tensor:
        for layer in layers[:-1]:
            x = activation(layer(x))
        result: Tensor = layers[-1](x)
        return result

    for _ in range(8):
        for batch in torch.randperm(1300).view(20, 65):
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(logits(inputs[batch]), targets[batch]))
            optimizer.step()
    with torch.no_grad():
        held_out = logits(inputs[1300:])
    accuracy = (held_out.argmax(1) == targets[1300:]).float().mean().item()
    return F.cross_entropy(held_out, targets[1300:]).item(), accuracy


@pytest.mark.parametrize("seed", [1, 2])
def test_training_ends_where_exact_training_does(seed: int) -> None:
    exact_loss, exact_accuracy = digits_loss(SugarReLU("b_silu"), seed)
    for bits, tolerance in ((8, 0.003), (4, 0.006)):
        loss, accuracy = digits_loss(partial(lean_relu, book=book_of("b_silu", bits)), seed)
        assert abs(loss - exact_loss) < tolerance
        assert abs(accuracy - exact_accuracy) < 0.01
    assert abs(digits_loss(torch.relu, seed)[0] - exact_loss) > 0.009  # what another g does


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("bits", BITS)
def test_on_a_cuda_device(bits: int) -> None:
    g, x = surrogate("b_silu"), torch.randn(3, 5, 7, 11, device="cuda").to(memory_format=torch.channels_last)
    book = codebook(g, bits).to("cuda")
    got = gradient(partial(lean_relu, book=book), x, torch.ones_like(x))
    assert got.stride() == x.stride()
    wanted = torch.from_numpy(g(x.cpu().numpy()))
    assert (got.cpu() - wanted).abs().max() <= book.max_error + 2e-6

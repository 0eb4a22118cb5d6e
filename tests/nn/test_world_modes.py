"""What trainers do with a network, with SUGAR in it: save, load, copy, compile, checkpoint, spread over processes."""

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torchvision.models.resnet import BasicBlock, ResNet

from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.surgery import apply, remove

G = "0.5 + sigmoid(x) if x > 0 else 0.2"


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(6, 8), nn.Linear(8, 4), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(F.relu(self.first(x))) + self.relu(x)[:, :4]
        return out


def resnet() -> nn.Module:
    model: nn.Module = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3)
    return model


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3))


NETWORKS: list[tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, Any]]] = [
    (resnet, (2, 3, 32, 32), {}),
    (Functional, (5, 6), {"trace": True}),
    (resnet, (2, 3, 32, 32), {"form": "table"}),
    (Functional, (5, 6), {"trace": True, "form": "table"}),
]
each_network = pytest.mark.parametrize(("make", "shape", "options"), NETWORKS)


def gradients(model: nn.Module, output: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(output.square().sum(), list(model.parameters())))


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@each_network
def test_checkpoints_pass_both_ways(make: Callable[[], nn.Module], shape: tuple[int, ...], options: Any) -> None:
    plain, sugar, x = make(), make(), torch.randn(shape)
    apply(sugar, G, **options)
    for source, target in ((plain, sugar), (sugar, plain)):
        for parameter in source.parameters():
            nn.init.normal_(parameter, std=0.1)
        file = io.BytesIO()
        torch.save(source.state_dict(), file)
        file.seek(0)
        target.load_state_dict(torch.load(file, weights_only=True), strict=True)
        assert torch.equal(source.eval()(x), target.eval()(x))
        assert torch.equal(source.train()(x), target.train()(x))
    assert not same(gradients(plain, plain(x)), gradients(sugar, sugar(x)))


@each_network
def test_copies_train_alike_and_apart(make: Callable[[], nn.Module], shape: tuple[int, ...], options: Any) -> None:
    model, x = make(), torch.randn(shape)
    apply(model, G, **options)
    wanted = gradients(model, model(x))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same(gradients(twin, twin(x)), wanted)
        apply(twin, "relu")
        assert not same(gradients(twin, twin(x)), wanted)
        remove(twin)
        assert not any(isinstance(module, SugarReLU) for module in twin.modules())
    assert same(gradients(model, model(x)), wanted)


@pytest.mark.parametrize("use_reentrant", [False, True])
@each_network
def test_activation_checkpointing(
    make: Callable[[], nn.Module], shape: tuple[int, ...], options: Any, use_reentrant: bool
) -> None:
    model, x = make(), torch.randn(shape).requires_grad_()
    apply(model, G, **options)
    model.eval()  # batch norm would count its batch twice
    wanted = gradients(model, model(x))
    checkpoint(model, x, use_reentrant=use_reentrant).square().sum().backward()
    assert same([parameter.grad for parameter in model.parameters() if parameter.grad is not None], wanted)


@pytest.mark.parametrize(
    ("make", "shape", "options"),
    [(small, (2, 3, 8, 8), {}), (small, (2, 3, 8, 8), {"form": "table"}), *NETWORKS[1::2]],
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # the compiler's own
def test_compiled_before_and_after_surgery(make: Callable[[], nn.Module], shape: tuple[int, ...], options: Any) -> None:
    """A network that was compiled and run as a ReLU network does not go on with ReLU's gradient."""
    torch._dynamo.reset()
    model, x = make().eval(), torch.randn(shape)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    plain = gradients(model, compiled(x))
    apply(model, G, **options)
    wanted = gradients(model, model(x))
    got = gradients(model, compiled(x))
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(got[0], plain[0], rtol=1e-2)
    remove(model)
    back = gradients(model, compiled(x))
    for one, other in zip(back, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()


WORKER = """
import datetime, sys
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
import sugarsearch as ss

rank, folder, g = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_num_threads(1)
store = dist.FileStore(folder + "/store", 2)
dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60))
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
model.load_state_dict(torch.load(folder + "/start.pt", weights_only=True))
ss.apply(model, g)
parallel = DistributedDataParallel(model)
x = torch.load(folder + "/x.pt", weights_only=True)[rank::2]
for _ in range(3):
    parallel.zero_grad()
    parallel(x).square().mean().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.5 * parameter.grad
torch.save({name: p.grad for name, p in model.named_parameters()}, f"{folder}/gradients{rank}.pt")
dist.destroy_process_group()
"""


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    def network() -> nn.Sequential:
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))

    start, x = network().state_dict(), torch.randn(12, 4)
    torch.save(start, tmp_path / "start.pt")
    torch.save(x, tmp_path / "x.pt")
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(rank), str(tmp_path), G], stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors.decode()
    results = []
    for g in (G, "relu"):
        model = network()
        model.load_state_dict(start)
        apply(model, g)
        for _ in range(3):
            model.zero_grad()
            model(x).square().mean().backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    assert parameter.grad is not None
                    parameter.sub_(0.5 * parameter.grad)
        results.append({name: parameter.grad for name, parameter in model.named_parameters()})
    wanted, other = results
    first, second = (torch.load(tmp_path / f"gradients{rank}.pt", weights_only=True) for rank in range(2))
    for name, gradient in wanted.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], gradient, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(first["0.bias"], other["0.bias"], rtol=1e-2)  # type: ignore[arg-type]

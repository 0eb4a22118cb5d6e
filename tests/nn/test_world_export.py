"""What `remove` leaves is a plain ReLU network for torch.export and ONNX: plain Relu nodes, identical outputs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, ResNet

from sugarsearch.nn.surgery import apply, remove

onnx: Any = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime: Any = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporters' own


class Residual(nn.Module):
    """A shared module, a functional ReLU, a functional GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.conv(x)))
        out: Tensor = self.relu(x + F.relu(self.conv(x))) + F.gelu(x - 0.5)
        return out


def resnet() -> nn.Module:
    model: nn.Module = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5)
    return model


def convnext() -> nn.Module:
    model: nn.Module = pytest.importorskip("timm").create_model("convnext_tiny", depths=(1, 1, 1, 1), dims=(8, 8, 8, 8))
    return model


class Bert(nn.Module):
    """An encoder of transformers on vectors, so that it takes what the others take."""

    def __init__(self) -> None:
        super().__init__()
        transformers: Any = pytest.importorskip("transformers")
        self.bert = transformers.BertModel(
            transformers.BertConfig(
                hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=9,
                max_position_embeddings=200, hidden_act="relu",
            )
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.bert(inputs_embeds=x.flatten(1, 2)).pooler_output
        return output


# model, options of apply, ReLUs that run
CASES: list[tuple[Callable[[], nn.Module], dict[str, Any], int]] = [
    (resnet, {}, 9),
    (Residual, {"trace": True}, 3),
    (Residual, {"trace": True, "replace": ("relu", "gelu")}, 4),
    (convnext, {"replace": ("gelu",)}, 4),
    (Bert, {}, 2),
]


@pytest.mark.parametrize(("make", "options", "relus"), CASES)
def test_exports_to_plain_relus(make: Callable[[], nn.Module], options: Any, relus: int, tmp_path: Path) -> None:
    model, x = make(), torch.randn(2, 3, 32, 32)
    apply(model, "b_silu", **options)
    model(x).square().sum().backward()  # trained, as it were
    model.eval()
    with torch.no_grad():
        wanted = model(x)
    remove(model)
    program = torch.export.export(model, (x,))
    targets = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert sum(target in ("aten.relu.default", "aten.relu_.default") for target in targets) == relus
    assert all(target.startswith(("aten.", "<built-in")) for target in targets)
    assert torch.equal(program.module()(x), wanted)
    path = tmp_path / "model.onnx"
    torch.onnx.export(model, (x,), path, dynamo=True, verbose=False, external_data=False)
    graph = onnx.load(path)
    assert sum(node.op_type == "Relu" for node in graph.graph.node) == relus
    assert {node.domain for node in graph.graph.node} == {""}
    assert not graph.functions
    session = onnxruntime.InferenceSession(path)
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-3, atol=1e-5)


def test_a_sugar_network_itself_is_exported_with_relus() -> None:
    """For inference the surrogate is gone without `remove` too."""
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.randn(2, 3)
    apply(model, "b_silu")
    program = torch.export.export(model.eval(), (x,)).run_decompositions()
    targets = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert targets == ["aten.permute.default", "aten.addmm.default", "aten.relu.default"]
    assert torch.equal(program.module()(x), model(x))

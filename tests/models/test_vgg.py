"""VGG-16's two heads."""

from __future__ import annotations

from torch import nn

from sugarsearch.config.schema import ModelConfig
from sugarsearch.models.build import build


def layers(head: str) -> list[str]:
    """The types of the layers after the last convolution's site, in order."""
    network = build(ModelConfig(name="vgg16", options={"head": head}), (3, 32, 32), 10, nn.ReLU)
    types = [type(layer).__name__ for layer in network.children()]
    return types[types.index("AdaptiveAvgPool2d") :]


def test_the_heads_layers() -> None:
    hidden = ["Linear", "ReLU", "Dropout"]
    assert layers("linear") == ["AdaptiveAvgPool2d", "Flatten", "Linear"]
    assert layers("classic") == ["AdaptiveAvgPool2d", "Flatten", *hidden, *hidden, "Linear"]


def test_the_classic_head_drops_one_half() -> None:
    network = build(ModelConfig(name="vgg16", options={"head": "classic"}), (3, 32, 32), 10, nn.ReLU)
    assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.5, 0.5]

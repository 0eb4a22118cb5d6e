"""Conv2NeXt: ConvNeXt's blocks with 3x3 convolutions and batch norm, and attention where the resolution stays."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.convnext import LayerNorm2d
from torchvision.ops import StochasticDepth

from sugarsearch.models.resnet import Activation, image_channels

DROP_RATE = 0.1
"""The last block's rate of stochastic depth; it rises linearly from the first block's 0."""
LAYER_SCALE = 1e-6
EPSILON = 1e-6


class Block(nn.Module):
    """A depth-wise convolution, two linear layers over the channels around a site, a depth-wise convolution.

    The linear layers' part is scaled by channel and added to what they were given; the whole is added to the
    input, or dropped.

    Args:
        channels: of input and output.
        drop: probability that an image of a batch in training skips the block.
        activation: makes the one site.
    """

    def __init__(self, channels: int, drop: float, activation: Activation) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.expand = nn.Linear(channels, 4 * channels)
        self.activation = activation()
        self.project = nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), LAYER_SCALE))
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.drop = StochasticDepth(drop, "row")

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x))
        # Of a channels_last tensor this is a view, on which a linear layer is one matrix product.
        z = self.project(self.activation(self.expand(y.permute(0, 2, 3, 1))))
        y = y + (self.scale * z).permute(0, 3, 1, 2)
        result: Tensor = x + self.drop(self.bn2(self.conv2(y)))
        return result


class CoordinateAttention(nn.Module):
    """Scales each value by a weight of its channel and row and one of its channel and column.

    The weights are computed from the means of rows and columns, through max(8, channels / 2) units.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        units = max(8, channels // 2)
        self.squeeze = nn.Sequential(nn.Conv2d(channels, units, 1), nn.BatchNorm2d(units), nn.Hardswish())
        self.rows = nn.Conv2d(units, channels, 1)
        self.columns = nn.Conv2d(units, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        means = torch.cat((x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)), 2)  # [B, C, H + W, 1]
        by_row, by_column = self.squeeze(means).split([height, width], 2)
        result: Tensor = x * self.rows(by_row).sigmoid() * self.columns(by_column.transpose(2, 3)).sigmoid()
        return result


class MixedAttention(nn.Module):
    """Coordinate attention for half of the channels, spatial attention for the other half, added to the input.

    The channels are then shuffled: of each two neighbours one goes to either half.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.coordinate = CoordinateAttention(channels // 2)
        self.spatial = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        summary = torch.cat((b.amax(1, keepdim=True), b.mean(1, keepdim=True)), 1)
        y = torch.cat((self.coordinate(a), b * self.spatial(summary).sigmoid()), 1) + x
        # A shuffle of channels / 2 groups of two; only the CPU kernel of F.channel_shuffle keeps channels_last.
        return torch.cat((y[:, ::2], y[:, 1::2]), 1)


class Conv2NeXt(nn.Module):
    """1x1 stem; four stages of blocks; mean over space, layer norm, linear head.

    Between two stages of equal width stands a mixed attention, between others a convolution that halves the
    resolution. The published size (7.36, 7.38 and 7.41 M parameters for 10, 100 and 200 classes) decides that the
    attention squeezes to half, that the halving convolution is 2x2 and that depth-wise convolutions have biases. The
    other biases and the layer norms' affine parameters are too few to show in it; they are there, as torch has them.

    Args:
        channels: of the images.
        classes: number of logits.
        depths: blocks of each stage.
        widths: channels of each stage, even numbers.
        activation: makes the site of one block; called once for each.
    """

    def __init__(
        self, channels: int, classes: int, depths: Sequence[int], widths: Sequence[int], activation: Activation
    ) -> None:
        super().__init__()
        rates = iter(np.linspace(0, DROP_RATE, sum(depths)).tolist())
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 1), LayerNorm2d(widths[0], eps=EPSILON)]
        for depth, (before, width) in zip(depths, itertools.pairwise([0, *widths]), strict=True):
            if before:
                layers += _transition(before, width)
            layers += [Block(width, next(rates), activation) for _ in range(depth)]
        self.features = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(widths[-1], eps=EPSILON)
        self.head = nn.Linear(widths[-1], classes)
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W]."""
        logits: Tensor = self.head(self.norm(self.features(images).mean((2, 3))))
        return logits


def _transition(inputs: int, outputs: int) -> list[nn.Module]:
    if inputs == outputs:
        return [LayerNorm2d(inputs, eps=EPSILON), MixedAttention(inputs)]
    return [nn.Conv2d(inputs, outputs, 2, stride=2), LayerNorm2d(outputs, eps=EPSILON)]


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            assert module.bias is not None
            nn.init.zeros_(module.bias)


def conv2next(shape: tuple[int, ...], classes: int, activation: Activation) -> Conv2NeXt:
    """Conv2NeXt-base: stages of 3, 3, 9 and 3 blocks, width 128, 128, 256 and 256; 18 sites."""
    return Conv2NeXt(image_channels("conv2next", shape, 8), classes, (3, 3, 9, 3), (128, 128, 256, 256), activation)

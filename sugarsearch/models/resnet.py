"""Residual networks of He et al. (2016), basic blocks, projection shortcuts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from sugarsearch.errors import UsageError

Activation = Callable[[], nn.Module]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to the input (or its 1x1 projection); two activations."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: Activation) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.activation1 = activation()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.activation2 = activation()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        result: Tensor = self.activation2(y + self.shortcut(x))
        return result


class ResNet(nn.Module):
    """Stem, stages of basic blocks (each after the first halves the resolution), mean over space, linear head."""

    def __init__(
        self, channels: int, classes: int, widths: Sequence[int], blocks: int, stem: str, activation: Activation
    ) -> None:
        super().__init__()
        self.stem = _stem(channels, widths[0], stem, activation)
        layers: list[nn.Module] = []
        inputs = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(BasicBlock(inputs, width, stride, activation))
                inputs = width
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W]."""
        features = self.blocks(self.stem(images))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


def _stem(channels: int, width: int, stem: str, activation: Activation) -> nn.Sequential:
    if stem == "cifar":
        conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(width), activation())
    conv = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), activation(), nn.MaxPool2d(3, stride=2, padding=1))


def initialise(network: nn.Module) -> None:
    """He-normal convolutions scaled by their outputs (fan out), zero biases, as torchvision's ResNet and VGG."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def image_channels(model: str, shape: tuple[int, ...], smallest: int) -> int:
    """Channels of images [C, H, W]; UsageError for other inputs, or smaller ones than the model can halve."""
    if len(shape) != 3 or min(shape[1:]) < smallest:
        raise UsageError(
            f"model {model} needs images [C, H, W] of at least {smallest}x{smallest}; these inputs have shape "
            f"{list(shape)}. Use another model, such as deep_narrow_mlp, or other data."
        )
    return shape[0]


def resnet8(shape: tuple[int, ...], classes: int, activation: Activation) -> nn.Module:
    """One block in each of three stages of width 16, 32, 64; 7 sites."""
    return ResNet(image_channels("resnet8", shape, 8), classes, (16, 32, 64), 1, "cifar", activation)


def resnet20(shape: tuple[int, ...], classes: int, activation: Activation) -> nn.Module:
    """Three blocks in each of three stages of width 16, 32, 64; 19 sites."""
    return ResNet(image_channels("resnet20", shape, 8), classes, (16, 32, 64), 3, "cifar", activation)


def resnet18(shape: tuple[int, ...], classes: int, activation: Activation, *, stem: str) -> nn.Module:
    """Two blocks in each of four stages of width 64 to 512; 17 sites."""
    smallest = 8 if stem == "cifar" else 32
    return ResNet(image_channels("resnet18", shape, smallest), classes, (64, 128, 256, 512), 2, stem, activation)

"""VGG-16 of Simonyan and Zisserman (2015), configuration D, for small images."""

from __future__ import annotations

from torch import nn

from sugarsearch.models.resnet import Activation, image_channels, initialise

CLASSIC_WIDTH = 4096
# Output channels of the convolutions; 0 is a 2x2 max pooling.
CONFIGURATION_D = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)


def vgg16(shape: tuple[int, ...], classes: int, activation: Activation, *, batch_norm: bool, head: str) -> nn.Module:
    """13 convolutions, each with a site; mean over what space is left (1x1 at 32x32); the head.

    The linear head is one layer. The classic one has two layers of 4096 units before it, each with a site and a
    dropout of one half: 15 sites in all.
    """
    layers: list[nn.Module] = []
    inputs = image_channels("vgg16", shape, 32)
    for outputs in CONFIGURATION_D:
        if outputs == 0:
            layers.append(nn.MaxPool2d(2))
            continue
        layers.append(nn.Conv2d(inputs, outputs, 3, padding=1, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(outputs))
        layers.append(activation())
        inputs = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if head == "classic":
        for _ in range(2):
            layers += [nn.Linear(inputs, CLASSIC_WIDTH), activation(), nn.Dropout(0.5)]
            inputs = CLASSIC_WIDTH
    network = nn.Sequential(*layers, nn.Linear(inputs, classes))
    initialise(network)
    return network

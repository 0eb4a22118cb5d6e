"""A small convolutional network for studies that have to run on a CPU."""

from __future__ import annotations

from torch import nn

from sugarsearch.models.resnet import Activation, image_channels, initialise

# (channels, stride): the first three halve the resolution at once, because on a CPU an epoch's time goes
# into moving large maps through batch norm and activation rather than into multiplying.
LAYERS = ((16, 2), (32, 2), (48, 2), (64, 1))


def small_conv(shape: tuple[int, ...], classes: int, activation: Activation) -> nn.Module:
    """Four 3x3 convolutions, each with batch norm and a site; mean over space; one linear layer."""
    layers: list[nn.Module] = []
    inputs = image_channels("small_conv", shape, 8)
    for outputs, stride in LAYERS:
        layers += [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), activation()]
        inputs = outputs
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))
    initialise(network)
    return network

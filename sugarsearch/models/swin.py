"""Swin Transformer of Liu et al. (2021), as torchvision builds it, with the sites of its MLPs injected."""

from __future__ import annotations

from torch import nn
from torchvision.models.swin_transformer import SwinTransformer

from sugarsearch.models.resnet import Activation, image_channels

PATCH = 4
WIDTH = 96


def swin_t(shape: tuple[int, ...], classes: int, activation: Activation) -> nn.Module:
    """Swin-T: 2, 2, 6 and 2 blocks with windows of 7x7 patches; 12 sites, in the place of the blocks' GELUs."""
    channels = image_channels("swin_t", shape, PATCH)
    network: nn.Module = SwinTransformer(
        patch_size=[PATCH, PATCH],
        embed_dim=WIDTH,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=[7, 7],
        stochastic_depth_prob=0.2,
        num_classes=classes,
    )
    if channels != 3:  # torchvision's takes colour images only
        network.set_submodule("features.0.0", nn.Conv2d(channels, WIDTH, PATCH, stride=PATCH))
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.GELU):
                setattr(parent, name, activation())
    return network

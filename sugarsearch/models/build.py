"""Builds a network from its configuration."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from sugarsearch.config.objects import is_object_name, load_object
from sugarsearch.config.schema import ModelConfig
from sugarsearch.errors import UsageError
from sugarsearch.models.catalog import MODELS, check_model
from sugarsearch.models.resnet import Activation


def build(config: ModelConfig, shape: tuple[int, ...], classes: int, activation: Activation) -> nn.Module:
    """A network with fresh weights, drawn from torch's seed alone.

    Args:
        config: a name of the catalogue, or `package.module:factory`, called as factory(**options), whose
            network is returned as it is, its activations not replaced.
        shape: of one input, without the batch.
        classes: number of logits.
        activation: makes the module of one site; called once for each.

    Raises:
        UnknownNameError, UsageError: the model, an option or the inputs' shape is not allowed.
    """
    if is_object_name(config.name):
        return call_factory(config)
    check_model(config.name, config.options)
    entry = MODELS[config.name]
    options = {name: option.default for name, option in entry.options.items()} | config.options
    network: nn.Module = load_object(entry.target)(shape, classes, activation, **options)
    return network


def call_factory(config: ModelConfig) -> nn.Module:
    """What a user's `package.module:factory` makes of its options."""
    factory = load_object(config.name)
    try:
        network = factory(**config.options)
    except TypeError as error:
        raise UsageError(f"model {config.name} could not be called with options {config.options}: {error}.") from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"model {config.name} gave a {type(network).__name__}; it must give a torch.nn.Module.")
    return network


def build_population(
    config: ModelConfig, shape: tuple[int, ...], classes: int, seeds: Sequence[int], activation: Activation
) -> nn.Module:
    """One network of len(seeds) members; member i starts as `build` gives it under torch.manual_seed(seeds[i]).

    Raises:
        UsageError: the model has no population form.
    """
    check_model(config.name, config.options)
    entry = MODELS.get(config.name)
    if entry is None or entry.stack is None:
        capable = ", ".join(name for name, entry in MODELS.items() if entry.population)
        raise UsageError(f"model {config.name} cannot train as a population; models that can: {capable}.")
    by_seed = {seed: build_seeded(config, shape, classes, seed, nn.ReLU) for seed in seeds}
    network: nn.Module = load_object(entry.stack)([by_seed[seed] for seed in seeds], activation)
    return network


def build_seeded(
    config: ModelConfig, shape: tuple[int, ...], classes: int, seed: int, activation: Activation
) -> nn.Module:
    """`build` under torch's seed `seed`, leaving the caller's random state untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build(config, shape, classes, activation)

"""The table of models, free of torch: what there is, with which options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from sugarsearch.config.fields import OptionValue
from sugarsearch.config.objects import is_object_name
from sugarsearch.errors import UnknownNameError, UsageError


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a model: its default, which also fixes its type, and what is allowed."""

    default: OptionValue
    choices: tuple[OptionValue, ...] = ()
    minimum: int = 1

    def check(self, owner: str, value: OptionValue) -> None:
        """Raise UsageError unless `value` is of the default's type and allowed."""
        if self.choices:
            if type(value) is not type(self.default) or value not in self.choices:
                raise UsageError(f"{owner} is {value!r}; allowed: {', '.join(map(repr, self.choices))}.")
        elif type(value) is not int or value < self.minimum:
            raise UsageError(f"{owner} is {value!r}; it must be a whole number of at least {self.minimum}.")


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model.

    Attributes:
        target: `module:function`, called as function(shape, classes, activation, **options).
        description: one line.
        options: its options by name.
        stack: `module:function` that stacks members into one population network, or None.
    """

    target: str
    description: str
    options: Mapping[str, Option] = field(default_factory=dict)
    stack: str | None = None

    @property
    def population(self) -> bool:
        """Whether many members can train as one computation."""
        return self.stack is not None


MODELS: Mapping[str, ModelEntry] = MappingProxyType(
    {
        "deep_narrow_mlp": ModelEntry(
            "sugarsearch.models.mlp:deep_narrow_mlp",
            "fully connected, He-normal weights and zero biases, no normalisation; trains as a population",
            {"depth": Option(16), "width": Option(12)},
            stack="sugarsearch.models.mlp:stack",
        ),
        "small_conv": ModelEntry(
            "sugarsearch.models.convnet:small_conv",
            "four convolutions with batch norm, about 1 MMAC at 32x32; for studies on a CPU",
        ),
        "resnet8": ModelEntry("sugarsearch.models.resnet:resnet8", "ResNet-8 for 32x32 images, 0.08 M parameters"),
        "resnet20": ModelEntry("sugarsearch.models.resnet:resnet20", "ResNet-20 for 32x32 images, 0.27 M parameters"),
        "resnet18": ModelEntry(
            "sugarsearch.models.resnet:resnet18",
            "ResNet-18, 11.2 M parameters; the cifar stem keeps the resolution, the imagenet stem quarters it",
            {"stem": Option("cifar", choices=("cifar", "imagenet"))},
        ),
        "vgg16": ModelEntry(
            "sugarsearch.models.vgg:vgg16",
            "VGG-16, 14.7 M parameters with one linear layer as its head, 33.6 M with the classic head of three "
            "linear layers and dropout; images of at least 32x32",
            {
                "batch_norm": Option(True, choices=(True, False)),
                "head": Option("linear", choices=("linear", "classic")),
            },
        ),
        "conv2next": ModelEntry(
            "sugarsearch.models.conv2next:conv2next",
            "Conv2NeXt-base, 7.4 M parameters, 2.5 GMAC at 32x32; images of at least 8x8",
        ),
        "swin_t": ModelEntry(
            "sugarsearch.models.swin:swin_t",
            "Swin-T, 27.7 M parameters at 200 classes, 4.5 GMAC at 224x224; images of at least 4x4",
        ),
    }
)


def check_model(name: str, options: Mapping[str, OptionValue]) -> None:
    """Check a model's name and options; those of `package.module:factory` are known to the factory alone.

    Raises:
        UnknownNameError: no such model, or no such option of it.
        UsageError: an option's value is not allowed.
    """
    if is_object_name(name):
        return
    entry = MODELS.get(name)
    if entry is None:
        raise UnknownNameError("model", name, MODELS)
    for option, value in options.items():
        if option not in entry.options:
            raise UnknownNameError(f"option of model {name}", option, entry.options)
        entry.options[option].check(f"option {option} of model {name}", value)

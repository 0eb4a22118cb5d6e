"""The network of a run: one network, eager or compiled, or a population of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sugarsearch.config.arm import TrainingArm
from sugarsearch.config.objects import is_object_name
from sugarsearch.config.schema import ModelConfig
from sugarsearch.errors import UsageError
from sugarsearch.models.build import build_population, build_seeded, call_factory
from sugarsearch.nn.activation import Form, SugarReLU
from sugarsearch.nn.primitive import Primitive, primitive_of
from sugarsearch.nn.surgery import apply
from sugarsearch.symbolic.surrogate import Surrogate

Mode = Literal["eager", "compiled", "population"]
ModelFactory = Callable[[], nn.Module]


@dataclass(frozen=True)
class Member:
    """One training run among the members of a TrainingRun.

    Attributes:
        surrogate: the g to train with.
        seed: of weights and batches.
        arm: what the network computes forward: ReLU, or the surrogate's primitive.
    """

    surrogate: Surrogate
    seed: int
    arm: TrainingArm = "sugar"


class Network:
    """The network of one member, or of all members stacked, on its device.

    Attributes:
        module: the network; if stacked, its parameters are [members, ...].
        stacked: whether it is a population.
    """

    def __init__(self, module: nn.Module, device: torch.device, mode: Mode) -> None:
        self.stacked = mode == "population"
        self._channels_last = any(isinstance(part, nn.Conv2d) for part in module.modules())
        self.module = module.to(device)
        if self._channels_last:
            self.module = module.to(memory_format=torch.channels_last)
        # Shapes are fixed, and every network of one architecture is served by the code compiled first: the
        # parameters and the table of g are inputs of that code.
        self._fast = torch.compile(module, dynamic=False) if mode == "compiled" else module

    def logits(self, inputs: Tensor, *, whole_batch: bool) -> Tensor:
        """Logits [B, classes], or [members, B, classes] if stacked.

        whole_batch: the batch has the recipe's size. Other batches (an epoch's last, scoring) are not worth
        compiling for, 7 s or more for each new shape, and run eagerly.
        """
        if self._channels_last and inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        logits: Tensor = (self._fast if whole_batch else self.module)(inputs)
        return logits

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of each member, [members]; labels: [B], or [members, B]."""
        if not self.stacked:
            return F.cross_entropy(logits, labels).unsqueeze(0)
        labels = labels.expand(logits.shape[:2])
        # Classes lie in the middle in memory too, so this transposition costs nothing.
        return F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(1)

    def correct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """How many labels [B] each member's logits meet, int64 [members]."""
        return (logits.argmax(-1) == labels).sum(-1).view(-1)

    def keep(self, indices: Tensor) -> None:
        """Cut a population's activations down to the members at `indices`; the optimiser cuts the parameters."""
        # One module may serve many sites; modules() names it once.
        for part in self.module.modules():
            if isinstance(part, SugarReLU):
                part.select(indices)

    def state(self, position: int) -> dict[str, Tensor]:
        """The state_dict of the member at `position`, as a plain network's, copied to the CPU."""
        state = self.module.state_dict()
        rows = {name: value[position] for name, value in state.items()} if self.stacked else state
        return {name: value.detach().cpu().clone() for name, value in rows.items()}


MEMBERS_PER_CLOSED_FORM = 8
"""Members that must on average share a g for closed forms to be faster than one table for all.

On a CPU, 16 layers of width 12, batch 64: 48 members take 6.1 against 8.2 ms a step if 16 share each g, and are
even at 6.
"""


@contextmanager
def fastest_convolutions() -> Iterator[None]:
    """Have cuDNN try its algorithms on each new shape; shapes are few here."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def population_form(surrogates: Sequence[Surrogate], device: torch.device) -> Form:
    """How a population with these g's computes them; a table costs the same for however many different ones.

    On CUDA it is one kernel for all, whose table a captured step reads where it lies.
    """
    if device.type == "cuda":
        return "table"
    return "closed" if len(surrogates) >= MEMBERS_PER_CLOSED_FORM * len(set(surrogates)) else "table"


def make_network(
    members: Sequence[Member],
    model: ModelConfig | ModelFactory,
    shape: tuple[int, ...],
    classes: int,
    device: torch.device,
    mode: Mode,
    *,
    closed: bool = False,
) -> Network:
    """A network with fresh weights, drawn from the members' seeds alone, and the members' surrogates in it.

    A user's own network, by name or factory, gets them by surgery. Members with equal surrogates should be neighbours.
    In the arm non_sugar the activations are the surrogates' primitives.

    closed: compile g's formula in mode compiled; otherwise its table, for which another g needs no compilation.

    Raises:
        UsageError: see `check_arm`.
    """
    for member in members:
        check_arm(member, model, mode)
    surrogates = [member.surrogate for member in members]
    if mode == "population":
        assert isinstance(model, ModelConfig)
        # One module for all sites: the tables are made once and stay in the processor's cache.
        shared = SugarReLU(surrogates, form=population_form(surrogates, device))
        module = build_population(model, shape, classes, [member.seed for member in members], lambda: shared)
        return Network(module, device, mode)
    form: Form = "closed" if mode == "eager" or closed else "table"
    if isinstance(model, ModelConfig) and not is_object_name(model.name):
        site = Primitive(surrogates[0]) if members[0].arm == "non_sugar" else SugarReLU(surrogates[0], form=form)
        module = build_seeded(model, shape, classes, members[0].seed, lambda: site)
    else:
        module = _operated(model, members[0], form)
    return Network(module, device, mode)


def check_arm(member: Member, model: ModelConfig | ModelFactory, mode: Mode) -> None:
    """Refuse what cannot be trained in the member's arm; that of SUGAR refuses nothing.

    Raises:
        UsageError: the arm non_sugar without a primitive, of a user's own network, or in another mode than eager.
    """
    if member.arm == "sugar":
        return
    primitive_of(member.surrogate)
    if not isinstance(model, ModelConfig) or is_object_name(model.name):
        name = model.name if isinstance(model, ModelConfig) else "what a model factory makes"
        raise UsageError(
            f"arm 'non_sugar' trains models of the catalogue alone; given {name}, a network of your own. Use a model "
            "of the catalogue."
        )
    if mode != "eager":
        raise UsageError(f"arm 'non_sugar' is trained in mode 'eager' alone; given mode {mode!r}. Use mode 'eager'.")


def _operated(model: ModelConfig | ModelFactory, member: Member, form: Form) -> nn.Module:
    """A user's network, made under the member's seed, its activations replaced."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(member.seed)
        module = call_factory(model) if isinstance(model, ModelConfig) else model()
    apply(module, member.surrogate, form=form)
    return module

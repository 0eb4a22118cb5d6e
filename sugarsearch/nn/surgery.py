"""Puts SugarReLU into a model in place of its activations, and plain ReLU back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from sugarsearch.errors import SurgeryError
from sugarsearch.nn.activation import Form, SugarReLU
from sugarsearch.nn.kinds import Replaced, check_replace
from sugarsearch.nn.sites import Place, call_places, module_places, node_places, other_modules
from sugarsearch.nn.tracing import restore
from sugarsearch.symbolic.library import surrogate as named_surrogate
from sugarsearch.symbolic.surrogate import Surrogate


@dataclass(frozen=True)
class Site:
    """A replaced activation.

    paths: every name under which the model holds it; old: the type it had; new: the text of g; forward_changed: whether
    the model now computes something else, because the old activation was no ReLU.
    """

    paths: tuple[str, ...]
    old: str
    new: str
    forward_changed: bool

    def __str__(self) -> str:
        names = " = ".join(self.paths)
        return f"{names}: {self.old} -> SugarReLU, {self.new}{' (forward changed)' if self.forward_changed else ''}"


@dataclass(frozen=True)
class Report:
    """What `apply` did. left: the activations known to it that it left as they were."""

    sites: tuple[Site, ...]
    left: tuple[str, ...] = ()

    def __str__(self) -> str:
        changed = sum(site.forward_changed for site in self.sites)
        head = f"{len(self.sites)} activation(s) replaced"
        if changed:
            head += f"; at {changed} of them the old one was no ReLU, so the model's outputs change"
        kept = [f"left as it is: {one}" for one in self.left]
        return "\n".join([f"{head}:", *(f"  {line}" for line in [*map(str, self.sites), *kept])])


def apply(
    model: nn.Module,
    surrogate: Surrogate | str | Mapping[str, Surrogate | str],
    *,
    replace: Sequence[Replaced] = ("relu",),
    trace: bool = False,
    form: Form = "closed",
    lean: int | None = None,
    leave_functional: bool = False,
) -> Report:
    """Replaces the ReLUs of `model` in place, and says which, and which other activations it left.

    Modules are replaced (a module used at several places stays one), attributes that hold a function, and functional
    calls in a graph of torch.fx. A refused model is left as it was.

    Args:
        model: any module that is not itself an activation.
        surrogate: g for every site; or a g for each pattern of paths ("layer1.*", fnmatch), of which the first that
            matches is taken; sites that match none stay as they are.
        replace: what is replaced, by name ("relu", "gelu", "silu", ...: `kinds.KINDS`, with the modules of torch, timm
            and transformers) or by class. What is not ReLU becomes a ReLU in the forward pass: the model's outputs
            change, and the report says where.
        trace: replace functional calls (F.relu(x), x.relu()) too: the forward of each module that makes one is traced
            by torch.fx, on its own, and calls a SugarReLU there. Branches that its Python code took and numbers that it
            took from attributes stay as they were then. A forward that torch.fx cannot follow, that training changes,
            or that does not reach all calls in the source is refused.
        form, lean: as in SugarReLU.
        leave_functional: leave functional calls that cannot be replaced as they are instead of refusing the model.

    Raises:
        SurgeryError: nothing to replace, a pattern that matches nothing, functional calls (named), or calls that
            cannot be traced.
    """
    check_replace(replace)
    patterns = surrogate if isinstance(surrogate, Mapping) else {"*": surrogate}
    chosen = {pattern: named_surrogate(g) if isinstance(g, str) else g for pattern, g in patterns.items()}
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise SurgeryError("a model of torch.jit cannot be changed; give the model from which it was made.")
    calls, left_calls = call_places(model, replace, trace_calls=trace, leave=leave_functional)
    places = {place.paths[0]: place for place in (*module_places(model, replace), *node_places(model, replace), *calls)}
    left = (*other_modules(model, replace), *left_calls)
    plan = _plan(tuple(places), chosen, replace, left)
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    return Report(
        tuple(_put(places[path], SugarReLU(g, form=form, lean=lean).to(device)) for path, g in plan.items()), left
    )


def remove(model: nn.Module) -> None:
    """Turns every SugarReLU of `model` into nn.ReLU, in place; the outputs stay the same.

    A module whose functional ReLUs were traced has its own class and functions again; where other activations were
    functional, their ReLUs stay modules. Either way torch.export and torch.onnx find plain ReLUs.

    Raises:
        SurgeryError: there is none.
    """
    traced = [module for module in model.modules() if restore(module)]
    found = list(module_places(model, (SugarReLU,)))
    if not found and not traced:
        raise SurgeryError("the model has no SugarReLU to remove.")
    for place in found:
        place.put(nn.ReLU())


def _put(place: Place, new: SugarReLU) -> Site:
    place.put(new)
    return Site(place.paths, place.old, f"g(x) = {new.surrogate.formula}", not place.is_relu)


def _plan(
    paths: tuple[str, ...], chosen: Mapping[str, Surrogate], replace: Sequence[Replaced], left: tuple[str, ...]
) -> dict[str, Surrogate]:
    """The g of each path that a pattern matches; refuses when a pattern has nothing to do."""
    matches = {path: next((p for p in chosen if fnmatchcase(path, p)), None) for path in paths}
    idle = [pattern for pattern in chosen if pattern not in matches.values()]
    if not paths:
        wanted = ", ".join(one if isinstance(one, str) else one.__name__ for one in replace)
        others = "".join(f"\n  the model has {one}" for one in left)
        raise SurgeryError(f"no activation was found; looked for: {wanted}.{others}")
    if idle:
        raise SurgeryError(
            f"no activation is left for {', '.join(map(repr, idle))}; the model has: {', '.join(paths)}."
        )
    return {path: chosen[pattern] for path, pattern in matches.items() if pattern is not None}

"""Puts SugarReLU into a model in place of its activations, and plain ReLU back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import fx, nn

from sugarsearch.errors import SurgeryError
from sugarsearch.nn.activation import Form, SugarReLU
from sugarsearch.nn.functional_calls import FUNCTIONAL, functional_calls
from sugarsearch.symbolic.library import surrogate as named_surrogate
from sugarsearch.symbolic.surrogate import Surrogate

REPLACED: tuple[type[nn.Module], ...] = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Hardswish,
    SugarReLU,
)
"""The activations that are replaced. Gates (Sigmoid, Hardsigmoid, Tanh) are not; nor those with weights (PReLU)."""


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
    """What `apply` did. left: functional activations that were left as they were, by the caller's wish."""

    sites: tuple[Site, ...]
    left: tuple[str, ...] = ()

    def __str__(self) -> str:
        changed = sum(site.forward_changed for site in self.sites)
        head = f"{len(self.sites)} activation(s) replaced"
        if changed:
            head += f"; at {changed} of them the old one was no ReLU, so the model's outputs change"
        kept = [f"left as it is: {call}" for call in self.left]
        return "\n".join([f"{head}:", *(f"  {line}" for line in [*map(str, self.sites), *kept])])


def apply(
    model: nn.Module,
    surrogate: Surrogate | str | Mapping[str, Surrogate | str],
    *,
    form: Form = "closed",
    leave_functional: bool = False,
) -> Report:
    """Replaces the activations of `model` in place, and says which.

    A module used at several places stays one module. What was no ReLU (GELU, SiLU, Hardswish, ...) becomes a ReLU in
    the forward pass. In a model made by torch.fx.symbolic_trace functional calls are replaced too. A refused model is
    left as it was.

    Args:
        model: any module that is not itself an activation.
        surrogate: g for every site; or a g for each pattern of paths ("layer1.*", fnmatch), of which the first that
            matches is taken; sites that match none stay as they are.
        form: as in SugarReLU.
        leave_functional: leave functional calls as they are instead of refusing the model.

    Raises:
        SurgeryError: nothing to replace, a pattern that matches nothing, or functional activations (named).
    """
    patterns = surrogate if isinstance(surrogate, Mapping) else {"*": surrogate}
    chosen = {pattern: named_surrogate(g) if isinstance(g, str) else g for pattern, g in patterns.items()}
    calls = tuple(functional_calls(model))
    if calls and not leave_functional:
        advice = "Use modules (nn.ReLU) there, or give torch.fx.symbolic_trace(model), or leave_functional=True."
        raise SurgeryError("\n  ".join(["activations called as functions cannot be replaced:", *calls]) + f"\n{advice}")
    modules, nodes = _sites(model, REPLACED), _functional_nodes(model)
    plan = _plan((*modules, *nodes), chosen)
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    sites = []
    for path, g in plan.items():
        new = SugarReLU(g, form=form).to(device)
        in_module = path in modules
        sites.append(
            _replace_module(model, modules[path], new) if in_module else _replace_node(path, *nodes[path], new)
        )
    return Report(tuple(sites), calls)


def remove(model: nn.Module) -> None:
    """Turns every SugarReLU of `model` into nn.ReLU, in place; the outputs stay the same.

    Raises:
        SurgeryError: there is none.
    """
    found = _sites(model, (SugarReLU,))
    if not found:
        raise SurgeryError("the model has no SugarReLU to remove.")
    for paths in found.values():
        new = nn.ReLU()
        new.train(model.get_submodule(paths[0]).training)
        _put(model, paths, new)


def _sites(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> dict[str, tuple[str, ...]]:
    """The modules of exactly these types: their first path, and all their paths."""
    if type(model) in kinds:
        raise SurgeryError(f"the model is itself a {type(model).__name__}; put it into an nn.Sequential.")
    paths: dict[nn.Module, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if type(module) in kinds:
            paths.setdefault(module, []).append(path)
    return {all_of_one[0]: tuple(all_of_one) for all_of_one in paths.values()}


def _plan(paths: tuple[str, ...], chosen: Mapping[str, Surrogate]) -> dict[str, Surrogate]:
    """The g of each path that a pattern matches; refuses when a pattern has nothing to do."""
    matches = {path: next((p for p in chosen if fnmatchcase(path, p)), None) for path in paths}
    idle = [pattern for pattern in chosen if pattern not in matches.values()]
    if not paths:
        raise SurgeryError(f"no activation was found; looked for: {', '.join(kind.__name__ for kind in REPLACED)}.")
    if idle:
        raise SurgeryError(
            f"no activation is left for {', '.join(map(repr, idle))}; the model has: {', '.join(paths)}."
        )
    return {path: chosen[pattern] for path, pattern in matches.items() if pattern is not None}


def _replace_module(model: nn.Module, paths: tuple[str, ...], new: SugarReLU) -> Site:
    old = model.get_submodule(paths[0])
    new.train(old.training)
    _put(model, paths, new)
    return Site(paths, type(old).__name__, _text(new), not isinstance(old, (nn.ReLU, SugarReLU)))


def _put(model: nn.Module, paths: tuple[str, ...], new: nn.Module) -> None:
    for path in paths:
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, new)


def _functional_nodes(model: nn.Module) -> dict[str, tuple[fx.GraphModule, fx.Node]]:
    """The functional activations in graphs of torch.fx, by the paths that modules in their place will have."""
    return {
        f"{path}.{_module_name(node)}".removeprefix("."): (module, node)
        for path, module in model.named_modules()
        if isinstance(module, fx.GraphModule)
        for node in module.graph.nodes
        if node.op in ("call_function", "call_method") and _function_name(node) in FUNCTIONAL
    }


def _replace_node(path: str, module: fx.GraphModule, node: fx.Node, new: SugarReLU) -> Site:
    module.add_submodule(_module_name(node), new)
    with module.graph.inserting_before(node):
        x = node.args[0] if node.args else node.kwargs["input"]
        node.replace_all_uses_with(module.graph.call_module(_module_name(node), (x,)))
    module.graph.erase_node(node)
    module.recompile()
    name = _function_name(node)
    return Site((path,), f"{name}()", _text(new), name not in ("relu", "relu_"))


def _module_name(node: fx.Node) -> str:
    """A name of its own: the node of F.relu is called `relu`, as many a module is."""
    return f"functional_{node.name}"


def _function_name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _text(new: SugarReLU) -> str:
    return f"g(x) = {new.surrogate.formula}"

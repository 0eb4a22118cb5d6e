"""The places of a model where surgery can put another activation, and what it must leave."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from torch import fx, nn

from sugarsearch.errors import SurgeryError
from sugarsearch.nn.activation import SugarReLU
from sugarsearch.nn.functional_calls import FunctionalCall, functional_calls
from sugarsearch.nn.kinds import Replaced, is_replaced, kind_of, kind_of_function
from sugarsearch.nn.tracing import Trace, Traced, put_calls, site_name, sites_of, trace


@dataclass(frozen=True)
class Place:
    """An activation that can be replaced.

    paths: every name under which the model holds it, or will; old: what it is; is_relu: whether its forward is ReLU's;
    put: puts a module in its place.
    """

    paths: tuple[str, ...]
    old: str
    is_relu: bool
    put: Callable[[nn.Module], None]


def module_places(model: nn.Module, replace: Sequence[Replaced]) -> Iterator[Place]:
    """The modules of these kinds and classes, a shared one once.

    Raises:
        SurgeryError: the model is itself one, or one holds weights.
    """
    if is_replaced(model, replace):
        raise SurgeryError(f"the model is itself a {type(model).__name__}; put it into an nn.Sequential.")
    paths: dict[nn.Module, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if is_replaced(module, replace):
            paths.setdefault(module, []).append(path)
    for module, names in paths.items():
        if module.state_dict():
            raise SurgeryError(
                f"{names[0]} ({type(module).__name__}) holds {', '.join(module.state_dict())}, which would be lost; "
                "only activations without weights and buffers can be replaced."
            )
        is_relu = type(module) is SugarReLU or kind_of(module) == "relu"
        yield Place(tuple(names), type(module).__name__, is_relu, partial(put_module, model, tuple(names)))


def put_module(model: nn.Module, paths: tuple[str, ...], new: nn.Module) -> None:
    """Sets a module under all these paths, in the mode of the one that is there."""
    new.train(model.get_submodule(paths[0]).training)
    for path in paths:
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, new)


def other_modules(model: nn.Module, replace: Sequence[Replaced]) -> Iterator[str]:
    """A line for each kind of activation module that is not to be replaced."""
    others: dict[tuple[str, str], list[str]] = {}
    for path, module in model.named_modules():
        kind = kind_of(module)
        if kind is not None and not is_replaced(module, replace):
            others.setdefault((kind, type(module).__name__), []).append(path)
    for (kind, name), paths in others.items():
        some = f"{paths[0]}, ..." if len(paths) > 1 else paths[0]
        yield f"{len(paths)} {name} ({some}); {kind!r} in replace would make ReLU of it"


def node_places(model: nn.Module, replace: Sequence[Replaced]) -> Iterator[Place]:
    """The functional activations in graphs of torch.fx."""
    for path, module in model.named_modules():
        for node in module.graph.nodes if isinstance(module, fx.GraphModule) else ():
            kind = kind_of_function(node.target) if node.op in ("call_function", "call_method") else None
            if kind in replace:
                yield _place(path, node.name, str(kind), partial(_put_node, module, node))


def _put_node(module: fx.GraphModule, node: fx.Node, new: nn.Module) -> None:
    new.train(module.training)
    module.add_submodule(site_name(node.name), new)
    with module.graph.inserting_before(node):
        x = node.args[0] if node.args else node.kwargs["input"]
        node.replace_all_uses_with(module.graph.call_module(site_name(node.name), (x,)))
    module.graph.erase_node(node)
    module.recompile()


def call_places(
    model: nn.Module, replace: Sequence[Replaced], *, trace_calls: bool, leave: bool
) -> tuple[list[Place], list[str]]:
    """The functional activations in the source that can be replaced, and a line for each that is left.

    trace_calls: trace the modules that make calls; without it only attributes that hold a function can be replaced.
    leave: leave what cannot be replaced.

    Raises:
        SurgeryError: what cannot be replaced, where it is not to be left.
    """
    calls = list(functional_calls(model))
    wanted = [call for call in calls if call.mention.kind is None or call.mention.kind in replace]
    modules = dict(model.named_modules())
    traces, failed = _traces([call for call in wanted if call.attribute is None], modules, trace_calls, leave)
    places = [
        _place(path, node, kind, partial(_put_traced, modules[path], traced, node))
        for path, traced in traces.items()
        for node, kind in traced.nodes.items()
        if kind in replace and node not in sites_of(modules[path])
    ]
    for call in wanted:
        if call.attribute is not None and call.path not in traces:
            put = partial(_put_attribute, modules[call.path], call.attribute)
            path = f"{call.path}.{call.attribute}".removeprefix(".")
            places.append(Place((path,), f"{call.mention.kind}()", call.mention.kind == "relu", put))
    return places, [*_once(call for call in calls if call not in wanted), *_once(failed)]


def _traces(
    calls: list[FunctionalCall], modules: dict[str, nn.Module], trace_calls: bool, leave: bool
) -> tuple[dict[str, Trace], list[FunctionalCall]]:
    """The graphs of the modules that make these calls, and the calls that are in none of them."""
    traces: dict[str, Trace] = {}
    for path in {call.path: None for call in calls}:
        if not trace_calls and not isinstance(modules[path], Traced):
            continue
        try:
            traces[path] = trace(path, modules[path])
        except SurgeryError:
            if not leave:
                raise
    reached = {line for traced in traces.values() for line in traced.reached}
    failed = [call for call in calls if not _is_reached(call, traces, reached)]
    if failed and not leave:
        reason, advice = "called as functions cannot be replaced", ", or trace=True"
        if trace_calls:
            reason, advice = "called as functions are not reached by the traced forward", ""
        lines = "\n  ".join([f"activations {reason}:", *_once(failed)])
        raise SurgeryError(f"{lines}\nUse modules (nn.ReLU) there{advice}, or leave_functional=True.")
    return traces, failed


def _is_reached(call: FunctionalCall, traces: dict[str, Trace], reached: set[tuple[str, int]]) -> bool:
    first, last = call.mention.lines
    if call.mention.kind is None:
        return call.path in traces
    return any((call.mention.file, line) in reached for line in range(first, last + 1))


def _put_traced(module: nn.Module, traced: Trace, node: str, new: nn.Module) -> None:
    new.train(module.training)
    module.add_module(site_name(node), new)
    put_calls(module, traced, (node,))


def _put_attribute(module: nn.Module, name: str, new: nn.Module) -> None:
    new.train(module.training)
    setattr(module, name, new)


def _place(path: str, node: str, kind: str, put: Callable[[nn.Module], None]) -> Place:
    return Place((f"{path}.{site_name(node)}".removeprefix("."),), f"{kind}()", kind == "relu", put)


def _once(calls: Iterable[FunctionalCall]) -> list[str]:
    """A line for each place in the source, with the first module that has it."""
    return list({call.mention: str(call) for call in reversed(list(calls))}.values())[::-1]

"""Turns functional activations of a module into modules: its forward is traced by torch.fx, the module stays itself."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from sugarsearch.errors import SurgeryError
from sugarsearch.nn.kinds import kind_of_function

_SITES = "_functional_sites"


@dataclass(frozen=True)
class Trace:
    """The forward of one module as a graph. nodes: its functional activations and their kinds; reached: source lines
    (file, line) that led to them."""

    graph: fx.Graph
    nodes: Mapping[str, str]
    reached: frozenset[tuple[str, int]]


class Traced:
    """The mixin of a module's class whose forward calls modules where it called functions."""

    original: type[nn.Module]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _rebuilt, (self.original, self.__getstate__())


def trace(path: str, module: nn.Module) -> Trace:
    """Reads the graph of `module`'s own forward; the modules in it stay calls. The module is not changed.

    What is None or a bool by default in forward's arguments keeps that value; another is an error when it is given.

    Raises:
        SurgeryError: tracing fails, or the graph would not do what the module does.
    """
    before, modes = dict(vars(module)), [(part, part.training) for part in module.modules()]
    kind = type(module)
    module.__class__ = original(module)
    try:
        graphs = []
        for training in (False, True):
            module.train(training)
            graphs.append(_graph(module))
    except Exception as reason:
        raise _refusal(path, module, f"torch.fx cannot trace it: {_one_line(reason)}") from reason
    finally:
        for part, mode in modes:
            part.training = mode
        changed = sorted(k for k in vars(module).keys() | before if vars(module).get(k) is not before.get(k))
        vars(module).clear()
        vars(module).update(before)
        module.__class__ = kind
    if changed:
        raise _refusal(path, module, f"its forward sets {', '.join(changed)}, or makes a tensor that a trace would fix")
    texts = [graph.python_code("self").src for graph in graphs]
    if texts[0] != texts[1]:
        raise _refusal(path, module, "its forward is another one in training than in evaluation, and a trace has one")
    nodes = {node.name: name for node in graphs[0].nodes if (name := _functional(node)) is not None}
    return Trace(graphs[0], nodes, frozenset(line for node in graphs[0].nodes for line in _lines(node)))


def put_calls(module: nn.Module, traced: Trace, names: Iterable[str]) -> None:
    """Makes the functional nodes of these names calls of the submodules `site_name(name)`, in place.

    The class of the module becomes one with that forward, under the old class, whose other methods, attributes and
    state it keeps. The submodules must be there.
    """
    sites = {name: traced.nodes[name] for name in names} | dict(vars(module).get(_SITES, {}))
    for node in list(traced.graph.nodes):
        if node.name in sites:
            x = node.args[0] if node.args else node.kwargs["input"]
            with traced.graph.inserting_before(node):
                node.replace_all_uses_with(traced.graph.call_module(site_name(node.name), (x,)))
            traced.graph.erase_node(node)
    kind = original(module)
    forward = type(fx.GraphModule(module, traced.graph)).forward
    traced.graph.owning_module = None  # that GraphModule's part is done; the graph may be changed further
    names_of_class = {"forward": forward, "original": kind, "__module__": kind.__module__, "__doc__": kind.__doc__}
    vars(module)[_SITES] = sites
    module.__class__ = type(kind.__name__, (Traced, kind), names_of_class)


def restore(module: nn.Module) -> bool:
    """Gives a module whose functional activations were all ReLU its own class back; False if it is not such a one."""
    sites = vars(module).get(_SITES, {})
    if not isinstance(module, Traced) or set(sites.values()) != {"relu"}:
        return False
    for name in sites:
        delattr(module, site_name(name))
    del vars(module)[_SITES]
    module.__class__ = original(module)  # type: ignore[assignment]
    return True


def original(module: nn.Module) -> type[nn.Module]:
    """The class that a module had before any tracing."""
    return module.original if isinstance(module, Traced) else type(module)


def sites_of(module: nn.Module) -> frozenset[str]:
    """The functional activations of a traced module that are modules now, by the names of their nodes."""
    return frozenset(vars(module).get(_SITES, {}))


def site_name(node: str) -> str:
    """The submodule in place of a node; the node of F.relu is called `relu`, as many a module is."""
    return f"functional_{node}"


class _Tracer(fx.Tracer):
    record_stack_traces = True
    proxy_buffer_attributes = True  # or the value that a buffer has now would be fixed without a word

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _rebuilt(kind: type[nn.Module], state: dict[str, Any]) -> nn.Module:
    """A copy or an unpickled module: traced again, which gives the same graph, since nothing else entered it."""
    module = kind.__new__(kind)
    module.__setstate__(dict(state))  # type: ignore[no-untyped-call]
    put_calls(module, trace("", module), ())
    return module


def _graph(module: nn.Module) -> fx.Graph:
    """The graph of forward. Arguments on whose default code may branch without a word from torch.fx are fixed to it."""
    parameters = inspect.signature(module.forward).parameters.values()
    fixed = {p.name: p.default for p in parameters if p.default is None or isinstance(p.default, bool)}
    graph = _Tracer().trace(module, fixed)
    for node in graph.nodes:
        name = str(node.target).rpartition("_")[0]
        if node.op == "placeholder" and name in fixed:
            node.target = name  # torch.fx calls it mask_1, and mask=None would be an unknown argument
    return graph


def _functional(node: fx.Node) -> str | None:
    return kind_of_function(node.target) if node.op in ("call_function", "call_method") else None


def _lines(node: fx.Node) -> set[tuple[str, int]]:
    """The source lines of a functional node."""
    return set(_frames(node.stack_trace or "")) if _functional(node) is not None else set()


def _frames(stack: str) -> Iterable[tuple[str, int]]:
    """The lines `File "a.py", line 3, in forward` of a stack that torch.fx keeps as text."""
    for line in stack.splitlines():
        head, _, rest = line.strip().partition('", line ')
        if head.startswith('File "') and rest:
            yield head.removeprefix('File "'), int(rest.partition(",")[0])


def _refusal(path: str, module: nn.Module, reason: str) -> SurgeryError:
    return SurgeryError(
        f"{path or 'the model'} ({type(module).__name__}): {reason}. "
        "Use modules (nn.ReLU) there, or leave_functional=True."
    )


def _one_line(reason: Exception) -> str:
    return (
        " ".join("".join(traceback.format_exception_only(reason)).split()).removeprefix("torch.fx.proxy.").rstrip(".")
    )

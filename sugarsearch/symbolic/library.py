"""The named surrogates: one table of g, its primitive, defaults and source."""

from __future__ import annotations

import ast
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

from sugarsearch.errors import ExpressionError, UnknownNameError, UsageError
from sugarsearch.symbolic.expression import Expression
from sugarsearch.symbolic.operators import OPERATORS
from sugarsearch.symbolic.parser import parse, syntax_tree
from sugarsearch.symbolic.surrogate import Surrogate


@dataclass(frozen=True)
class Entry:
    """A named surrogate.

    Attributes:
        g: text of g.
        primitive: text of f with f' = g.
        source: where it is defined.
        defaults: every parameter's default value.
        aliases: other names.
    """

    g: str
    primitive: str
    source: str
    defaults: Mapping[str, float] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


# s(x) s(-x) is the sigmoid's derivative; s (1 - s) loses all digits for large x.
LIBRARY: Mapping[str, Entry] = MappingProxyType(
    {
        "relu": Entry("step(x)", "relu(x)", "Nair & Hinton 2010; derivative 0 at 0, as in PyTorch"),
        "leaky_relu": Entry(
            "1 if x > 0 else alpha", "x if x > 0 else alpha*x", "Maas, Hannun & Ng 2013", {"alpha": 0.01}
        ),
        "prelu": Entry(
            "1 if x > 0 else alpha",
            "x if x > 0 else alpha*x",
            "He et al. 2015; slope fixed at its start",
            {"alpha": 0.25},
        ),
        "elu": Entry(
            "1 if x > 0 else alpha*exp(x)",
            "x if x > 0 else alpha*(exp(x) - 1)",
            "Clevert, Unterthiner & Hochreiter 2016",
            {"alpha": 1.0},
        ),
        "selu": Entry(
            "1.0507009873554805 * (1 if x > 0 else 1.6732632423543772*exp(x))",
            "1.0507009873554805 * (x if x > 0 else 1.6732632423543772*(exp(x) - 1))",
            "Klambauer et al. 2017",
        ),
        "gelu": Entry("normal_cdf(x) + x*normal_pdf(x)", "x*normal_cdf(x)", "Hendrycks & Gimpel 2016, exact form"),
        "silu": Entry(
            "sigmoid(beta*x) + beta*x*sigmoid(beta*x)*sigmoid(-beta*x)",
            "x*sigmoid(beta*x)",
            "Elfwing, Uchibe & Doya 2018; Ramachandran, Zoph & Le 2017 (Swish)",
            {"beta": 1.0},
            ("swish",),
        ),
        "mish": Entry("tanh(softplus(x)) + x*sech2(softplus(x))*sigmoid(x)", "x*tanh(softplus(x))", "Misra 2020"),
        "softplus": Entry("sigmoid(beta*x)", "softplus(beta*x)/beta", "Dugas et al. 2001", {"beta": 1.0}),
        "b_silu": Entry(
            "sigmoid(x) + (x + alpha)*sigmoid(x)*sigmoid(-x)",
            "(x + alpha)*sigmoid(x) - alpha/2",
            "Horuz et al. 2025 (SUGAR)",
            {"alpha": 1.67},
        ),
        "nelu": Entry(
            "1 if x > 0 else 2*alpha*x/(1 + x**2)**2",
            "x if x > 0 else alpha - alpha/(1 + x**2)",
            "Horuz et al. 2025 (SUGAR); negative for x < 0, as printed",
            {"alpha": 0.05},
        ),
        "straight_through": Entry("1", "x", "Bengio, Leonard & Courville 2013"),
        "sigmoid_prime": Entry(
            "slope*sigmoid(slope*x)*sigmoid(-slope*x)",
            "sigmoid(slope*x)",
            "Zenke & Ganguli 2018; slope 4 has peak 1",
            {"slope": 4.0},
        ),
        "arctan": Entry(
            "alpha/2/(1 + (pi/2*alpha*x)**2)", "atan(pi/2*alpha*x)/pi + 0.5", "Fang et al. 2021", {"alpha": 2.0}
        ),
        "fast_sigmoid": Entry(
            "1/(1 + slope*abs(x))**2",
            "x/(1 + slope*abs(x))",
            "Zenke & Ganguli 2018 (SuperSpike)",
            {"slope": 10.0},
        ),
        "gaussian": Entry(
            "normal_pdf(x/sigma)/sigma", "normal_cdf(x/sigma)", "Yin, Corradi & Bohte 2021", {"sigma": 0.5}
        ),
        "triangular": Entry(
            "max(0, 1 - abs(x)/width)",
            "max(-width, min(width, x)) - max(-width, min(width, x))*abs(max(-width, min(width, x)))/(2*width)",
            "Bellec et al. 2018, without their factor 0.3",
            {"width": 1.0},
        ),
    }
)
"""Every named surrogate. A bare name or a call with named values means the entry: `softplus(beta=2)` is the
derivative of softplus, while `softplus(x)` is an expression, with g itself equal to softplus."""


class Family(NamedTuple):
    """An expression of g with free parameters."""

    expression: Expression
    primitive: Expression | None
    defaults: Mapping[str, float]


def canonical_name(text: str) -> str | None:
    """The library's name for `text`, or None: "swish" is "silu"."""
    return _NAMES.get(text)


def surrogate(text: str | os.PathLike[str], /, **parameters: float) -> Surrogate:
    """The surrogate that `text` names or writes.

    Args:
        text: a name ("b_silu", also "b_silu(alpha=2)"), an expression of x ("sigmoid(k*x)"), or the path of a YAML file
            that `sugarsearch export` wrote ("export/g.yaml").
        **parameters: values of a named surrogate's parameters, or of the names used in the expression.

    Raises:
        UnknownNameError: a word that is no known surrogate, with the nearest ones.
        ExpressionError: text that is no expression.
        UsageError: a parameter that does not exist or has no finite value, or a file that holds no g or many.
        ConfigurationError: a file that is no study.
    """
    text = os.fspath(text)
    if is_file_name(text):
        return _stored(text, parameters)
    text, written = _named_call(text)
    both = sorted(written.keys() & parameters.keys())
    if both:
        raise UsageError(f"{both[0]} is given twice for {text}; give it once.")
    values = {**written, **parameters}
    name = canonical_name(text)
    if name is None:
        _refuse_unknown_word(text, values)
        return Surrogate.of(parse(text, values), values)
    expression, primitive, defaults = _entry(name)
    _refuse_unknown_parameters(name, values, defaults)
    return Surrogate.of(expression, {**defaults, **values}, name=name, primitive=primitive)


def is_file_name(text: str) -> bool:
    """Whether `text` means a file; no expression ends like one."""
    return text.endswith((".yaml", ".yml"))


def _stored(path: str, parameters: Collection[str]) -> Surrogate:
    """The one candidate of the study in a file."""
    from sugarsearch.config import loader  # takes 0.2 s, and names and expressions do without
    from sugarsearch.config.schema import StudyConfig

    study = loader.load(path, StudyConfig)
    queue = study.search.queue
    if len(queue) != 1 or study.search.candidates != 1 or is_file_name(queue[0]):
        tried = f"{study.search.candidates} candidates" if study.search.candidates > 1 else "no g of its own"
        raise UsageError(
            f"{path} is a study of {tried}; give a file that `sugarsearch export` wrote, which holds one g."
        )
    if parameters:
        raise UsageError(f"the g in {path} has its values; give no parameters beside it.")
    g = surrogate(queue[0])
    return g.at_unit_gain() if study.space.gain == "unit" else g


def family(text: str, parameters: Collection[str] = ()) -> Family:
    """The family that `text` names or writes, for tuning its `parameters`.

    A named family keeps its defaults for parameters that are not tuned; an expression's parameters are exactly those
    tuned, and have no defaults.

    Raises:
        UnknownNameError, ExpressionError: as `surrogate`.
        UsageError: a parameter that does not occur.
    """
    text, written = _named_call(text)
    name = canonical_name(text)
    if name is not None:
        expression, primitive, defaults = _entry(name)
        _refuse_unknown_parameters(name, {*written, *parameters}, defaults)
        return Family(expression, primitive, {**defaults, **written})
    _refuse_unknown_word(text, parameters)
    expression = parse(text, parameters)
    idle = sorted(set(parameters) - expression.parameters)
    if idle:
        raise UsageError(f"parameter {idle[0]!r} does not occur in {text}.")
    return Family(expression, None, {})


@cache
def _entry(name: str) -> Family:
    entry = LIBRARY[name]
    return Family(parse(entry.g, entry.defaults), parse(entry.primitive, entry.defaults), dict(entry.defaults))


def _refuse_unknown_word(text: str, parameters: Collection[str]) -> None:
    if text.isidentifier() and text not in {"x", "pi", "e", *parameters, *OPERATORS}:
        raise UnknownNameError("surrogate", text, _NAMES)


def _refuse_unknown_parameters(name: str, given: Collection[str], defaults: Mapping[str, float]) -> None:
    for word in given:
        if word not in defaults:
            allowed = ", ".join(defaults) or "none"
            raise UsageError(f"{name} has no parameter {word!r}; its parameters: {allowed}.")


def _named_call(text: str) -> tuple[str, dict[str, float]]:
    """Split "b_silu(alpha=2)" into the name and its values; other text is returned as it is."""
    node = syntax_tree(text)
    text = text.strip()
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        return text, {}
    name = node.func.id
    if name in OPERATORS and not (node.keywords and canonical_name(name)):
        return text, {}
    if canonical_name(name) is None:
        if not node.keywords:
            return text, {}
        raise UnknownNameError("surrogate", name, _NAMES)
    if node.args:
        raise ExpressionError(text, node.args[0].col_offset, f"write {name}(parameter=number), each once.")
    values: dict[str, float] = {}
    for keyword in node.keywords:
        value = _number(text, keyword.value)
        if keyword.arg is None or keyword.arg in values or value is None:
            raise ExpressionError(text, keyword.value.col_offset, f"write {name}(parameter=number), each once.")
        values[keyword.arg] = value
    return name, values


def _number(text: str, node: ast.expr) -> float | None:
    """The value of a part of `text` that is arithmetic of numbers; None for an expression of x."""
    start = node.col_offset
    try:
        value = parse(text[start : node.end_col_offset])
    except ExpressionError as error:
        raise ExpressionError(text, start + error.position, error.reason) from None
    return value.value if value.is_constant else None


_NAMES: Mapping[str, str] = {word: name for name, entry in LIBRARY.items() for word in (name, *entry.aliases)}

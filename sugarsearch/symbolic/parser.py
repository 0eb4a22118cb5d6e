"""From text to an expression, safely: Python's own syntax tree, an allow-list and bounds. Nothing is executed."""

from __future__ import annotations

import ast
import math
import reprlib
import string
import unicodedata
import warnings
from collections.abc import Callable, Collection

from sugarsearch.errors import ExpressionError, SugarsearchError, nearest_names
from sugarsearch.symbolic.expression import MAX_CONSTANT, Expression, X, call, constant, parameter
from sugarsearch.symbolic.operators import OPERATORS

MAX_LENGTH = 512  # also of the text that `str` writes, which travels between processes and is parsed again
MAX_NODES = 200
MAX_DEPTH = 60

# No comments: one that ends a line would hide the lines after it, which are read as one.
_CHARACTERS = frozenset(string.printable) - {"#"}
_CONSTANTS = {"pi": math.pi, "e": math.e}
_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.Pow: "pow",
}
# Comparison with zero: the operator that decides it, and whether its two branches change places.
_COMPARISONS: dict[type[ast.cmpop], tuple[str, bool]] = {
    ast.Gt: ("if_positive", False),
    ast.GtE: ("if_nonnegative", False),
    ast.Lt: ("if_nonnegative", True),
    ast.LtE: ("if_positive", True),
}
_MIRRORED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Gt: ast.Lt,
    ast.GtE: ast.LtE,
    ast.Lt: ast.Gt,
    ast.LtE: ast.GtE,
}


def parse(text: str, parameters: Collection[str] = ()) -> Expression:
    """The expression that `text` means, such as "sigmoid(4*x)" or "1 if x > 0 else alpha*exp(x)".

    Allowed: x, numbers, pi, e, the names in `parameters`, + - * / **, calls of operators, and
    `a if p > q else b` (also >=, <, <=). Arithmetic of numbers is done at once, in float64.

    Raises:
        ExpressionError: with the column and the reason.
    """
    return _Parser(text, parameters).run()


def syntax_tree(text: str) -> ast.expr:
    """Python's syntax tree of `text`, as one line without leading white space; nothing is allowed or refused yet.

    Raises:
        ExpressionError: too long, a character that expressions do not have, or no Python.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(text, MAX_LENGTH, f"{len(text):,} characters; at most {MAX_LENGTH} are read.")
    for position, character in enumerate(text):
        if character not in _CHARACTERS:
            raise ExpressionError(text, position, f"the character {_described(character)} is not allowed.")
    shift = _indent(text)
    if shift == len(text):
        raise ExpressionError(text, 0, "empty; write an expression of x, such as sigmoid(4*x).")
    line = "".join(" " if character.isspace() else character for character in text)[shift:]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as Python's advice on "1if x"
            return ast.parse(line, mode="eval").body
    except SyntaxError as error:
        position = min(shift + max((error.offset or 1) - 1, 0), len(text))
        raise ExpressionError(text, position, f"this is not an expression ({error.msg}).") from None
    except (ValueError, MemoryError, RecursionError):
        raise ExpressionError(text, 0, "nested too deeply.") from None


def _described(character: str) -> str:
    """Look-alikes, such as a Cyrillic letter in the place of x, are told apart by their names."""
    name = unicodedata.name(character, "")
    return f"{character!r} ({name})" if name and not character.isascii() else repr(character)


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip())


class _Parser:
    def __init__(self, text: str, parameters: Collection[str]) -> None:
        self.text = text
        self.parameters = frozenset(parameters)
        self.shift = _indent(text)

    def run(self) -> Expression:
        expression = self._build(syntax_tree(self.text), 0)
        if expression.nodes > MAX_NODES:
            raise ExpressionError(self.text, 0, f"{expression.nodes} nodes; at most {MAX_NODES} are allowed.")
        if expression.depth > MAX_DEPTH:  # a comparison of two expressions becomes one level more
            raise ExpressionError(self.text, 0, f"nested more than {MAX_DEPTH} deep.")
        written = len(str(expression))
        if written > MAX_LENGTH:
            reason = f"{written} characters when written with all digits; at most {MAX_LENGTH} are allowed."
            raise ExpressionError(self.text, 0, reason)
        return expression

    def _fault(self, node: ast.AST, reason: str) -> ExpressionError:
        return ExpressionError(self.text, self.shift + getattr(node, "col_offset", 0), reason)

    def _build(self, node: ast.expr, depth: int) -> Expression:
        if depth > MAX_DEPTH + 1:  # the minus of a number is no level of the expression
            raise self._fault(node, f"nested more than {MAX_DEPTH} deep.")
        match node:
            case ast.Constant():
                return self._number(node)
            case ast.Name():
                return self._name(node)
            case ast.UnaryOp(op=ast.UAdd()):
                return self._build(node.operand, depth + 1)
            case ast.UnaryOp(op=ast.USub()):
                return self._call(node, "neg", [node.operand], depth)
            case ast.BinOp() if type(node.op) in _BINARY:
                return self._call(node, _BINARY[type(node.op)], [node.left, node.right], depth)
            case ast.Call():
                return self._operator(node, depth)
            case ast.IfExp():
                return self._conditional(node, depth)
            case ast.Compare():
                raise self._fault(node, "a comparison is no number; write `1 if x > 0 else 0`, or step(x).")
        raise self._fault(node, "this is not allowed here; write numbers, x, + - * / **, operators and if-else.")

    def _number(self, node: ast.Constant) -> Expression:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._fault(node, f"{reprlib.repr(value)} is no real number.")
        if not abs(value) <= MAX_CONSTANT:
            raise self._fault(node, f"the number is too large; at most {MAX_CONSTANT:g} in size.")
        return constant(value)

    def _name(self, node: ast.Name) -> Expression:
        if node.id in self.parameters:
            return self._checked(node, lambda: parameter(node.id))
        if node.id == "x":
            return X
        if node.id in _CONSTANTS:
            return constant(_CONSTANTS[node.id])
        if node.id in OPERATORS:
            raise self._fault(node, f"{node.id} is an operator; write {node.id}(...).")
        known = sorted({"x", *_CONSTANTS, *self.parameters})
        raise self._fault(node, f"unknown name {node.id!r}; known here: {', '.join(known)}.")

    def _operator(self, node: ast.Call, depth: int) -> Expression:
        if not isinstance(node.func, ast.Name):
            raise self._fault(node, "only operators can be called, by their bare name.")
        name = node.func.id
        if name not in OPERATORS:
            nearest = nearest_names(name, sorted(OPERATORS))
            hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"known: {', '.join(OPERATORS)}."
            raise self._fault(node, f"unknown operator {name!r}; {hint}")
        if node.keywords:
            raise self._fault(node, f"{name} takes no named arguments.")
        return self._call(node, name, node.args, depth)

    def _conditional(self, node: ast.IfExp, depth: int) -> Expression:
        test = node.test
        if not isinstance(test, ast.Compare) or type(test.ops[0]) not in _COMPARISONS:
            raise self._fault(test, "the condition must be one comparison by >, >=, < or <=.")
        if len(test.ops) > 1:
            raise self._fault(test, "chained comparisons are not allowed; nest two if-else.")
        left, right = self._build(test.left, depth + 1), self._build(test.comparators[0], depth + 1)
        sign = type(test.ops[0])
        if left == constant(0) != right:
            left, right, sign = right, left, _MIRRORED[sign]
        subject = left if right == constant(0) else self._checked(test, lambda: call("sub", left, right))
        operator, swapped = _COMPARISONS[sign]
        then, otherwise = self._build(node.body, depth + 1), self._build(node.orelse, depth + 1)
        if swapped:
            then, otherwise = otherwise, then
        return self._checked(node, lambda: call(operator, subject, then, otherwise))

    def _call(self, node: ast.expr, name: str, arguments: Collection[ast.expr], depth: int) -> Expression:
        built = [self._build(argument, depth + 1) for argument in arguments]
        return self._checked(node, lambda: call(name, *built))

    def _checked(self, node: ast.expr, make: Callable[[], Expression]) -> Expression:
        try:
            return make()
        except SugarsearchError as error:
            raise self._fault(node, str(error)) from None

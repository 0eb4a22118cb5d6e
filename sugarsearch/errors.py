"""The exceptions users meet. Each carries its data, and its text is one clear message.

Every message says what was given, what is allowed and, where it helps, what to do. The command line
prints the text and exits with `exit_code`; nothing here is ever shown as a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


class SugarsearchError(Exception):
    """Base of all errors that sugarsearch raises on purpose."""

    exit_code = 2


class UsageError(SugarsearchError):
    """A value or a combination of values that is not allowed; the text says which and what is."""


class UnknownNameError(SugarsearchError):
    """A name that is not known, with the nearest known ones.

    Attributes: kind ("surrogate", "model", ...), given, known (sorted), nearest.
    """

    def __init__(self, kind: str, given: str, known: Iterable[str]) -> None:
        self.kind, self.given, self.known = kind, given, tuple(sorted(known))
        self.nearest = nearest_names(given, self.known)
        hint = f"; did you mean {' or '.join(self.nearest)}?" if self.nearest else ""
        allowed = ", ".join(self.known) or "none"
        shown = repr(given if len(given) <= 80 else f"{given[:77]}...")
        super().__init__(f"unknown {kind} {shown}{hint or '.'} Known: {allowed}.")


class ExpressionError(SugarsearchError):
    """Text that is not an expression of g. Attributes: text, position (0-based column), reason."""

    def __init__(self, text: str, position: int, reason: str) -> None:
        self.text, self.position, self.reason = text, position, reason
        shown = text if len(text) <= 80 else f"{text[:77]}..."
        super().__init__(f"expression {shown!r}, column {position + 1}: {reason}")


class AdmissionError(SugarsearchError):
    """A g that must not be trained with. Attributes: expression, point, dtype, reason."""

    def __init__(self, expression: str, point: float | None, dtype: str, reason: str) -> None:
        self.expression, self.point, self.dtype, self.reason = expression, point, dtype, reason
        where = "" if point is None else f" at x = {point:g}"
        super().__init__(f"{expression} is not admitted: {reason}{where} ({dtype}).")


@dataclass(frozen=True)
class Problem:
    """One fault in a configuration file; line and column are 1-based, 0 where unknown."""

    path: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.column}" if self.line else self.path
        return f"{place}: {self.message}"


class ConfigurationError(SugarsearchError):
    """All faults of one configuration at once. Attributes: problems."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class DataError(SugarsearchError):
    """Data that is missing, cut, wrong or unfit. Attributes: path, reason, remedy."""

    def __init__(self, path: Path | str, reason: str, remedy: str) -> None:
        self.path, self.reason, self.remedy = str(path), reason, remedy
        super().__init__(f"{path}: {reason} {remedy}")


class SurgeryError(SugarsearchError):
    """A model whose activations cannot be replaced; the text names the sites and the reason."""


class SelfTestError(SugarsearchError):
    """The execution mode about to be used gives a wrong gradient; nothing may be trained in it."""

    exit_code = 1


class RunError(SugarsearchError):
    """A run folder that cannot be used: locked, of another configuration, or not a run."""


class StoppedError(SugarsearchError):
    """A signal asked the search to stop, and it did; `exit_code` is the shell's code for that signal."""

    def __init__(self, signal: int) -> None:
        self.exit_code = 128 + signal
        super().__init__("stopped as asked; the same command goes on from here.")


class SugarsearchWarning(UserWarning):
    """What users should know and need not act upon at once."""


class NothingFinishedError(SugarsearchError):
    """Every candidate failed; the text says how, by reason."""

    exit_code = 3


def nearest_names(given: str, known: Sequence[str], count: int = 3) -> tuple[str, ...]:
    """The up to `count` names of `known` most like `given`, best first."""
    if len(given) > 100:  # no slip of the pen, and the comparison takes seconds for a million letters
        return ()
    folded = {name.lower(): name for name in known}
    hits = difflib.get_close_matches(given.lower(), folded, n=count, cutoff=0.6)
    return tuple(folded[hit] for hit in hits)

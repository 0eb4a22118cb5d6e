"""What a call of reproduce asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sugarsearch.errors import UsageError

_FOR = {
    "deep_narrow_nets": ("--cell", "--runs"),
    "accuracies": ("--cell", "--model", "--surrogate", "--arm", "--lr", "--seeds"),
    "functions": (),
    "profiles": (),
    "landscapes": (),
}
"""By kind of baseline: the options that choose what is run."""


@dataclass(frozen=True)
class Asked:
    """The options of a call.

    Attributes:
        chosen: those that choose what is run, by flag, as they were given; only those that were.
        show: whether to train nothing.
        title: of the tables.
        folder: where results are, or go.
        pictures: where a figure was asked for, the beginnings of the names of its pictures; else empty.
    """

    chosen: dict[str, tuple[str, ...]]
    show: bool
    title: str
    folder: Path
    device: str
    pictures: tuple[str, ...]
    as_json: bool

    def refuse_others(self, baseline: str, kind: str) -> None:
        """Refuse options that choose nothing here.

        Raises:
            UsageError: one of `chosen` is for other kinds of baselines.
        """
        allowed = _FOR[kind]
        for flag in self.chosen:
            if flag not in allowed:
                known = ", ".join(allowed) or "none"
                raise UsageError(f"{flag} chooses nothing in {baseline}; options that do: {known}.")

    def words(self, flag: str) -> tuple[str, ...]:
        """What was given by an option, in parts; empty where it was not."""
        return self.chosen.get(flag, ())

    def numbers(self, flag: str) -> tuple[float, ...]:
        """As `words`, as numbers.

        Raises:
            UsageError: one of them is none.
        """
        try:
            return tuple(float(word) for word in self.words(flag))
        except ValueError:
            raise UsageError(f"{flag} is {','.join(self.words(flag))!r}; write numbers, such as 0.01,0.1.") from None

    def seeds(self, flag: str) -> tuple[int, ...]:
        """As `words`, as seeds, each once.

        Raises:
            UsageError: one of them is no whole number from 0 to 2**63 - 1.
        """
        words = self.words(flag)
        if not all(word.isascii() and word.isdigit() and int(word) < 2**63 for word in words):
            raise UsageError(f"{flag} is {','.join(words)!r}; write whole numbers from 0, such as 1,10.")
        return tuple(dict.fromkeys(int(word) for word in words))


def parts(flag: str, text: str | None) -> tuple[str, ...]:
    """The parts of a list with commas; none where it was not given.

    Raises:
        UsageError: a part is empty.
    """
    if text is None:
        return ()
    words = tuple(word.strip() for word in text.split(","))
    if not all(words):
        raise UsageError(f"{flag} is {text!r}; write one or more, with commas between them.")
    return words

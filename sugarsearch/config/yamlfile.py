"""YAML with positions: values as YAML 1.2 reads them, and the line and column of each.

PyYAML reads `1e-3` as text and `on` as True, and keeps the last of duplicate keys without a word. Here
numbers are numbers, only true and false are booleans, and a duplicate key is a fault.
"""

from __future__ import annotations

import math
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sugarsearch.errors import ConfigurationError, Problem

Location = tuple[str | int, ...]

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000  # aliases count each time they are used, so a bomb of anchors stops here
MAX_DEPTH = 50

_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^[-+]?[0-9]+$")
_FLOAT = re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$")
_NOT_FINITE = re.compile(r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$")


@dataclass(frozen=True)
class Position:
    """Where a value stands; line and column are 1-based."""

    path: str
    line: int
    column: int


@dataclass
class Document:
    """A YAML file's value, the position of every key and item by location, and the faults found on the way.

    `faulty` holds the locations whose values are stand-ins: what else is wrong with those is no news.
    """

    path: str
    value: Any = None
    positions: dict[Location, Position] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    faulty: set[Location] = field(default_factory=set)

    def refuse(self, location: Location, message: str) -> None:
        """Note a fault of the value at `location`."""
        place = self.position(location)
        self.problems.append(Problem(place.path, place.line, place.column, message))
        self.faulty.add(location)

    def position(self, location: Location) -> Position:
        """The position of `location`, or of its nearest enclosing value."""
        for end in range(len(location), -1, -1):
            if location[:end] in self.positions:
                return self.positions[location[:end]]
        return Position(self.path, 0, 0)

    def graft(self, location: Location, other: Document) -> None:
        """Put `other`'s value at `location` (a key path of this document), with its positions."""
        target = self.value
        for key in location[:-1]:
            target = target[key]
        target[location[-1]] = other.value
        self.positions.update({location + inner: place for inner, place in other.positions.items()})
        self.problems.extend(other.problems)
        self.faulty.update(location + inner for inner in other.faulty)


def read(path: Path | str) -> Document:
    """Read a YAML file whose top level is a mapping.

    Raises:
        ConfigurationError: the file cannot be read, is too large, or is not YAML.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise _refusal(path, "this is a folder; give the YAML file in it.")
        if not stat.S_ISREG(mode):  # a pipe or a device may never end
            raise _refusal(path, "this is no regular file; give a YAML file.")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise _refusal(path, f"the file has more than {MAX_BYTES:,} bytes, the most that are read.")
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, start = content.count(b"\n", 0, error.start) + 1, content.rfind(b"\n", 0, error.start) + 1
        message = "the file is not UTF-8 text."
        raise ConfigurationError([Problem(str(path), line, error.start - start + 1, message)]) from None
    except OSError as error:
        raise _refusal(path, f"cannot be read: {error.strerror}.") from None
    except ValueError:
        raise _refusal(path, "cannot be read: the path holds a NUL character.") from None
    return parse(text, str(path))


def parse(text: str, path: str) -> Document:
    """Parse YAML text; `path` names it in messages."""
    document = Document(path)
    try:
        loader = _Composer(text, document)
        node = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line, column = text.count("\n", 0, error.position) + 1, error.position - text.rfind("\n", 0, error.position)
        message = f"this is not YAML: the character {chr(error.character)!r} is not allowed."
        raise ConfigurationError([Problem(path, line, column, message)]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        reason = error.problem or error.context
        raise ConfigurationError([Problem(path, line, column, f"this is not YAML: {reason}.")]) from None
    if not isinstance(node, yaml.MappingNode):
        raise ConfigurationError([Problem(path, 1, 1, "the top level must be a mapping (key: value lines).")])
    document.value = _Builder(document).build(node, ())
    return document


def scalar(text: str) -> tuple[Any, list[str]]:
    """The value that `text` has on a YAML line, the right side of `--set key=value`, and what is wrong with it."""
    try:
        document = parse(f"value: {text}", "--set")
    except ConfigurationError:
        return text, []
    if len(document.value) > 1:  # a line break, and then more than the one value
        return text, []
    return document.value["value"], [problem.message for problem in document.problems]


def _refusal(path: Path, message: str) -> ConfigurationError:
    return ConfigurationError([Problem(str(path), 0, 0, message)])


class _Composer(yaml.SafeLoader):
    """PyYAML's reader of the node graph, with bounds, and without tags: those would say what a value is."""

    def __init__(self, text: str, document: Document) -> None:
        super().__init__(text)
        self.document = document
        self.values = 0
        self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """One value and all in it; called for each by its parent."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        self.values += 1
        self.depth += 1
        if self.values > MAX_VALUES:
            raise self._refusal(event, f"more than {MAX_VALUES:,} values.")
        if self.depth > MAX_DEPTH:
            raise self._refusal(event, f"values are nested more than {MAX_DEPTH} deep.")
        if getattr(event, "tag", None) is not None:
            self.document.problems += self._refusal(event, "tags (!...) are not allowed; write plain values.").problems
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def _refusal(self, event: Any, message: str) -> ConfigurationError:
        mark = event.start_mark
        return ConfigurationError([Problem(self.document.path, mark.line + 1, mark.column + 1, message)])


class _Builder:
    """Turns the node graph into plain values, noting positions and faults in the document."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.values = 0
        self.open: list[yaml.Node] = []

    def build(self, node: yaml.Node, location: Location, key: yaml.Node | None = None) -> Any:
        self.values += 1
        mark = (key or node).start_mark
        if self.values > MAX_VALUES:
            raise ConfigurationError(
                [self._problem(node, f"more than {MAX_VALUES:,} values (aliases count each time).")]
            )
        if node in self.open:
            raise ConfigurationError([self._problem(node, "a value that contains itself.")])
        self.document.positions[location] = Position(self.document.path, mark.line + 1, mark.column + 1)
        self.open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, location)
            if isinstance(node, yaml.SequenceNode):
                return [self.build(item, (*location, index)) for index, item in enumerate(node.value)]
            assert isinstance(node, yaml.ScalarNode)
            return self._scalar(node, location)
        finally:
            self.open.pop()

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.document.problems.append(self._problem(key_node, "a key must be a plain word."))
                continue
            key = str(key_node.value)
            if key in result:
                first = self.document.positions[(*location, key)].line
                message = f"{key!r} is given twice (first on line {first}); keep one."
                self.document.problems.append(self._problem(key_node, message))
                continue
            result[key] = self.build(value_node, (*location, key), key_node)
        return result

    def _scalar(self, node: yaml.ScalarNode, location: Location) -> Any:
        text = str(node.value)
        if node.style is not None:  # quoted or block text stays text
            return text
        if _NULL.match(text):
            return None
        if _BOOL.match(text):
            return text.lower() == "true"
        if _INT.match(text) and len(text) <= 20:
            return int(text)
        if _FLOAT.match(text) and math.isfinite(float(text)):
            return float(text)
        if _FLOAT.match(text) or _NOT_FINITE.match(text):
            shown = text if len(text) <= 60 else f"{text[:57]}..."
            self.document.problems.append(self._problem(node, f"{shown} is not a finite number."))
            self.document.faulty.add(location)
            return 0.0
        return text

    def _problem(self, node: yaml.Node, message: str) -> Problem:
        return Problem(self.document.path, node.start_mark.line + 1, node.start_mark.column + 1, message)

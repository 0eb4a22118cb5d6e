"""The results of a baseline's cells: one line of JSON each, in a file that later calls add to."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, Final

from sugarsearch.errors import RunError
from sugarsearch.reproduction.narrow.cells import Cell, CellResult, restored
from sugarsearch.runs.results import write_atomically

FILE: Final = "results.jsonl"


class Results:
    """What is known of the cells so far, by name. Each change is on the disk, whole, before `keep` returns.

    Raises:
        RunError: the file is damaged or cannot be read; the text names the line.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.cells: dict[str, CellResult] = {}
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            lines = []
        except OSError as error:
            raise RunError(f"{self.path} cannot be read: {error.strerror}. Get the right to read it.") from None
        for number, line in enumerate(lines, 1):
            result = _read(self.path, number, line)
            self.cells[result.cell] = result

    def of(self, cell: Cell) -> CellResult | None:
        """What is known of `cell`; None where nothing is.

        Raises:
            RunError: the file has it from other settings.
        """
        found = self.cells.get(cell.name)
        if found is not None and found.identity != cell.identity:
            raise RunError(
                f"{self.path} has runs of {cell.name} with other settings than the baseline has now. "
                "Undo the change, or give another folder with --out."
            )
        return found

    def keep(self, result: CellResult) -> None:
        """Put `result` in the place of what was known of its cell.

        Raises:
            RunError: it cannot be written; the old file is unharmed then.
        """
        cells = {**self.cells, result.cell: result}
        write_atomically(self.path, "".join(f"{_line(one)}\n" for one in cells.values()))
        self.cells = cells


def _line(result: CellResult) -> str:
    value = dataclasses.asdict(result)
    return json.dumps({**value, "check": _check(value)}, allow_nan=False)


def _read(path: Path, number: int, line: bytes) -> CellResult:
    try:
        value = json.loads(line)
        if value.pop("check") != _check(value):
            raise ValueError("its checksum does not fit")
        return restored(value)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RunError(
            f"{path}:{number}: this line is damaged or was edited ({type(error).__name__}: {error}). Delete the line, "
            "and that cell is run again; all others are kept."
        ) from None


def _check(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, allow_nan=False).encode()).hexdigest()[:16]

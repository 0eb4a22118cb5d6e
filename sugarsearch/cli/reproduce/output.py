"""What every reproduction ends with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sugarsearch.cli.common import result_console


def print_end(said: Sequence[str], results: Path, files: Sequence[Path], pictures: Sequence[str]) -> None:
    """What a reader must know, and where everything is; of a figure that was asked for, its pictures alone.

    files: those written, table.md first; none where there was nothing to write.
    pictures: the beginnings of the names of the figure's pictures; none where a table was asked for.
    """
    console = result_console()
    if pictures:
        drawn = [path for path in files if path.suffix == ".png" and path.name.startswith(tuple(pictures))]
        for line in [f"written: {path}" for path in drawn] or ["not run"]:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        return
    console.print()
    for line in said:
        console.print(f"- {line}", markup=False, highlight=False)
    if files:
        console.print(f"written: {results}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"written: {files[0]}, figures, tables", markup=False, highlight=False, soft_wrap=True)

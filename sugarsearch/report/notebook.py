"""In a notebook: a surrogate as formula and plot, and the progress of a search."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from sugarsearch.report import figures, svg
from sugarsearch.report.live import LiveObserver, watch
from sugarsearch.report.text import rounded
from sugarsearch.runs.observer import Observer, Silent, StudyProgress
from sugarsearch.symbolic.mathml import to_mathml
from sugarsearch.symbolic.surrogate import Surrogate

if TYPE_CHECKING:
    from pathlib import Path

    from sugarsearch.config.comparison import ComparisonConfig
    from sugarsearch.config.schema import StudyConfig
    from sugarsearch.runs.results import StudyResult

UPDATE_EVERY: Final = 0.5  # seconds between two pictures of the progress
_WIDTH: Final = 100
_DIGITS: Final = 4
_REM_AN_INCH: Final = 4.5
# Notebooks say themselves whether they are dark, whatever the system prefers.
_DARK_NOTEBOOKS: Final = ('[data-jp-theme-light="false"]', ".vscode-dark", '[theme="dark"]')


def surrogate_html(surrogate: Surrogate) -> str:
    """The formula typeset, gain, g(0) and a plot of g, as one element that needs no network."""
    name = f"g-{surrogate.identity}"
    figure = figures.surrogate_figure(surrogate)
    picture = svg.inline(figure, name, f"g(x) = {surrogate.formula}")
    dark = ", ".join(f"{notebook} .sugarsearch-g" for notebook in _DARK_NOTEBOOKS)
    style = (
        f".sugarsearch-g {{ {svg.theme(dark=False)} }} {dark} {{ {svg.theme(dark=True)} }} "
        ".sugarsearch-g svg { width: 100%; height: auto; display: block; } "
        ".sugarsearch-g text { fill: currentColor; } .sugarsearch-g math { font-size: 1.2em; }"
    )
    label = f"<strong>{escape(rounded(surrogate.label))}</strong>: " if surrogate.name else ""
    return (
        f'<div class="sugarsearch-g"><style>{style}</style>'
        f"<p>{label}{_formula(surrogate)}<br>gain {surrogate.gain:.4g}, g(0) = {surrogate.at_zero:.4g}</p>"
        f'<div style="max-width: {_REM_AN_INCH * figure.get_figwidth():g}rem">{picture}</div></div>'
    )


def _formula(surrogate: Surrogate) -> str:
    return to_mathml(surrogate.scaled, _DIGITS).replace(
        "<math>", "<math><mrow><mi>g</mi><mo>(</mo><mi>x</mi><mo>)</mo><mo>=</mo></mrow>", 1
    )


@contextmanager
def watch_here() -> Iterator[Observer]:
    """An observer that shows progress in a notebook's cell or on a terminal, and elsewhere a silent one."""
    console = Console(stderr=True)
    if console.is_jupyter:
        yield NotebookObserver()
    elif console.is_terminal:
        with watch(console) as observer:
            yield observer
    else:
        yield Silent()


class NotebookObserver(LiveObserver):
    """Shows the live table in the cell's output, and writes it anew in the same place."""

    def __init__(self) -> None:
        super().__init__()
        self._handle: Any = None
        self._shown = 0.0

    def started(self, config: StudyConfig | ComparisonConfig, folder: Path, resumed: int) -> None:
        super().started(config, folder, resumed)
        self._show()

    def progress(self, progress: StudyProgress) -> None:
        super().progress(progress)
        self._show()

    def stage(self, name: str, done: int, total: int) -> None:
        super().stage(name, done, total)
        if done == total or time.monotonic() - self._shown >= UPDATE_EVERY:
            self._show()

    def finished(self, result: StudyResult) -> None:
        super().finished(result)
        self._show()

    def _show(self) -> None:
        from IPython.display import display

        # Rich itself would need ipywidgets to write in one place.
        console = Console(file=io.StringIO(), record=True, width=_WIDTH, force_jupyter=False)
        console.print(self.render())
        output = {"text/plain": console.export_text()}
        if self._handle is None:
            self._handle = display(output, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(output, raw=True)
        self._shown = time.monotonic()

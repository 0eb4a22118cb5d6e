"""What a running study shows: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sugarsearch.report.text import duration, percent, shorten
from sugarsearch.runs.observer import Observer, StudyProgress

if TYPE_CHECKING:
    from sugarsearch.config.comparison import ComparisonConfig
    from sugarsearch.config.schema import StudyConfig
    from sugarsearch.runs.results import StudyResult

LINE_EVERY = 5.0  # seconds between plain lines of one stage

_MEANING = {
    "screening": "screening candidates",
    "rerun": "best candidates, fresh seeds",
    "tuning": "learning rates of the final arms",
    "final": "final table, fresh seeds",
}


@contextmanager
def watch(console: Console) -> Iterator[Observer]:
    """An observer that draws on `console`; a live display is ended cleanly whatever happens inside."""
    if not console.is_terminal:
        yield PlainObserver(console)
        return
    observer = LiveObserver()
    with Live(get_renderable=observer.render, console=console, refresh_per_second=4):
        yield observer


class PlainObserver:
    """One line per batch of candidates, and per stage one line every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: dict[str, float] = {}

    def started(self, config: StudyConfig | ComparisonConfig, folder: Path, resumed: int) -> None:
        self._say(_opening(config, resumed))

    def progress(self, progress: StudyProgress) -> None:
        self._say(", ".join(f"{name} {value}" for name, value in _facts(progress)))

    def stage(self, name: str, done: int, total: int) -> None:
        # The screening is told by candidate in `progress`; its jobs would only say it twice.
        now = time.monotonic()
        if name == "screening" or (done < total and now - self._last.get(name, -LINE_EVERY) < LINE_EVERY):
            return
        self._last[name] = now
        self._say(f"{_MEANING.get(name, name)}: {done} of {total} jobs")

    def finished(self, result: StudyResult) -> None:
        self._say(f"finished after {duration(result.seconds)}")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveObserver:
    """Keeps the latest state and renders it; the terminal's refresh thread only reads."""

    def __init__(self) -> None:
        self._opening = ""
        self._progress: StudyProgress | None = None
        self._stages: dict[str, tuple[int, int]] = {}

    def started(self, config: StudyConfig | ComparisonConfig, folder: Path, resumed: int) -> None:
        self._opening = _opening(config, resumed)

    def progress(self, progress: StudyProgress) -> None:
        self._progress = progress

    def stage(self, name: str, done: int, total: int) -> None:
        self._stages = {**self._stages, name: (done, total)}

    def finished(self, result: StudyResult) -> None:
        self._opening += f"\nfinished after {duration(result.seconds)}"

    def render(self) -> RenderableType:
        """The state of the moment."""
        table = Table.grid(padding=(0, 2))
        for name, value in _facts(self._progress) if self._progress else ():
            table.add_row(Text(name, style="dim"), Text(value))
        bars = Table.grid(padding=(0, 2))
        for name, (done, total) in self._stages.items():
            bar = ProgressBar(total=max(total, 1), completed=done, width=30)
            bars.add_row(Text(_MEANING.get(name, name)), bar, f"{done} of {total} jobs")
        return Group(Text(self._opening), table, bars)


def _opening(config: StudyConfig | ComparisonConfig, resumed: int) -> str:
    kind = "study" if hasattr(config, "search") else "comparison"
    what = f"{kind} {config.name}: {config.recipe.model.name} on {config.recipe.data.name}"
    return what if not resumed else f"{what}; resumed, {resumed} candidates are known from before"


def _facts(progress: StudyProgress) -> list[tuple[str, str]]:
    score = progress.best_score
    facts = [
        ("candidates", f"{progress.done} of {progress.total}"),
        (
            "best so far",
            f"{shorten(progress.best_label, 60)} at {percent(score)} %" if score is not None else "none yet",
        ),
        ("pruned", str(progress.pruned)),
        ("failed", str(progress.failed)),
    ]
    if progress.per_hour is not None:
        facts.append(("rate", f"{progress.per_hour:,.0f} an hour"))
    if progress.seconds_left is not None and progress.done < progress.total:
        facts.append(("screening ends in", f"about {duration(progress.seconds_left)}"))
    return facts

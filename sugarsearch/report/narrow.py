"""A reproduction's tables and pictures: printed shares beside ours, losses, predictions, activity over epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sugarsearch.report import style
from sugarsearch.report.reproduction import write_tables
from sugarsearch.report.sheets import Cell as Value
from sugarsearch.report.sheets import Column, Sheet
from sugarsearch.report.text import duration, percent
from sugarsearch.reproduction.narrow.cells import Cell, CellResult
from sugarsearch.reproduction.narrow.comparison import cautions, shares
from sugarsearch.reproduction.narrow.training import BESIDE, grid

Results = Mapping[str, CellResult]


def shares_sheet(cells: Sequence[Cell], results: Results) -> Sheet:
    """Every class of every cell: the printed share, ours with its interval, and what the test says."""
    columns = (
        Column("cell", "cell"),
        Column("arm", "arm"),
        Column("class", "class"),
        _share("printed", "printed %"),
        Column("ours", "ours %", "number", percent),
        Column("ours", "95 %", "number", percent, ("low", "high")),
        Column("runs", "runs", "number"),
        Column("verdict", "verdict"),
    )
    rows: list[list[Value]] = []
    for cell in cells:
        for share in shares(cell, results.get(cell.name)):
            measured = share.ours, share.interval, share.runs or None
            rows.append([share.cell, share.arm, share.outcome, share.printed, *measured, share.words])
    return Sheet("shares", "Printed shares and ours", columns, rows)


def classes_sheet(cells: Sequence[Cell]) -> Sheet:
    """What the classes mean: the printed range of losses, and the bound above which ours are told apart."""
    columns = (
        Column("target", "target"),
        Column("formula", "function"),
        Column("class", "class"),
        Column("meaning", "meaning"),
        Column("printed", "printed losses", "number", _plain, ("low", "high")),
        Column("above", "ours: above", "number", _plain),
    )
    targets = {cell.target_name: cell for cell in cells}.values()
    rows = [
        [cell.target_name, cell.function.formula, name, outcome.meaning, outcome.printed, outcome.above]
        for cell in targets
        for name, outcome in cell.target.classes.items()
    ]
    return Sheet("classes", "Classes of final losses", columns, rows)


def runs_sheet(cells: Sequence[Cell], results: Results) -> Sheet:
    """How the runs of a cell began and ended: born dead, and the median loss of each class."""
    names = sorted({name for cell in cells for name in cell.target.classes})
    columns = (
        Column("cell", "cell"),
        Column("runs", "runs", "number"),
        _share("born_dead", "born dead %"),
        *(Column(f"median_{name}", f"median loss {name}", "number", lambda loss: f"{loss:.3g}") for name in names),
        Column("seconds", "time", "number", duration),
    )
    rows: list[list[Value]] = []
    for cell in cells:
        if (result := results.get(cell.name)) is not None:
            n = len(result.losses)
            medians = [_median(cell, result, name) for name in names]
            rows.append([cell.name, n, len(result.born_dead) / n, *medians, result.seconds])
    return Sheet("runs", "How the runs began and ended", columns, rows)


def write(source: str, cells: Sequence[Cell], results: Results, folder: Path) -> list[Path]:
    """Write table.md, tables/ and figures/ of what is known into `folder`; gives the files."""
    sheets = [shares_sheet(cells, results), classes_sheet(cells), runs_sheet(cells, results)]
    notes = cautions(cells, [results.get(cell.name) for cell in cells])
    return write_tables(source, sheets, notes, pictures(cells, results), folder)


def pictures(cells: Sequence[Cell], results: Results) -> dict[str, Figure]:
    """By name: predictions_TARGET, and activity_TARGET where something of the target was run."""
    made: dict[str, Figure] = {}
    for target in dict.fromkeys(cell.target_name for cell in cells):
        known = [(cell, results[cell.name]) for cell in cells if cell.target_name == target and cell.name in results]
        if known:
            made[f"predictions_{target}"] = predictions_figure(known)
            made[f"activity_{target}"] = activity_figure(known)
    return made


@style.styled
def predictions_figure(known: Sequence[tuple[Cell, CellResult]]) -> Figure:
    """What a typical run of each class predicts against the target: a row for each arm, a panel for each class."""
    first = known[0][0]
    classes = list(first.target.classes)
    points = grid(first.function.inputs)
    exact = first.function.values(points).tolist()
    figure, rows = _grid(len(known), len(classes), width=3.2 * len(classes), height=1 + 2.1 * len(known))
    for (cell, result), row in zip(known, rows, strict=True):
        counts = result.counts(cell.target)
        for name, axes in zip(classes, row, strict=True):
            share = percent(counts[name] / len(result.losses))
            axes.set_title(f"{cell.arm.title}: {name}, {share} %", fontsize=9)
            for values in exact:
                axes.plot(points[0], values, **style.RELU_LINE)
            example = result.examples.get(name)
            for values in example.prediction if example else ():
                axes.plot(points[0], values, color=style.FOUND)
    beside = f"; x2 = {BESIDE:g}" if first.function.inputs > 1 else ""
    figure.suptitle(f"{first.target_name} = {first.function.formula} (dashed) and typical runs{beside}")
    return figure


@style.styled
def activity_figure(known: Sequence[tuple[Cell, CellResult]]) -> Figure:
    """How often a hidden unit is active, over epochs: one panel for each arm, a line for each layer and their mean."""
    columns = 2 if len(known) == 4 else min(len(known), 3)
    count = -(-len(known) // columns)
    figure, rows = _grid(count, columns, width=3.4 * columns, height=0.8 + 2.5 * count, same_x=False)
    panels = [axes for row in rows for axes in row]
    for (cell, result), axes in zip(known, panels, strict=False):
        by_layer = list(zip(*result.activity, strict=True))
        for index, course in enumerate(by_layer):
            depth = index / max(len(by_layer) - 1, 1)
            axes.plot(result.epochs, course, color=style.OTHERS[1], alpha=1 - 0.8 * depth, linewidth=1.0)
        means = [sum(layers) / len(layers) for layers in result.activity]
        axes.plot(result.epochs, means, color=style.FOUND, linewidth=2.6)
        axes.set(title=cell.arm.title, ylim=(0, 1))
    for axes in panels[len(known) :]:
        axes.set_visible(False)
    figure.suptitle(f"{known[0][0].target_name}: share of active units over epochs, mean and layers (first darkest)")
    return figure


def _grid(rows: int, columns: int, width: float, height: float, same_x: bool = True) -> tuple[Figure, list[list[Axes]]]:
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure, [list(row) for row in figure.subplots(rows, columns, squeeze=False, sharex=same_x, sharey=True)]


def _median(cell: Cell, result: CellResult, name: str) -> float | None:
    losses = [loss for loss in result.losses if loss is not None and cell.target.class_of(loss) == name]
    return median(losses) if losses else None


def _share(name: str, title: str) -> Column:
    return Column(name, title, "number", percent)


def _plain(value: float) -> str:
    return f"{value:g}"

"""The tables of a report, each stated once: what they hold, apart from how a format writes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, Literal

from sugarsearch.report.charts import mean_interval, pareto_front
from sugarsearch.report.figures import hall_of_fame
from sugarsearch.report.tables import opponents, title_of
from sugarsearch.report.text import percent
from sugarsearch.runs.results import ScreeningRow, StudyResult
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.verdict.judgement import Comparison, signed
from sugarsearch.verdict.pairs import Pair
from sugarsearch.verdict.table import Arm, FinalTable

Cell = str | float | int | tuple[float, float] | Surrogate | None


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: in CSV, where values stand as they are: accuracies and shares from 0 to 1.
        title: for people.
        kind: how its values are set.
        show: a number's text for people.
        ends: of an interval: what CSV adds to the names of its two columns.
    """

    name: str
    title: str
    kind: Literal["text", "number", "formula"] = "text"
    show: Callable[[float], str] = str
    ends: tuple[str, ...] = ()

    def text(self, value: Cell) -> str:
        """`value` for people; a formula has all its digits."""
        if value is None:
            return ""
        if isinstance(value, Surrogate):
            return value.formula
        if isinstance(value, tuple):
            return " to ".join(map(self.show, value))
        return value if isinstance(value, str) else self.show(value)


@dataclass(frozen=True)
class Sheet:
    """A table; `name` is also that of its files."""

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


def _short(value: float) -> str:
    return f"{value:.3g}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _percents(name: str, title: str) -> Column:
    return Column(name, title, "number", percent)


def _number(name: str, title: str, show: Callable[[float], str] = _short) -> Column:
    return Column(name, title, "number", show)


def _interval(name: str, title: str, show: Callable[[float], str]) -> Column:
    return Column(name, title, "number", show, ("low", "high"))


_FORMULA = Column("formula", "g(x)", "formula")
_INDEX = _number("candidate", "candidate", str)
_SCORE = _percents("score", "validation %")
_RATE = _number("learning_rate", "best lr", lambda value: f"{value:g}")
_GAIN = _number("gain", "gain", lambda value: f"{value:.2f}")
_AT_ZERO = _number("g_at_zero", "g(0)")
_NODES = _number("nodes", "size", str)


def sheets_of(result: StudyResult, table: FinalTable | None, importances: Mapping[str, float]) -> dict[str, Sheet]:
    """Every table that a result has something for, by name, in the order of the report."""
    of_table = _final, _comparisons, _pairs, _same_rate, _tuning, _rerun
    made = [
        *(make(table) for make in of_table if table is not None),
        _hall(result.screening),
        *([] if result.is_of_family else [_pareto(result.screening)]),
        _failures(result.screening),
        _importances(importances),
        _candidates(result.screening),
    ]
    return {sheet.name: sheet for sheet in made if sheet.rows}


def _final(table: FinalTable) -> Sheet:
    columns = (
        Column("surrogate", "surrogate"),
        _percents("mean", f"{table.scored_on} %"),
        _interval("mean", "95 %", percent),
        _percents("sd", "sd"),
        _number("collapsed", "collapsed %", lambda value: percent(value, 0)),
        _number("n", "n", str),
        _RATE,
        _GAIN,
        _AT_ZERO,
        _number("difference", "against ReLU", signed),
        _interval("difference", "95 %", signed),
        _FORMULA,
    )
    return Sheet("final", "The final table", columns, [_arm(arm) for arm in table.rows])


def _arm(arm: Arm) -> Sequence[Cell]:
    summary, difference = arm.summary, arm.difference
    against = (None, None) if difference is None else (difference.mean, (difference.low, difference.high))
    mean = summary.mean, mean_interval(list(arm.scores.values()))
    spread = (summary.sd, summary.collapse_share, summary.n)
    known = (arm.learning_rate, arm.gain, arm.at_zero)
    return title_of(arm), *mean, *spread, *known, *against, Surrogate.from_json(arm.surrogate)


def _comparisons(table: FinalTable) -> Sheet:
    columns = (Column("finalist", "finalist"), Column("against", "against"), *_DIFFERENCE)
    rows = [(*opponents(table, found), *_difference(found)) for found in table.comparisons]
    return Sheet("comparisons", "What the verdict rests on: differences to the controls", columns, rows)


def _pairs(table: FinalTable) -> Sheet:
    columns = (Column("first", "surrogate"), Column("second", "against"), *_DIFFERENCE, Column("asks", "asks"))
    titles = {arm.label: title_of(arm) for arm in table.rows}
    rows = [(titles[pair.first], titles[pair.second], *_difference(pair), pair.asks) for pair in table.pairs]
    return Sheet("pairs", "Further comparisons", columns, rows)


def difference_columns() -> tuple[Column, Column, Column]:
    """Of a difference in points: itself, its interval, and the seeds it rests on."""
    return _DIFFERENCE[0], _DIFFERENCE[1], _DIFFERENCE[4]


_DIFFERENCE: Final = (
    _number("difference", "points", signed),
    _interval("difference", "interval", signed),
    _number("p", "p", _p),
    _number("p_holm", "p (Holm)", _p),
    _number("n", "seeds", str),
    Column("paired", "paired"),
)


def _difference(found: Comparison | Pair) -> Sequence[Cell]:
    return found.mean, (found.low, found.high), found.p, found.p_holm, found.n, "yes" if found.paired else "no"


def _same_rate(table: FinalTable) -> Sheet:
    columns = (
        _number("learning_rate", "learning rate", lambda value: f"{value:g}"),
        _number("difference", "points", signed),
        _interval("difference", "interval", signed),
        _number("p_holm", "p (Holm)", _p),
        _number("n", "seeds", str),
    )
    found = table.verdict.at_same_rate if table.verdict else ()
    rows = [(at.rate, at.mean, (at.low, at.high), at.p_holm, at.n) for at in found]
    return Sheet("same_rate", "Finalist against ReLU where both have one learning rate", columns, rows)


def _tuning(table: FinalTable) -> Sheet:
    rates = sorted({float(rate) for arm in table.rows for rate in arm.tuning})
    columns = [Column("surrogate", "surrogate"), *(_percents(f"lr_{rate:g}", f"lr {rate:g}") for rate in rates)]
    scores = ((arm, {float(rate): score for rate, score in arm.tuning.items()}) for arm in table.rows)
    rows = [[title_of(arm), *(known.get(rate) for rate in rates)] for arm, known in scores]
    return Sheet("tuning", "Mean validation accuracy (%) over learning rate", columns, rows)


def _rerun(table: FinalTable) -> Sheet:
    columns = (
        Column("surrogate", "surrogate"),
        _RATE,
        _percents("screening", "screening %"),
        _percents("rerun", "re-run %"),
        _number("n", "seeds", str),
        _FORMULA,
    )
    rows: list[Sequence[Cell]] = []
    for row in table.rerun:
        mean = fmean(row.scores.values()) if row.scores else None
        g = Surrogate.from_json(row.surrogate)
        rows.append((row.label, row.learning_rate, row.screening, mean, len(row.scores), g))
    return Sheet("rerun", "The best of the screening once more, on fresh seeds", columns, rows)


def _hall(rows: Sequence[ScreeningRow]) -> Sheet:
    columns = (_INDEX, _SCORE, _FORMULA, _RATE, _GAIN, _AT_ZERO)
    steps = [
        (row.index, row.score, row.restore(), row.best_learning_rate, row.gain, row.at_zero)
        for row in hall_of_fame(rows)
    ]
    return Sheet("hall_of_fame", "Hall of fame: each was the best of all before it", columns, steps)


def _pareto(rows: Sequence[ScreeningRow]) -> Sheet:
    columns = (_NODES, _INDEX, _SCORE, _FORMULA, _GAIN, _AT_ZERO)
    front = []
    for row in pareto_front(rows):
        g = row.restore()
        front.append((g.expression.nodes, row.index, row.score, g, row.gain, row.at_zero))
    return Sheet("pareto", "The front: better than all that are simpler", columns, front)


_REASONS: Final = {"PRUNED": "others were better after as many epochs"}


def _failures(rows: Sequence[ScreeningRow]) -> Sheet:
    columns = (Column("status", "how it ended"), Column("reason", "reason"), _number("count", "candidates", str))
    found = Counter((row.status, row.reason or _REASONS.get(row.status, "")) for row in rows if not row.finished)
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return Sheet(
        "failures", "Candidates that were stopped or failed, by reason", columns, [(*key, n) for key, n in ordered]
    )


def _importances(found: Mapping[str, float]) -> Sheet:
    columns = (Column("property", "property"), _number("importance", "importance %", percent))
    return Sheet("importances", "What told good candidates from others", columns, list(found.items()))


def _candidates(rows: Sequence[ScreeningRow]) -> Sheet:
    columns = (
        _INDEX,
        _SCORE,
        _FORMULA,
        Column("status", "status"),
        Column("origin", "origin"),
        _RATE,
        _GAIN,
        _AT_ZERO,
        _NODES,
        _number("seconds", "seconds", lambda value: f"{value:.1f}"),
        Column("reason", "reason"),
    )
    return Sheet("candidates", "All candidates", columns, [_candidate(row) for row in rows])


def _candidate(row: ScreeningRow) -> Sequence[Cell]:
    g = row.restore()
    how = (row.status, row.origin, row.best_learning_rate, row.gain, row.at_zero)
    return row.index, row.score, g, *how, g.expression.nodes, row.seconds, row.reason

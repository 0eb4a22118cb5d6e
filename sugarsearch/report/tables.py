"""Tables for the terminal (at most 100 columns) and for Markdown."""

from __future__ import annotations

from rich.table import Table

from sugarsearch.symbolic.surrogate import Surrogate


def properties_table(surrogate: Surrogate) -> Table:
    """What `show` says of a surrogate: formula, LaTeX and properties."""
    table = Table.grid(padding=(0, 2))
    for name, value in property_lines(surrogate):
        table.add_row(Text(name, style="bold"), Text(value, overflow="fold"))
    return table


def property_lines(surrogate: Surrogate) -> list[tuple[str, str]]:
    """Name and value of every property, for people."""
    low, high = surrogate.bounds
    lines = [
        ("surrogate", surrogate.label),
        ("g(x)", surrogate.formula),
        ("LaTeX", surrogate.latex()),
        ("gain", f"{surrogate.gain:.4f}  (ReLU has 1)"),
        ("g(0)", f"{surrogate.at_zero:.4g}"),
        ("g(0+)", f"{surrogate.at_zero_plus:.4g}"),
        ("limits", f"{_limit(surrogate.left_limit)} at -inf, {_limit(surrogate.right_limit)} at +inf"),
        ("bounds", f"{low:.4g} to {high:.4g}"),
        ("x < 0", f"{surrogate.negative_side}"),
    ]
    if surrogate.primitive is not None:
        lines.append(("primitive", str(surrogate.primitive.substitute(dict(surrogate.parameters)))))
    return lines


def _limit(value: float | None) -> str:
    return "does not settle" if value is None else f"{value:.4g}"

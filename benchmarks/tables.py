"""The suite's results as Markdown: a page of their own, and the README's lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import RESULTS, Figure

README: Final = Path(__file__).resolve().parent.parent / "README.md"
BEGIN: Final = "<!-- figures: python -m benchmarks.tables -->"
END: Final = "<!-- end of figures -->"

Result = Mapping[str, Any]


def figure_of(value: Mapping[str, Any]) -> Figure:
    """A figure as it was written to a results file."""
    return Figure(**{name: item for name, item in value.items() if name != "met"})


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"


def spread(figure: Figure) -> str:
    """The quartiles; empty for a single measurement."""
    return "" if figure.low == figure.high else f"{number(figure.low)} to {number(figure.high)}"


def verdict(figure: Figure) -> str:
    """Whether the target is met, in a word."""
    return {True: "met", False: "missed", None: ""}[figure.met]


def page(result: Result) -> str:
    """All sections, one table each."""
    about = result["machine"]
    lines = [
        f"# Benchmarks: {about['device']}, {about['date']}",
        "",
        f"{about['processor']}, {about['cores']} cores, {about['threads']} threads; Python {about['python']}, "
        + ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        + f"; images: {about['images']}.",
        "Medians of ratios taken side by side, with their quartiles."
        + (" A quick run: small and few." if about["quick"] else ""),
    ]
    for section in result["sections"].values():
        lines += ["", f"## {section['title']}", "", f"{section['what'].rstrip('.')}.", ""]
        lines += ["| measured | ratio | quartiles | unit | target | |", "| --- | ---: | --- | --- | --- | --- |"]
        for figure in map(figure_of, section["figures"]):
            lines.append(
                f"| {figure.name} | {number(figure.value)} | {spread(figure)} | {figure.unit} | {figure.target} "
                f"| {verdict(figure)} |"
            )
        if section["notes"]:
            lines += ["", *(f"- {note}" for note in section["notes"])]
    return "\n".join(lines) + "\n"


def latest(device: str, folder: Path = RESULTS) -> Path | None:
    """The newest results file of a device that is no quick one; None if there is none."""
    found = sorted(path for path in folder.glob(f"{device}-*.json") if not path.stem.endswith("-quick"))
    return found[-1] if found else None


def summary(result: Result, name: str) -> str:
    """The figures that have a target, for the README."""
    about = result["machine"]
    lines = [
        f"{about['processor']}, {about['threads']} threads, torch {about['versions']['torch']}, {about['date']} "
        f"([all figures](benchmarks/results/{name}.md)):",
        "",
        "| measured | ratio | quartiles | of what | target |",
        "| --- | ---: | --- | --- | --- |",
    ]
    for section in result["sections"].values():
        figures = [figure for figure in map(figure_of, section["figures"]) if figure.met is not None]
        named = [figure for figure in figures if figure.name.startswith("plain torch: ")]
        lines += [_row(figure) for figure in figures if figure not in named]
        if named:
            lines.append(_all_named(named))
    return "\n".join(lines)


def _row(figure: Figure) -> str:
    target = f"{figure.target}, {verdict(figure)}"
    return f"| {figure.name} | {number(figure.value)} | {spread(figure)} | {figure.unit} | {target} |"


def _all_named(figures: list[Figure]) -> str:
    """The library's surrogates in one line, and those that miss the target by name."""
    values = sorted(figure.value for figure in figures)
    missed = [
        f"{figure.name.removeprefix('plain torch: ')} {number(figure.value)}" for figure in figures if not figure.met
    ]
    target = figures[0].target + (f", missed by {', '.join(missed)}" if missed else ", met")
    return (
        f"| plain torch, all {len(figures)} named surrogates | {number(values[len(values) // 2])} "
        f"| {number(values[0])} to {number(values[-1])} (all) | {figures[0].unit} | {target} |"
    )


def filled(text: str, folder: Path = RESULTS) -> str:
    """The README with its figures from the newest results of each device."""
    head, _, rest = text.partition(BEGIN)
    _, found, tail = rest.partition(END)
    if not found:
        raise ValueError(f"README.md has no lines {BEGIN} and {END}, between which the figures stand.")
    paths = [path for device in ("cpu", "nvidia") if (path := latest(device, folder)) is not None]
    tables = [summary(json.loads(path.read_text()), path.stem) for path in paths]
    return f"{head}{BEGIN}\n" + "\n\n".join(tables) + f"\n{END}{tail}"


def main() -> None:
    """Write the README's figures."""
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

"""report.html: one file with all that was found, which needs no network."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from sugarsearch.report import svg, tables
from sugarsearch.report.sheets import Sheet
from sugarsearch.report.text import duration, percent, rounded
from sugarsearch.runs.folder import COMPARISON, STUDY
from sugarsearch.runs.results import StudyResult
from sugarsearch.symbolic.mathml import to_mathml
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.verdict.table import FinalTable

_PAGE: Final = Path(__file__).with_name("page")
_DIGITS: Final = 4

CAPTIONS: Final = {
    "surrogates": "The derivatives that stand in for ReLU's.",
    "parameters": "Score over the tuned parameter.",
    "learning_rates": "Each arm at every learning rate of its sweep, on validation data.",
    "seeds": "Seeds used for nothing else, each arm at its own best learning rate.",
    "screening": "Each candidate as it was tried.",
    "complexity": "What a longer formula buys.",
    "activity": "By epoch, on validation data.",
    "importances": "Share of importance of each property of g.",
}


def page(
    result: StudyResult, table: FinalTable | None, figures: Mapping[str, Figure], sheets: Mapping[str, Sheet]
) -> str:
    """The report as HTML; the same result gives the same text."""
    environment = Environment(
        loader=FileSystemLoader(_PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.globals["zip"] = partial(zip, strict=True)
    environment.filters["rounded"] = lambda text: rounded(text, _DIGITS)
    settings = yaml.safe_dump(result.config, sort_keys=False, allow_unicode=True)
    return environment.get_template("report.html").render(
        result=result,
        setting=_setting(result),
        verdict=_verdict(table),
        tiles=_tiles(result, table),
        cautions=[*filter(None, [result.note]), *(tables.cautions(table) if table else ())],
        optimism=_optimism(table),
        arms=_arms(result, table),
        use=_use(table),
        screening=f"{tables.screening_line(result)}.",
        figures={name: _figure(name, figure) for name, figure in figures.items()},
        sheets=sheets,
        statuses=sorted({row.status for row in result.screening}),
        command=_command(result),
        facts=_facts(result),
        yaml=settings,
        file=_file_name(result),
        download=f"data:application/yaml;base64,{base64.b64encode(settings.encode()).decode()}",
        light=Markup(svg.theme(dark=False)),
        dark=Markup(svg.theme(dark=True)),
        css=Markup((_PAGE / "report.css").read_text(encoding="utf-8")),
        script=Markup((_PAGE / "report.js").read_text(encoding="utf-8")),
    )


def _figure(name: str, figure: Figure) -> dict[str, Any]:
    return {"svg": Markup(svg.inline(figure, name, CAPTIONS[name])), "caption": CAPTIONS[name]}


def _setting(result: StudyResult) -> str:
    recipe = result.config["recipe"]
    text = f"{recipe['model']['name']} on {recipe['data']['name']}, {recipe['epochs']} epochs"
    description = result.config.get("description", "").rstrip(".")
    return f"{description}: {text}." if description else f"{text}."


def _verdict(table: FinalTable | None) -> dict[str, Any]:
    """What is said first; a study without a final table, or an older one, has no phrase of the decision table."""
    if table is None:
        return {"kind": "", "phrase": "No final table was made, so nothing is claimed.", "sentences": []}
    found = table.verdict
    if found is None:
        return {"kind": "", "phrase": table.winner, "sentences": [tables.scoring(table)]}
    others = [text for sentence, meaning in tables.said_of(table)[1:] for text in (sentence, meaning)]
    sentences = [found.explanation, found.sentence, *others, tables.scoring(table)]
    titles = {arm.label: tables.title_of(arm) for arm in table.rows}
    of_whom = f" ({titles[found.finalist]})" if len(table.verdicts) > 1 else ""
    return {"kind": found.kind, "phrase": f"{found.phrase}{of_whom}", "sentences": sentences}


def _tiles(result: StudyResult, table: FinalTable | None) -> list[dict[str, str]]:
    tiles = []
    for arm in table.rows if table else ():
        if arm.role == "finalist" or arm.label == "relu":
            value = f"{percent(arm.summary.mean)} %"
            note = f"sd {percent(arm.summary.sd)}, {arm.summary.n} seeds, lr {arm.learning_rate:g}"
            tiles.append({"title": tables.title_of(arm), "value": value, "note": note})
    if not result.is_search:
        return tiles
    time = duration(sum(row.seconds for row in result.screening))
    return [*tiles, {"title": "candidates", "value": f"{len(result.screening)}", "note": f"{time} of training"}]


def _optimism(table: FinalTable | None) -> str:
    found = table.optimism if table else None
    if found is None:
        return ""
    spread = "" if found.sd is None else f", {found.sd:+.2f} standard deviations of one run"
    return (
        f"The re-run promised a lead over ReLU of {100 * found.promised:+.1f} points, the final runs show "
        f"{100 * found.shown:+.1f}: optimism {found.points:+.1f} points{spread}. What is picked for being best looks "
        "better than it is; the final runs are free of that."
    )


def _arms(result: StudyResult, table: FinalTable | None) -> list[dict[str, Any]]:
    if table is None:
        best = result.ranking[:1]
        return [_card(f"best so far: candidate {row.index}", "finalist", row.restore()) for row in best]
    # An ablation trains with the g of another arm.
    arms = sorted((arm for arm in table.rows if not arm.ablation), key=lambda arm: arm.role != "finalist")
    return [_card(tables.title_of(arm), arm.role, Surrogate.from_json(arm.surrogate)) for arm in arms]


def _card(title: str, role: str, g: Surrogate) -> dict[str, Any]:
    ends = [("far left", g.left_limit), ("far right", g.right_limit)]
    facts = [(name, "does not settle" if limit is None else f"{limit:.3g}") for name, limit in ends]
    numbers = {"gain": g.gain, "at_zero": g.at_zero}
    return {"title": title, "role": role, "mathml": Markup(to_mathml(g.scaled, _DIGITS)), "facts": facts, **numbers}


def _use(table: FinalTable | None) -> str:
    found = [arm.formula for arm in table.rows if arm.role == "finalist"] if table else []
    if not found:
        return ""
    return (
        "import sugarsearch as ss\n\n"
        f'g = ss.surrogate("{found[0]}")\n'
        "ss.apply(model, g)   # your own PyTorch model, in place\n"
        "...                  # train as ever\n"
        "ss.remove(model)     # a plain ReLU network again, with identical outputs"
    )


def _command(result: StudyResult) -> str:
    folder, command = Path(result.folder), "search" if result.is_search else "compare"
    file = shlex.quote(str(folder / _file_name(result)))
    return f"sugarsearch {command} {file} --run {shlex.quote(f'{folder}-again')}"


def _file_name(result: StudyResult) -> str:
    return STUDY if result.is_search else COMPARISON


def _facts(result: StudyResult) -> Sequence[tuple[str, str]]:
    config = result.config
    recipe, final = config["recipe"], config["final"]
    return [
        ("data", f"{recipe['data']['name']}, {recipe['data']['train_limit'] or 'all'} training images"),
        ("model", " ".join([recipe["model"]["name"], *(f"{k}={v}" for k, v in recipe["model"]["options"].items())])),
        ("training", f"{recipe['epochs']} epochs, {recipe['optimizer']['name']}, batches of {recipe['batch_size']}"),
        *(_search_facts(config) if result.is_search else ()),
        ("final runs", f"{final['replicates']} seeds an arm"),
        ("device", result.device),
        ("versions", ", ".join(f"{name} {version}" for name, version in result.versions.items())),
    ]


def _search_facts(config: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    space, search = config["space"], config["search"]
    rates = ", ".join(f"{rate:g}" for rate in search["learning_rates"])
    return [
        ("search space", f"{space['name']}: {space['template']}, {space['gain']} gain"),
        ("screening", f"{search['sampler']}, learning rates {rates}, {search['replicates']} seed(s) each"),
    ]

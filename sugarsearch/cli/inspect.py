"""Commands that look at things without training: show, validate."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sugarsearch.cli.common import Json, Set, print_facts, print_json

if TYPE_CHECKING:
    from sugarsearch.config.baseline import Baseline
    from sugarsearch.config.comparison import ComparisonConfig
    from sugarsearch.config.schema import Recipe, SearchSpace, StudyConfig
    from sugarsearch.symbolic.surrogate import Surrogate


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    app.command("show")(show)
    app.command("validate")(validate)


def show(
    text: Annotated[str, typer.Argument(metavar="NAME|EXPR", help="A known surrogate, or an expression in x.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Give a parameter a value; may be repeated.")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw g and its primitive.")] = None,
    as_json: Json = False,
) -> None:
    """Formula, LaTeX and properties of a surrogate g; a picture with --plot.

    Examples: `sugarsearch show b_silu --set alpha=2 --plot b_silu.png`, `sugarsearch show "sigmoid(4*x)"`
    """
    from sugarsearch.symbolic.library import surrogate

    g = surrogate(text, **_parameters(overrides or []))
    _refuse_no_picture(plot)
    facts = _facts(g)
    if plot is not None:
        from sugarsearch.report.figures import surrogate_figure
        from sugarsearch.report.style import save

        facts["picture"] = str(save(surrogate_figure(g), plot))
    if as_json:
        print_json({"surrogate": g.to_json(), **{name: _json(value) for name, value in facts.items()}})
    else:
        print_facts([(_TITLES.get(name, name), _words(value)) for name, value in facts.items() if value is not None])


def validate(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="A study, a search space or a baseline (a path, or a shipped name), or a comparison."
        ),
    ],
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Check a YAML file without running it; every fault is named with its line.

    Example: `sugarsearch validate studies/quickstart.yaml`
    """
    from sugarsearch.catalog import Catalogue
    from sugarsearch.config import loader, yamlfile
    from sugarsearch.config.comparison import ComparisonConfig
    from sugarsearch.config.schema import SearchSpace, StudyConfig

    homes: tuple[loader.Kind, ...] = ("studies", "search_spaces", "baselines")
    path = loader.find(next((kind for kind in homes if file in loader.shipped(kind)), "studies"), file)
    keys = yamlfile.read(path).value.keys()
    config: SearchSpace | ComparisonConfig | Baseline | StudyConfig
    if "template" in keys:
        config = loader.load(path, SearchSpace, Catalogue(), overrides or ())
        kind, facts = "search space", _space_facts(config)
    elif "surrogates" in keys:
        config = loader.load(path, ComparisonConfig, Catalogue(), overrides or ())
        kind, facts = "comparison", _comparison_facts(config)
    elif "kind" in keys:
        from sugarsearch.reproduction.load import load

        config = load(str(path), overrides or ())
        kind, facts = "baseline", [("kind", config.kind.replace("_", " ")), ("source", config.source)]
    else:
        config = loader.load(path, StudyConfig, Catalogue(), overrides or ())
        kind, facts = "study", _study_facts(config)
    if as_json:
        print_json({"path": str(path), "kind": kind, "config": config.model_dump()})
    else:
        print_facts([("valid", f"{kind} {path}"), *facts])


_TITLES = {
    "at_zero": "g(0)",
    "at_zero_plus": "g(0+)",
    "left_limit": "g(-inf)",
    "right_limit": "g(+inf)",
    "negative_side": "for x < 0",
    "formula": "g(x)",
    "latex": "LaTeX",
    "primitive": "f(x), f' = g",
}


def _facts(g: Surrogate) -> dict[str, Any]:
    primitive = None if g.primitive is None else str(g.primitive.substitute(dict(g.parameters)))
    return {
        "label": g.label,
        "formula": g.formula,
        "primitive": primitive,
        "latex": g.latex(),
        "gain": g.gain,
        "at_zero": g.at_zero,
        "at_zero_plus": g.at_zero_plus,
        "left_limit": g.left_limit,
        "right_limit": g.right_limit,
        "bounds": list(g.bounds),
        "negative_side": g.negative_side,
    }


def _json(value: Any) -> Any:
    """`value`, with null for a number that is not finite."""
    if isinstance(value, list):
        return [_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _words(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else "not finite"
    return " to ".join(map(_words, value)) if isinstance(value, list) else str(value)


def _parameters(overrides: list[str]) -> dict[str, float]:
    from sugarsearch.errors import UsageError

    values: dict[str, float] = {}
    for text in overrides:
        name, _, value = (part.strip() for part in text.partition("="))
        if name in values:
            raise UsageError(f"--set gives {name} twice; give it once.")
        try:
            values[name] = float(value)
        except ValueError:
            name = ""
        if not name:
            raise UsageError(f"--set {text!r} is not allowed; write name=number, such as alpha=1.67.")
    return values


def _refuse_no_picture(plot: Path | None) -> None:
    from sugarsearch.errors import UsageError

    if plot is not None and (plot.suffix.lower() != ".png" or plot.is_dir()):
        raise UsageError(f"--plot {str(plot)!r} is not allowed; give a file whose name ends in .png.")


def _space_facts(space: SearchSpace) -> list[tuple[str, str]]:
    facts = [("template", space.template), ("gain", space.gain)]
    if space.family is not None:
        ranges = (f"{name} in {r.low:g} to {r.high:g}{', log' * r.log}" for name, r in space.parameters.items())
        return [*facts, ("family", f"{space.family}: {'; '.join(ranges)}")]
    return [
        *facts,
        ("operators", ", ".join((*space.unary, *space.binary))),
        ("size", f"depth up to {space.max_depth}, up to {space.max_nodes} nodes"),
    ]


def _recipe_fact(recipe: Recipe) -> tuple[str, str]:
    return "recipe", f"{recipe.model.name} on {recipe.data.name}, {recipe.epochs} epochs, {recipe.optimizer.name}"


def _comparison_facts(config: ComparisonConfig) -> list[tuple[str, str]]:
    final = config.final
    return [
        _recipe_fact(config.recipe),
        ("surrogates", ", ".join(config.surrogates)),
        ("random g's of", config.space.name if config.space else "no space"),
        ("verdict", f"{final.replicates} seeds an arm, learning rates from {_listed(final.learning_rates)}"),
        *([("ablations", ", ".join(final.ablations))] if final.ablations else []),
    ]


def _listed(rates: tuple[float, ...]) -> str:
    return ", ".join(f"{rate:g}" for rate in rates)


def _study_facts(config: StudyConfig) -> list[tuple[str, str]]:
    search, final = config.search, config.final
    screening = search.candidates * len(search.learning_rates) * search.replicates
    # Beside its controls each finalist has a random g of its gain and, where that is not 1, its form at unit gain;
    # the final runs of finalists and ReLU are at their two best rates.
    arms = final.finalists * (3 if config.space.gain == "own" else 2) + len(final.controls)
    tuning = arms * len(final.learning_rates) * final.tuning_replicates
    rerun = (final.rerun.candidates + 1) * final.rerun.replicates
    return [
        _recipe_fact(config.recipe),
        ("space", f"{config.space.name} ({config.space.template}, {config.space.gain} gain)"),
        ("screening", f"{search.candidates} candidates by {search.sampler}: up to {screening:,} training runs"),
        (
            "verdict",
            f"{rerun:,} runs of the best once more; up to {arms} arms: {tuning:,} runs for their learning rates, "
            f"{(arms + final.finalists + 1) * final.replicates:,} on seeds used by nothing before",
        ),
    ]

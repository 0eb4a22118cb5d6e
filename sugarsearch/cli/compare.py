"""The command compare: surrogates set against their controls, on one data set and model or several."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sugarsearch.cli.common import Json, Set, print_json, print_screen, print_sheet, progress_console, result_console
from sugarsearch.cli.study import AllowChanges, Device, Workers, execution_settings

if TYPE_CHECKING:
    from sugarsearch.config.comparison import ComparisonConfig
    from sugarsearch.runs.results import StudyResult


def register(app: typer.Typer) -> None:
    """Add this command to `app`."""
    app.command("compare")(compare)


def compare(
    surrogates: Annotated[
        list[str],
        typer.Argument(
            metavar="SURROGATE...",
            help="Names, expressions in x, files with a g, run folders (the best found there); or one comparison.yaml.",
        ),
    ],
    data: Annotated[
        str | None, typer.Option("--data", help="A data set's name, a folder or package.module:loader.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="A model's name or package.module:factory.")] = None,
    transfer: Annotated[
        list[str] | None,
        typer.Option(
            "--transfer",
            metavar="KEY=VALUE[,...]",
            help="The same on other data or another model, such as data=cifar100,model=vgg16; may be repeated.",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", metavar="DIR", help="Run folder; by default runs/compare_NAMES. An existing run resumes."
        ),
    ] = None,
    device: Device = None,
    workers: Workers = None,
    allow_changes: AllowChanges = False,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Set surrogates against tuned ReLU and other controls; ends with a verdict on each.

    The others are B-SiLU, each surrogate at unit gain, and a random g of its gain.

    Every arm is tuned over learning rates on validation data, then run on fresh seeds and scored on the test split.
    A run folder stands for the best found there, and brings its recipe, budgets and search space.

    Examples:

    - `sugarsearch compare "sigmoid(4*x)" elu --data digits --model deep_narrow_mlp --set recipe.optimizer=adam
      --set final.learning_rates=[0.001,0.003,0.01]`
    - `sugarsearch compare runs/quickstart --transfer data=cifar10 --transfer model=small_conv`: the g that was found,
      on other data and in another model, beside the verdict where it was found

    `--set final.ablations=[adam, grafted]` adds ReLU and each surrogate by Adam, whose steps do not hang on gain, and
    each surrogate with ReLU's gradient norm, tensor by tensor.

    The same command resumes; `sugarsearch search --help` says how to stop and what the run folder keeps.
    """
    from sugarsearch.runs.compose import compose, transferred
    from sugarsearch.runs.folder import TRANSFER

    settings = [*execution_settings(device, workers), *(overrides or ())]
    made = compose(surrogates, data, model, settings)
    others = dict(transferred(made.config, text) for text in transfer or ())
    folder = run or Path("runs") / made.config.name
    results: dict[str, StudyResult] = {}
    if made.home is not None and others:
        results["home"] = made.home
    else:
        results["home"] = _compared(made.config, folder, allow_changes, quiet=as_json)
    for name, config in others.items():
        if not as_json:
            result_console().print(f"\n{name}", markup=False, highlight=False)
        results[name] = _compared(config, folder / TRANSFER / name, allow_changes, quiet=as_json)
    if as_json:
        print_json({name: result.to_json() for name, result in results.items()})
    if others:
        _summarise(results, folder / TRANSFER, quiet=as_json)


def _compared(config: ComparisonConfig, folder: Path, allow_changes: bool, *, quiet: bool) -> StudyResult:
    progress = progress_console()
    # Before the seconds that loading torch takes.
    progress.print(f"run folder: {folder}", markup=False, highlight=False, soft_wrap=True)
    from sugarsearch.cli.signals import stoppable
    from sugarsearch.evaluation.executor import ProcessExecutor
    from sugarsearch.report.build import write_report, written
    from sugarsearch.report.live import watch
    from sugarsearch.runs.comparison import run_comparison

    with stoppable() as stop, watch(progress) as observer:
        result = run_comparison(
            config, folder, observer, partial(ProcessExecutor, stop=stop), allow_changes=allow_changes
        )
    files = write_report(result, folder)
    if not quiet:
        print_screen(result, written(files))
    return result


def _summarise(results: dict[str, StudyResult], folder: Path, *, quiet: bool) -> None:
    """One table over all settings, first where the surrogates come from."""
    from sugarsearch.report.transfer import transfer_sheet, write_transfer

    recipe = results["home"].config["recipe"]
    named = {f"{recipe['model']['name']} on {recipe['data']['name']}": results.pop("home"), **results}
    sheet = transfer_sheet(named)
    files = write_transfer(sheet, folder)
    if not quiet:
        print_sheet(sheet)
        for path in files:
            result_console().print(f"written: {path}", markup=False, highlight=False, soft_wrap=True)

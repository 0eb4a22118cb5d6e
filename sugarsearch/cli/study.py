"""Commands that run or reread a study: search, tune, report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sugarsearch.cli.common import Json, Set, print_json, print_screen, progress_console

if TYPE_CHECKING:
    from sugarsearch.config.schema import StudyConfig
    from sugarsearch.runs.results import StudyResult

Run = Annotated[
    Path | None, typer.Option("--run", metavar="DIR", help="Run folder; by default runs/NAME. An existing run resumes.")
]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:N, in place of the study's.")]
Workers = Annotated[int | None, typer.Option("--workers", help="Processes that train, in place of the study's.")]
AllowChanges = Annotated[
    bool,
    typer.Option("--allow-changes", help="Resume although packages or data differ from those that the run began with."),
]


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    app.command("search")(search)
    app.command("tune")(tune)
    app.command("report")(report)


def search(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A YAML file, or the name of a shipped study.")],
    run: Run = None,
    device: Device = None,
    workers: Workers = None,
    allow_changes: AllowChanges = False,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Run or resume a study; ends with a verdict on fresh seeds, and report.html.

    Example: `sugarsearch search quickstart --workers 2`

    **Stop** with Ctrl-C (or SIGTERM): it ends after the training step at hand; a second Ctrl-C ends it at once.

    **Resume** with the same command. Finished trainings are never run again, whatever ended the search: a stop,
    kill -9, a crash, a full disk or a power cut. Trainings cut off go on from their last checkpoint. With one worker
    and no time limits the results are those of a search that was never stopped. More candidates, other workers
    and other time limits may be given when resuming; any other change of the study is refused, and so are changed
    packages or data without `--allow-changes`.

    **The run folder** must be on a local disk, for network file systems do not keep locks well. It holds:

    - `records.jsonl`: every finished training, on the disk before anything else is done with it. Keep this file: it
      can rebuild `study.db`, and nothing can rebuild it.
    - `study.yaml`, `run.json`: the study; the packages and data that it began with.
    - `study.db`: the candidates told so far; optuna-dashboard may read it at any time.
    - `checkpoints/`: the state of trainings under way; removed at the end.
    - `hall_of_fame.csv`, then `report.html`, `results.json`, `table.md`, `figures/` and `tables/`: what was found.
    - `lock`: says who runs the study. One controller at a time; a lock left behind by a dead one does no harm.
    """
    from sugarsearch.runs.load import load_study

    _run(load_study(study, [*execution_settings(device, workers), *(overrides or ())]), run, as_json, allow_changes)


def tune(
    family: Annotated[str, typer.Argument(metavar="FAMILY", help="A named surrogate, or an expression of x.")],
    data: Annotated[str, typer.Option("--data", help="A data set's name, a folder or package.module:loader.")],
    model: Annotated[str, typer.Option("--model", help="A model's name or package.module:factory.")],
    ranges: Annotated[
        list[str] | None,
        typer.Option("--range", metavar="NAME=LOW:HIGH", help="Tune this parameter in this range; may be repeated."),
    ] = None,
    candidates: Annotated[int, typer.Option("--candidates", help="How many values are tried.")] = 24,
    run: Run = None,
    device: Device = None,
    workers: Workers = None,
    allow_changes: AllowChanges = False,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Find the best alpha (or other parameters) of a family; ends with a curve of score over alpha.

    Example: `sugarsearch tune b_silu --data cifar10 --model small_conv --set recipe.data.train_limit=5000`

    The same command resumes; `sugarsearch search --help` says how to stop and what the run folder keeps.
    """
    from sugarsearch.runs.load import tune_study

    settings = [*execution_settings(device, workers), *(overrides or ())]
    given = _ranges(ranges or ())
    config = tune_study(family, data, model, ranges=given or None, candidates=candidates, overrides=settings)
    _run(config, run, as_json, allow_changes)


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")], as_json: Json = False
) -> None:
    """Rebuild a run's report.html, tables and pictures from its results, and print the verdict.

    Example: `sugarsearch report runs/quickstart`
    """
    from sugarsearch.report.build import write_report
    from sugarsearch.runs.folder import RESULTS
    from sugarsearch.runs.results import StudyResult

    result = StudyResult.load(run / RESULTS)
    _print_result(result, write_report(result, run), as_json)


def _run(config: StudyConfig, run: Path | None, as_json: bool, allow_changes: bool) -> None:
    folder = run or Path("runs") / config.name
    progress = progress_console()
    # Before the seconds that loading torch takes.
    progress.print(f"run folder: {folder}", markup=False, highlight=False, soft_wrap=True)
    from sugarsearch.cli.signals import stoppable
    from sugarsearch.evaluation.executor import ProcessExecutor
    from sugarsearch.report.build import write_report
    from sugarsearch.report.live import watch
    from sugarsearch.search.study import run_study

    with stoppable() as stop, watch(progress) as observer:
        executor = partial(ProcessExecutor, stop=stop)
        result = run_study(config, folder, observer, executor, allow_changes=allow_changes)
    _print_result(result, write_report(result, folder), as_json)


def _print_result(result: StudyResult, files: list[Path], as_json: bool) -> None:
    if as_json:
        print_json({**result.to_json(), "files": [str(path) for path in files]})
        return
    from sugarsearch.report.build import written

    print_screen(result, written(files))


def execution_settings(device: str | None, workers: int | None) -> list[str]:
    """What --device and --workers set, as overrides."""
    settings = {"device": device, "workers": workers}
    return [f"execution.{name}={value}" for name, value in settings.items() if value is not None]


def _ranges(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    from sugarsearch.errors import UsageError

    ranges: dict[str, tuple[float, float]] = {}
    for name, bounds in map(_range, texts):
        if name in ranges:
            raise UsageError(f"--range gives {name} twice; give it once.")
        ranges[name] = bounds
    return ranges


def _range(text: str) -> tuple[str, tuple[float, float]]:
    from sugarsearch.errors import UsageError

    name, _, bounds = text.partition("=")
    low, _, high = bounds.partition(":")
    try:
        return name.strip(), (float(low), float(high))
    except ValueError:
        raise UsageError(f"--range {text!r} is not allowed; write NAME=LOW:HIGH, such as alpha=0.5:4.") from None

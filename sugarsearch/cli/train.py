"""The command train: one training run with one surrogate."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sugarsearch.cli.common import Device, Json, Set, configured, print_json, progress_console

if TYPE_CHECKING:
    from sugarsearch.cli.request import TrainingRequest
    from sugarsearch.training.trainer import EpochReport, TrainingRun


def register(app: typer.Typer) -> None:
    """Add this command to `app`."""
    app.command("train")(train)


def train(
    data: Annotated[str, typer.Option("--data", help="A data set's name, a folder or package.module:loader.")],
    model: Annotated[str, typer.Option("--model", help="A model's name or package.module:factory.")],
    surrogate: Annotated[
        str, typer.Option("--surrogate", metavar="NAME|EXPR", help="The backward pass; relu is plain ReLU.")
    ] = "relu",
    arm: Annotated[
        str,
        typer.Option("--arm", help="sugar: ReLU forward; non_sugar: the primitive forward, its own gradient backward."),
    ] = "sugar",
    learning_rate: Annotated[float, typer.Option("--lr", help="Base learning rate.")] = 0.01,
    epochs: Annotated[int, typer.Option("--epochs", help="Passes over the training data.")] = 10,
    optimizer: Annotated[str, typer.Option("--optimizer", help="sgd, adam or adamw.")] = "sgd",
    seed: Annotated[int, typer.Option("--seed", help="Of the weights and the order of batches.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.pt", help="Save the weights; those of SUGAR are a plain ReLU network's."),
    ] = None,
    device: Device = "auto",
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Train one network, and score it on the validation split after each epoch.

    Example: `sugarsearch train --surrogate "sigmoid(4*x)" --data digits --model deep_narrow_mlp --optimizer adam
    --lr 0.003 --epochs 20 --out weights.pt`
    """
    from sugarsearch.cli.request import TrainingRequest
    from sugarsearch.runs.training import epochs_of, save_weights

    recipe = {"data": data, "model": model, "optimizer": optimizer, "epochs": epochs}
    value = {
        "surrogate": surrogate,
        "arm": arm,
        "learning_rate": learning_rate,
        "seed": seed,
        "recipe": recipe,
        "execution": {"device": device},
    }
    request = configured(TrainingRequest, value, overrides or ())
    _refuse_unwritable(out)
    run = _run_of(request)
    reports = []
    for report in epochs_of(run, request.recipe.epochs):
        reports.append(report)
        if not as_json:
            print(epoch_line(report, request.recipe.epochs), flush=True)
    if out is not None:
        save_weights(run.state(0), out)
        what = "a plain ReLU network" if request.arm == "sugar" else f"a network whose activation is {surrogate}"
        progress_console().print(f"weights of {what}: {out}", markup=False, soft_wrap=True)
    if as_json:
        print_json(_summary(request, reports, out))


def _run_of(request: TrainingRequest) -> TrainingRun:
    from sugarsearch.nn.admission import admit
    from sugarsearch.runs.training import make_run, open_data
    from sugarsearch.symbolic.library import surrogate
    from sugarsearch.training.network import Member

    g = surrogate(request.surrogate)
    admit(g)  # before the data, which may take minutes
    data = open_data(request.recipe, request.execution)
    member = Member(g, request.seed, request.arm)
    return make_run(request.recipe, request.learning_rate, member, data, request.execution.mode)


def epoch_line(report: EpochReport, epochs: int) -> str:
    """What an epoch of `epochs` has reached, in one line."""
    return (
        f"epoch {report.epoch:>{len(str(epochs))}} of {epochs}: validation accuracy {100 * report.accuracy:5.1f} %, "
        f"loss {report.loss:.4f}, training loss {report.train_loss:.4f}, "
        f"dead units {100 * report.dead_units:.1f} %, sparsity {100 * report.sparsity:.1f} %"
    )


def _summary(request: TrainingRequest, reports: list[EpochReport], out: Path | None) -> dict[str, Any]:
    return {
        **request.model_dump(mode="json"),
        "epochs": [dataclasses.asdict(report) for report in reports],
        "weights": None if out is None else str(out),
    }


def _refuse_unwritable(out: Path | None) -> None:
    """By writing there: rights alone do not tell (a read-only disk, a name too long), and training costs hours."""
    from sugarsearch.errors import UsageError

    if out is None:
        return
    try:
        if out.is_dir():
            raise IsADirectoryError(None, "Is a folder")
        probe = out.with_name(f".{out.name}.{os.getpid()}")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"--out {str(out)!r} cannot be written ({error.strerror}); give a file in a folder that exists."
        ) from None

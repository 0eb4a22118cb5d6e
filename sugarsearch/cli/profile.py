"""The command profile: what the units of a network do, what that means, and what might help."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sugarsearch.cli.common import (
    Device,
    Json,
    Set,
    configured,
    print_json,
    print_sheet,
    progress_console,
    result_console,
)
from sugarsearch.cli.train import epoch_line

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sugarsearch.analysis.advice import Beginning, Remedy
    from sugarsearch.cli.request import TrainingRequest
    from sugarsearch.data.device import DeviceArrays
    from sugarsearch.report.profile import Moment, Outcome
    from sugarsearch.report.sheets import Sheet
    from sugarsearch.runs.training import Data
    from sugarsearch.training.trainer import EpochReport, TrainingRun

PROBED = 2
"""Batches on which other beginnings are counted: enough for shares of a percent, and cheap."""


def register(app: typer.Typer) -> None:
    """Add this command to `app`."""
    app.command("profile")(profile)


def profile(
    data: Annotated[str, typer.Option("--data", help="A data set's name, a folder or package.module:loader.")],
    model: Annotated[str, typer.Option("--model", help="A model's name or package.module:factory.")],
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE.pt", help="As `sugarsearch train --out` writes them.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Train first, and profile after each pass over the training data.")
    ] = None,
    surrogate: Annotated[
        str, typer.Option("--surrogate", metavar="NAME|EXPR", help="The backward pass of the training.")
    ] = "relu",
    learning_rate: Annotated[float, typer.Option("--lr", help="Base learning rate of the training.")] = 0.01,
    optimizer: Annotated[str, typer.Option("--optimizer", help="sgd, adam or adamw.")] = "sgd",
    seed: Annotated[int, typer.Option("--seed", help="Of the weights and the order of batches.")] = 0,
    split: Annotated[
        Literal["train", "validation"], typer.Option("--split", help="Whose samples the units are watched on.")
    ] = "train",
    samples: Annotated[
        int | None, typer.Option("--samples", min=1, help="So many of them; all where there are fewer.")
    ] = None,
    remedies: Annotated[
        bool, typer.Option("--try", help="Train with other surrogates, activations and biases too; needs --epochs.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write tables, numbers and pictures.")
    ] = None,
    device: Device = "auto",
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Count which units of a network are dead, which are always on, and how often the others fire.

    Without --weights and --epochs the network is looked at as it begins. A unit is a channel of an image, else an
    entry of the last dimension; it is dead if it is above 0 for no sample.

    Examples:

    - `sugarsearch profile --data digits --model deep_narrow_mlp`
    - `sugarsearch profile --data digits --model deep_narrow_mlp --weights weights.pt --out profile`
    - `sugarsearch profile --data digits --model deep_narrow_mlp --optimizer adam --epochs 10 --try`
    """
    from sugarsearch.cli.request import TrainingRequest

    _refuse_contradictions(weights, epochs, remedies, overrides or ())
    value = {
        "surrogate": surrogate,
        "learning_rate": learning_rate,
        "seed": seed,
        "recipe": {"data": data, "model": model, "optimizer": optimizer, "epochs": 1 if epochs is None else epochs},
        "execution": {"device": device},
    }
    request = configured(TrainingRequest, value, overrides or ())
    subject = _opened(request, weights, epochs is not None, split, samples)
    _refuse_unwritable(out)
    reports: list[EpochReport] = []
    moments = list(_moments(subject, reports))
    outcomes = _outcomes(subject, reports[-1]) if remedies else []
    found = _found(subject, moments, outcomes)
    files = [] if out is None else _write(subject, found, out)
    if as_json:
        print_json({**_document(subject, found), "files": [str(path) for path in files]})
    else:
        _show(found, files)


@dataclass(frozen=True)
class Inputs:
    """The first `count` inputs in batches, normalised anew each time: what stays on the device is bytes."""

    arrays: DeviceArrays
    count: int

    def __iter__(self) -> Iterator[Tensor]:
        import torch

        from sugarsearch.training.trainer import SCORING_BATCH

        for indices in torch.split(torch.arange(self.count, device=self.arrays.device), SCORING_BATCH):
            yield self.arrays.batch(indices)


@dataclass(frozen=True)
class Subject:
    """What is looked at.

    Attributes:
        request, data: of the training.
        begin: makes the plain ReLU network at initialisation.
        loaded: the network with the weights that were given.
        trains: whether it is trained first.
        split: that `batches`, the inputs which its units are watched on, are of.
    """

    request: TrainingRequest
    data: Data
    begin: Callable[[], nn.Module]
    loaded: nn.Module | None
    trains: bool
    split: str
    batches: Inputs

    @property
    def name(self) -> str:
        """Of the model and the data."""
        return f"{self.request.recipe.model.name} on {self.request.recipe.data.name}"


@dataclass(frozen=True)
class Found:
    """Profiles, what they say, and what the remedies gave."""

    moments: Sequence[Moment]
    beginning: Beginning
    outcomes: Sequence[Outcome]
    sheets: Sequence[Sheet]
    said: Sequence[str]


def _opened(request: TrainingRequest, weights: Path | None, trains: bool, split: str, samples: int | None) -> Subject:
    from sugarsearch.cli.opened import plain_network, read_weights
    from sugarsearch.nn.admission import admit
    from sugarsearch.runs.training import open_data
    from sugarsearch.symbolic.library import surrogate

    state = None if weights is None else read_weights(weights)  # what cannot be used is said before the data is opened
    admit(surrogate(request.surrogate))
    data = open_data(request.recipe, request.execution)
    part = data.train if split == "train" else data.validation
    count = min(samples or len(part), len(part))  # it lies in random order: the first are a fair sample
    loaded = None
    if weights is not None and state is not None:
        loaded = plain_network(weights, state, request.recipe.model, part.shape, part.classes, data.device)
    return Subject(request, data, partial(_plain, request, data), loaded, trains, split, Inputs(part, count))


def _plain(request: TrainingRequest, data: Data) -> nn.Module:
    """The request's model at initialisation, with plain ReLU."""
    from torch import nn

    from sugarsearch.models.build import build_seeded

    shape, classes = data.train.shape, data.train.classes
    return build_seeded(request.recipe.model, shape, classes, request.seed, nn.ReLU).to(data.device)


def _moments(subject: Subject, reports: list[EpochReport]) -> Iterator[Moment]:
    """The profile at initialisation, then that of the weights or those after each epoch, whose reports are added."""
    from sugarsearch.analysis.profile import profile
    from sugarsearch.report.profile import Moment
    from sugarsearch.runs.training import epochs_of

    network = subject.begin()
    yield Moment(0, profile(network, subject.batches))
    if subject.loaded is not None:
        yield Moment(None, profile(subject.loaded, subject.batches))
    if subject.trains:
        epochs = subject.request.recipe.epochs
        run = _run_of(subject)
        for report in epochs_of(run, epochs):
            progress_console().print(epoch_line(report, epochs), markup=False, highlight=False, soft_wrap=True)
            reports.append(report)
            network.load_state_dict(run.state(0))
            yield Moment(report.epoch, profile(network, subject.batches))


def _outcomes(subject: Subject, own: EpochReport) -> list[Outcome]:
    """What each way of training reached; `own` is the last epoch of the way that was asked for."""
    from sugarsearch.analysis.advice import REMEDIES, Remedy
    from sugarsearch.report.profile import Outcome
    from sugarsearch.symbolic.library import surrogate

    g = surrogate(subject.request.surrogate)
    listed = (one for one in REMEDIES if one.arm == "sugar" and not one.bias)
    same = (one for one in listed if surrogate(one.surrogate).identity == g.identity and g.scale == 1)
    asked = next(same, Remedy(f"SUGAR: {g.label}", subject.request.surrogate))
    ways = dict.fromkeys((REMEDIES[0], asked, *REMEDIES[1:]))
    return [Outcome(way.title, own.dead_units, own.accuracy) if way == asked else _tried(subject, way) for way in ways]


def _tried(subject: Subject, remedy: Remedy) -> Outcome:
    from sugarsearch.config.objects import is_object_name
    from sugarsearch.errors import NothingFinishedError
    from sugarsearch.report.profile import Outcome
    from sugarsearch.runs.training import epochs_of

    if remedy.arm == "non_sugar" and is_object_name(subject.request.recipe.model.name):
        return Outcome(remedy.title, None, None, "only with models of the catalogue")
    progress_console().print(f"trying {remedy.title}", markup=False, highlight=False, soft_wrap=True)
    try:
        *_, last = epochs_of(_run_of(subject, remedy), subject.request.recipe.epochs)
    except NothingFinishedError:
        return Outcome(remedy.title, None, None, "diverged")
    return Outcome(remedy.title, last.dead_units, last.accuracy)


def _run_of(subject: Subject, remedy: Remedy | None = None) -> TrainingRun:
    """The run that was asked for, or, eagerly, that of a remedy."""
    from sugarsearch.analysis.advice import raise_biases
    from sugarsearch.runs.training import make_run
    from sugarsearch.symbolic.library import surrogate
    from sugarsearch.training.network import Member

    request = subject.request
    recipe, rate, data = request.recipe, request.learning_rate, subject.data
    if remedy is None:
        member = Member(surrogate(request.surrogate), request.seed)
        return make_run(recipe, rate, member, data, request.execution.mode)
    member = Member(surrogate(remedy.surrogate), request.seed, remedy.arm)
    factory = (lambda: raise_biases(subject.begin(), remedy.bias)) if remedy.bias else None
    return make_run(recipe, rate, member, data, "eager", factory)


def _found(subject: Subject, moments: Sequence[Moment], outcomes: Sequence[Outcome]) -> Found:
    from sugarsearch.analysis.advice import advise, look_at_beginning
    from sugarsearch.report.profile import layers_sheet, remedies_sheet
    from sugarsearch.symbolic.library import surrogate

    request = subject.request
    last, trained = moments[-1], len(moments) > 1
    probe = list(itertools.islice(subject.batches, PROBED))
    beginning = look_at_beginning(subject.begin, moments[0].layers, probe, request.seed)
    g = surrogate(request.surrogate)
    said = advise(last.layers, beginning, g, trained=trained, seed_known=subject.trains)
    when = "at initialisation" if not trained else "with the given weights"
    if subject.trains:
        when = f"after {last.epoch} epochs of {g.label}"
    title = f"{subject.name}, {when}, over {last.layers[0].samples} samples ({subject.split})"
    sheets = [layers_sheet(title, last)]
    if outcomes:
        scored = len(subject.data.validation)
        sheets.append(remedies_sheet(f"{subject.name}: other ways of training, seed {request.seed}", outcomes))
        said.append(_noise(outcomes, scored))
    return Found(moments, beginning, outcomes, sheets, said)


def _noise(outcomes: Sequence[Outcome], scored: int) -> str:
    from sugarsearch.analysis.advice import sampling_noise
    from sugarsearch.training.trainer import SCORING_BATCH

    noise = sampling_noise([one.accuracy for one in outcomes if one.accuracy is not None], scored)
    return (
        f"One seed each: differences in accuracy below {100 * noise:.1f} points are noise of the {scored} validation "
        "samples alone, and another seed may change more, so no way is shown to be better (`sugarsearch compare` "
        f"can). Dead units there are those never above 0 for the first {min(scored, SCORING_BATCH)} validation samples."
    )


def _document(subject: Subject, found: Found) -> dict[str, Any]:
    from sugarsearch.evaluation.bench import device_name, versions

    left_out = None if subject.trains else {"recipe": {"epochs"}}
    return {
        **subject.request.model_dump(mode="json", exclude=left_out),
        "versions": dict(versions()),
        "device": device_name(subject.data.device),
        "split": subject.split,
        "profiles": [
            {"epoch": moment.epoch, "layers": [layer.to_json() for layer in moment.layers]} for moment in found.moments
        ],
        "at_initialisation": found.beginning.to_json(),
        "advice": list(found.said),
        "remedies": [asdict(outcome) for outcome in found.outcomes],
    }


def _write(subject: Subject, found: Found, out: Path) -> list[Path]:
    from sugarsearch.report.profile import write

    return write(out, found.sheets, found.said, found.moments, _document(subject, found))


def _show(found: Found, files: Sequence[Path]) -> None:
    for sheet in found.sheets:
        print_sheet(sheet)
    console = result_console()
    console.print()
    for sentence in found.said:
        console.print(f"- {sentence}", markup=False, highlight=False)
    for path in files:
        console.print(f"written: {path}", markup=False, highlight=False, soft_wrap=True)


def _refuse_contradictions(weights: Path | None, epochs: int | None, remedies: bool, overrides: Sequence[str]) -> None:
    from sugarsearch.errors import UsageError

    if weights is not None and epochs is not None:
        raise UsageError("--weights looks at weights as they are, --epochs trains new ones; give one of them.")
    if epochs is None and remedies:
        raise UsageError("--try trains with what might help; say for how many epochs: --epochs N.")
    if epochs is None and any(text.partition("=")[0].strip() == "recipe.epochs" for text in overrides):
        raise UsageError("--set recipe.epochs: nothing is trained without --epochs; give --epochs N.")


def _refuse_unwritable(out: Path | None) -> None:
    """Before training, which may take hours, by writing there: rights alone do not tell."""
    from sugarsearch.errors import UsageError

    if out is None:
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UsageError(f"--out {str(out)!r} cannot be written to ({error.strerror}); give another folder.") from None

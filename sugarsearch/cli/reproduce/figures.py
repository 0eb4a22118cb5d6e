"""Reproduces figures that are of no table: of functions, and of networks that are trained for them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sugarsearch.cli.common import print_json, print_sheet, progress_console, result_console
from sugarsearch.cli.reproduce.asked import Asked
from sugarsearch.cli.reproduce.output import print_end

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import nn

    from sugarsearch.analysis.landscape import Landscape
    from sugarsearch.analysis.profile import LayerProfile
    from sugarsearch.config.figure import FunctionsBaseline, LandscapesBaseline, TrainedBaseline
    from sugarsearch.evaluation.stop import Stop
    from sugarsearch.report.sheets import Sheet
    from sugarsearch.reproduction.figures import Net
    from sugarsearch.runs.training import Data
    from sugarsearch.training.trainer import EpochReport

    Drawn = tuple[list[Sheet], dict[str, Figure]]
    Seen = Sequence[tuple[Net, dict[str, Any]]]

T = TypeVar("T")


def draw(config: FunctionsBaseline, asked: Asked) -> None:
    """Draw functions and their derivatives."""
    from sugarsearch.report.figures import functions_figure
    from sugarsearch.report.style import save
    from sugarsearch.symbolic.library import surrogate

    path = save(functions_figure([surrogate(text) for text in config.surrogates]), asked.folder / f"{config.name}.png")
    if asked.as_json:
        print_json({"title": asked.title, "figures": [str(path)]})
    else:
        print(f"written: {path}")


def run(config: TrainedBaseline, asked: Asked) -> None:
    """Train networks and look at them, as far as that has not been done, and show all that is known."""
    from sugarsearch.reproduction.figures import nets_of

    nets = nets_of(config, asked.folder)
    if not asked.show:
        _make([net for net in nets if net.seen() is None], config, asked)
    _show(config, nets, asked)


def _make(missing: Sequence[Net], config: TrainedBaseline, asked: Asked) -> None:
    from sugarsearch.cli.signals import stoppable
    from sugarsearch.reproduction.figures import train
    from sugarsearch.runs.folder import held
    from sugarsearch.runs.training import open_data

    if not missing:
        return
    with held(asked.folder), stoppable() as stop:
        data = open_data(config.recipe, config.execution)
        for net in missing:
            train(net, data, stop, partial(_say_epoch, net))
            net.keep(_look(net, data, stop), data)


@dataclass(frozen=True)
class _Until(Generic[T]):
    """Batches that can be gone through again and again, until somebody asks to stop."""

    batches: Iterable[T]
    stop: Stop

    def __iter__(self) -> Iterator[T]:
        for batch in self.batches:
            self.stop.check()
            yield batch


def _look(net: Net, data: Data, stop: Stop) -> dict[str, Any]:
    """What the figure shows of the plain ReLU network with the weights of `net`, on the training split."""
    from sugarsearch.cli.opened import plain_network, read_weights
    from sugarsearch.config.figure import LandscapesBaseline
    from sugarsearch.errors import RunError, UsageError

    config, arrays = net.baseline, data.train
    try:
        state = read_weights(net.weights)
    except UsageError:
        raise RunError(f"{net.weights} is damaged. Delete it, and give the same command again to train anew.") from None
    network = plain_network(net.weights, state, config.recipe.model, arrays.shape, arrays.classes, data.device)
    if isinstance(config, LandscapesBaseline):
        return _landscape(net.title, config, network, data, stop)
    return _profile(config, network, data, stop)


def _profile(config: TrainedBaseline, network: nn.Module, data: Data, stop: Stop) -> dict[str, Any]:
    from sugarsearch.analysis.profile import profile
    from sugarsearch.cli.profile import Inputs

    inputs = Inputs(data.train, min(config.samples, len(data.train)))
    return {"layers": [dataclasses.asdict(layer) for layer in profile(network, _Until(inputs, stop))]}


def _landscape(title: str, config: LandscapesBaseline, network: nn.Module, data: Data, stop: Stop) -> dict[str, Any]:
    from sugarsearch.analysis.landscape import landscape
    from sugarsearch.cli.landscape import Batches

    batches = Batches(data.train, config.samples)
    made = landscape(
        network,
        _Until(batches, stop),
        points=config.points,
        reach=config.reach,
        seed=config.seed,
        normalise=config.normalise,
        progress=lambda done: _say(f"{title}: row {done} of {config.points}"),
    )
    return {"samples": batches.count, **made.to_json()}


def _say_epoch(net: Net, report: EpochReport) -> None:
    from sugarsearch.cli.train import epoch_line

    _say(f"{net.title}: {epoch_line(report, net.baseline.recipe.epochs)}")


def _say(line: str) -> None:
    progress_console().print(line, markup=False, highlight=False, soft_wrap=True)


def _show(config: TrainedBaseline, nets: Sequence[Net], asked: Asked) -> None:
    from sugarsearch.config.figure import LandscapesBaseline
    from sugarsearch.report.reproduction import write_tables
    from sugarsearch.reproduction.figures import NUMBERS

    looked = [(net, net.seen()) for net in nets]
    known = [(net, seen) for net, seen in looked if seen is not None]
    said = [*(f"{net.title}: not run" for net, seen in looked if seen is None), *config.notes]
    sheets, pictures = (_landscapes if isinstance(config, LandscapesBaseline) else _profiles)(known)
    files = write_tables(asked.title, sheets, said, pictures, asked.folder) if known else []
    if asked.as_json:
        numbers = {net.text: None if seen is None else str(net.numbers) for net, seen in looked}
        print_json({"title": asked.title, "numbers": numbers, "cautions": said, "files": [str(file) for file in files]})
        return
    result_console().print(asked.title, markup=False, highlight=False)
    for sheet in sheets:
        print_sheet(sheet)
    print_end(said, asked.folder / NUMBERS, files, ())


def _profiles(known: Seen) -> Drawn:
    """A table and a picture of each network."""
    from sugarsearch.report.profile import Moment, histograms_figure, layers_sheet

    sheets, pictures = [], {}
    for net, seen in known:
        epochs, layers = net.baseline.recipe.epochs, [_layer(layer) for layer in seen["layers"]]
        title = f"{net.title}: after {epochs} epochs, over {layers[0].samples} samples (train)"
        name = f"profile_{net.name}"
        sheets.append(dataclasses.replace(layers_sheet(title, Moment(epochs, layers)), name=name))
        pictures[name] = histograms_figure(layers)
    return sheets, pictures


def _layer(seen: dict[str, Any]) -> LayerProfile:
    from sugarsearch.analysis.profile import LayerProfile

    return LayerProfile(**{**seen, "fired": tuple(seen["fired"]), "linear": tuple(seen["linear"])})


def _landscapes(known: Seen) -> Drawn:
    """A table of all networks, and pictures in which they stand side by side on one scale."""
    import numpy as np

    from sugarsearch.report.landscape import contour_figure, surface_figure
    from sugarsearch.report.sheets import Column, Sheet
    from sugarsearch.report.text import percent

    named = [(net.title, _restored(seen)) for net, seen in known]
    if not named:
        return [], {}
    losses = [Column(name, title, "number", "{:.4g}".format) for name, title in _LOSSES.items()]
    columns = (Column("surrogate", "surrogate"), Column("accuracy", "accuracy %", "number", percent), *losses)
    rows = []
    for title, made in named:
        loss, accuracy = made.centre
        finite = made.losses[np.isfinite(made.losses)]
        ends = (float(finite.min()), float(finite.max())) if finite.size else (None, None)
        rows.append([title, accuracy, loss if math.isfinite(loss) else None, *ends])
    sheet = Sheet("landscapes", "The networks themselves, and the losses on the plane around them", columns, rows)
    return [sheet], {"contour": contour_figure(named), "surface": surface_figure(named)}


_LOSSES = {"loss": "loss", "lowest": "on the plane: lowest", "highest": "highest"}


def _restored(seen: dict[str, Any]) -> Landscape:
    import numpy as np

    from sugarsearch.analysis.landscape import Landscape

    losses, accuracies = (np.array(seen[name], dtype=np.float64) for name in ("losses", "accuracies"))  # None is NaN
    return Landscape(tuple(seen["alphas"]), tuple(seen["betas"]), losses, accuracies)

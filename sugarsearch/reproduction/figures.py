"""The networks that a figure is of: each is trained once, and its weights and what was seen of it are kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from sugarsearch.config.figure import TrainedBaseline
from sugarsearch.errors import NothingFinishedError, RunError
from sugarsearch.evaluation.bench import device_name, versions
from sugarsearch.evaluation.jobs import recipe_hash
from sugarsearch.evaluation.stop import Stop
from sugarsearch.nn.admission import admit
from sugarsearch.runs.results import write_atomically
from sugarsearch.runs.training import Data, epochs_of, make_run, save_weights
from sugarsearch.symbolic.library import surrogate
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.training.network import Member
from sugarsearch.training.trainer import CutShortError, EpochReport

WEIGHTS: Final = "weights"
NUMBERS: Final = "numbers"
"""The folders of what is kept."""

_SEEN: Final = {"kind", "samples", "points", "reach", "normalise"}
_SHORT: Final = 8  # digits of an identity that tell files apart


@dataclass(frozen=True)
class Net:
    """A network of a figure: the baseline's model, trained with the surrogate that `text` says.

    Files are named by all that was asked for, so other settings have other files, and each is found again.
    """

    baseline: TrainedBaseline
    text: str
    folder: Path

    @cached_property
    def surrogate(self) -> Surrogate:
        """g."""
        return surrogate(self.text)

    @property
    def title(self) -> str:
        """For people."""
        return self.surrogate.label

    @cached_property
    def identity(self) -> str:
        """Names the training by recipe, learning rate, seed and g; where the data lies is no part of that."""
        baseline = self.baseline
        g = self.surrogate.to_json()
        return _digest([recipe_hash(baseline.recipe), baseline.learning_rate, baseline.seed, g])

    @cached_property
    def sight(self) -> str:
        """Names what is seen of the network, by its training and by where one looks."""
        return _digest([self.identity, self.baseline.model_dump(mode="json", include=_SEEN)])

    @property
    def name(self) -> str:
        """Of its files."""
        return self._named(self.identity)

    @property
    def weights(self) -> Path:
        """The file of its weights, as of a plain ReLU network."""
        return self.folder / WEIGHTS / f"{self.name}.pt"

    @property
    def numbers(self) -> Path:
        """The file of what was seen of it."""
        return self.folder / NUMBERS / f"{self._named(self.sight)}.json"

    def _named(self, identity: str) -> str:
        words = re.sub("[^a-z0-9]+", "_", self.text.lower()).strip("_")
        return f"{words[:40]}_{identity[:_SHORT]}"

    @property
    def trained(self) -> bool:
        """Whether its weights are kept.

        Raises:
            RunError: what is said beside them is damaged.
        """
        return self.weights.is_file() and _kept(self.weights.with_suffix(".json"), self.identity) is not None

    def seen(self) -> dict[str, Any] | None:
        """What was seen of it, as it was given to `keep`; None where nothing was.

        Raises:
            RunError: the file is damaged.
        """
        return _kept(self.numbers, self.sight)

    def keep(self, seen: Mapping[str, Any], data: Data) -> None:
        """Keep what was `seen`, plain data without NaN, of the network on `data`.

        Raises:
            RunError: it cannot be written.
        """
        _write(self.numbers, self.sight, {**_origin(self, data), **seen})


def nets_of(baseline: TrainedBaseline, folder: Path) -> list[Net]:
    """Every network of the figure.

    Raises:
        AdmissionError: one of its surrogates must not be trained with.
    """
    nets = [Net(baseline, text, folder) for text in baseline.surrogates]
    for net in nets:
        admit(net.surrogate)
    return nets


def train(net: Net, data: Data, stop: Stop, on_epoch: Callable[[EpochReport], None] = lambda report: None) -> None:
    """Train `net` and keep its weights; nothing where they are kept.

    Raises:
        NothingFinishedError: it diverged.
        RunError: the weights cannot be written, or what is said beside kept ones is damaged.
        StoppedError: as `stop` asks.
    """
    if net.trained:
        return
    baseline, epochs = net.baseline, net.baseline.recipe.epochs
    member = Member(net.surrogate, baseline.seed)
    run = make_run(baseline.recipe, baseline.learning_rate, member, data, baseline.execution.mode)
    reports = []
    try:
        for report in epochs_of(run, epochs, lambda: stop.requested):
            reports.append(report)
            on_epoch(report)
    except CutShortError:
        stop.check()
        raise
    except NothingFinishedError as error:
        raise NothingFinishedError(f"{net.title}: {error}") from None
    save_weights(run.state(0), net.weights)
    # After the weights: where this is, they are whole.
    course = {"epochs": [dataclasses.asdict(report) for report in reports]}
    _write(net.weights.with_suffix(".json"), net.identity, {**_origin(net, data), **course})


def _origin(net: Net, data: Data) -> dict[str, Any]:
    asked = net.baseline.model_dump(mode="json", include={"recipe", "learning_rate", "seed", *_SEEN})
    return {
        "surrogate": net.text,
        "settings": asked,
        "versions": dict(versions()),
        "device": device_name(data.device),
    }


def _write(path: Path, identity: str, content: Mapping[str, Any]) -> None:
    write_atomically(path, json.dumps({"identity": identity, **content}, indent=1, allow_nan=False) + "\n")


def _kept(path: Path, identity: str) -> dict[str, Any] | None:
    """The content of `path`; None where it is not there, or of another identity."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise RunError(f"{path} cannot be used ({error}). Delete it, and give the same command again.") from None
    return content if isinstance(content, dict) and content.get("identity") == identity else None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()

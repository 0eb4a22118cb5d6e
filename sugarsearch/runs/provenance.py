"""What a run began with: package versions and data; and what of them has changed since, on purpose."""

from __future__ import annotations

import dataclasses
import datetime
import json
import platform
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from sugarsearch.config.comparison import ComparisonConfig
from sugarsearch.config.schema import StudyConfig
from sugarsearch.errors import RunError
from sugarsearch.runs.folder import file_of, identity
from sugarsearch.runs.results import write_atomically

RUN: Final = "run.json"
PACKAGES: Final = ("sugarsearch", "torch", "numpy", "optuna", "sympy")


@dataclass(frozen=True)
class Provenance:
    """What a run was made with.

    Attributes:
        run: names this run; the database carries it too, so that another run's is told apart.
        study: `folder.identity` of its study or comparison.
        versions: of the packages that its results may hang on, and of Python (major.minor).
        data: fingerprint of the training and validation data.
        changes: every change of versions or data that the run went on with:
            {"when": ISO date and time in UTC, "what": "torch 2.14.0 became 2.15.0"}.
    """

    run: str
    study: str
    versions: dict[str, str]
    data: str
    changes: tuple[Mapping[str, str], ...] = ()

    @property
    def caution(self) -> str:
        """What readers of the results should know; empty where nothing has changed."""
        what = "; ".join(f"{change['what']} on {change['when'][:10]}" for change in self.changes)
        return what and f"the run went on with changes, so its numbers may not all compare: {what}"

    def save(self, folder: Path) -> None:
        """Write the run folder's `run.json`.

        Raises:
            RunError: it cannot be written.
        """
        write_atomically(folder / RUN, json.dumps(dataclasses.asdict(self), indent=1) + "\n")


def settled(folder: Path, config: StudyConfig | ComparisonConfig, data: str, allow_changes: bool) -> Provenance:
    """What the run in `folder` was made with, or is being begun with now; nothing is written.

    Args:
        folder: the run folder; one without `run.json` is begun now.
        config: the study or comparison.
        data: fingerprint of the training and validation data as they are.
        allow_changes: go on where versions or data have changed; the changes are then noted.

    Raises:
        RunError: they have changed and may not (the text is the difference), or `run.json` is damaged.
    """
    now = Provenance(uuid.uuid4().hex, identity(config), versions(), data)
    before = load(folder)
    if before is None:
        return now
    if before.study != now.study and before.versions["sugarsearch"] == now.versions["sugarsearch"]:
        message = f"{folder}: {file_of(config)} is no longer what the run was begun with. Give another run folder."
        raise RunError(message)
    differences = _differences(before, now)
    if differences and not allow_changes:
        changed = "\n".join(f"  {name}: the run has {old}, here is {new}" for name, old, new in differences)
        raise RunError(
            f"{folder} was begun with other packages or data:\n{changed}\n"
            "Restore them to resume. Or go on with --allow-changes (from Python: allow_changes=True): what is\n"
            "finished is kept, and the results say what has changed."
        )
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    changes = [{"when": when, "what": f"{name} {old} became {new}"} for name, old, new in differences]
    return dataclasses.replace(now, run=before.run, changes=(*before.changes, *changes))


def versions() -> dict[str, str]:
    """Of Python and of the packages that a study's results may hang on."""
    return {
        **{package: version(package) for package in PACKAGES},
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


def _differences(before: Provenance, now: Provenance) -> list[tuple[str, str, str]]:
    """Name, value then and value now of what has changed."""
    old, new = ({**made.versions, "data fingerprint": made.data} for made in (before, now))
    pairs = ((name, old.get(name, "none"), new.get(name, "none")) for name in {**old, **new})
    return [(name, then, here) for name, then, here in pairs if then != here]


def load(folder: Path) -> Provenance | None:
    """What the run in `folder` was begun with; None where it does not say.

    Raises:
        RunError: its `run.json` is damaged, or cannot be read.
    """
    path = folder / RUN
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        changes = tuple({"when": str(c["when"]), "what": str(c["what"])} for c in value.pop("changes"))
        versions = {name: str(text) for name, text in value.pop("versions").items()}
        found = Provenance(**value, versions=versions, changes=changes)
        if "sugarsearch" not in versions or not all(isinstance(t, str) for t in (found.run, found.study, found.data)):
            raise ValueError("an entry is missing or is no text")
        return found
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}. Give rights, and resume.") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RunError(
            f"{path} is damaged ({type(error).__name__}: {error}). Restore it; or delete it to resume with the\n"
            "packages and data that are here, unchecked against those that the run began with."
        ) from None

"""Opens what commands are given beside options: weights that `sugarsearch train --out` wrote."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sugarsearch.config.schema import ModelConfig
from sugarsearch.errors import UsageError
from sugarsearch.models.build import build_seeded

State = dict[str, Tensor]

_WANTED = "Give a file that `sugarsearch train --out` wrote."


def read_weights(path: Path) -> State:
    """The state_dict in a file; nothing in it is run.

    Raises:
        UsageError: there is no such file, or it holds something else, or weights that are not finite.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise UsageError(f"weights {str(path)!r}: no such file. {_WANTED}")
    content = io.BytesIO(path.read_bytes())
    try:
        state = torch.load(content, map_location="cpu", weights_only=True)
    except Exception:  # what torch raises hangs on where the bytes are not what it expects
        raise UsageError(f"weights {str(path)!r}: not a checkpoint of torch, or a damaged one. {_WANTED}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()) or not state:
        raise UsageError(f"weights {str(path)!r}: a checkpoint, but no state_dict of tensors by name. {_WANTED}")
    if not all(bool(value.isfinite().all()) for value in state.values()):
        raise UsageError(f"weights {str(path)!r}: some are not finite, so its run diverged. Give others.")
    return state


def plain_network(
    path: Path, state: State, model: ModelConfig, shape: tuple[int, ...], classes: int, device: torch.device
) -> nn.Module:
    """The ReLU network of `model` with the weights of `state`, which came from `path`; on `device`.

    Raises:
        UsageError: they are another model's, or of other data.
    """
    network = build_seeded(model, shape, classes, 0, nn.ReLU)
    difference = _difference(state, network.state_dict())
    if difference:
        raise UsageError(
            f"weights {str(path)!r} do not fit model {model.name} for inputs {list(shape)} of {classes} classes: "
            f"{difference}. Give the --model, the --data and the --set that they were trained with."
        )
    network.load_state_dict(state)
    return network.to(device)


def _difference(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """The first fault in words; empty where there is none."""
    missing = [name for name in wanted if name not in given]
    if missing:
        return f"they lack {_first(missing)}"
    unknown = [str(name) for name in given if name not in wanted]
    if unknown:
        return f"they have {_first(unknown)}, which the model has not"
    for name, value in wanted.items():
        if given[name].shape != value.shape:
            return f"{name} is {list(given[name].shape)}, the model's {list(value.shape)}"
    return ""


def _first(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"

"""Checkpoints: state in files that a kill, a full disk or a flipped bit cannot turn into other state."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from sugarsearch.errors import SugarsearchWarning

_DIGEST_BYTES: Final = 32


class CheckpointFile:
    """State at `path`, and the state before it beside it.

    A file is the sha256 of its content and the content, as torch.save writes it. It is written beside its
    place, synchronised, and moved there; the file it replaces becomes the previous generation, which is
    used where the newest turns out unreadable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._previous = path.with_name(f"{path.name}.previous")
        self._partial = path.with_name(f"{path.name}.partial")

    def save(self, state: Mapping[str, Any]) -> None:
        """Write `state`: tensors and plain values in dicts and lists.

        Where the disk is full this warns, and the checkpoints written before stay: training can go on without.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getbuffer()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._partial.open("wb") as file:
                file.write(hashlib.sha256(content).digest())
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if self.path.exists():
                self.path.replace(self._previous)
            self._partial.replace(self.path)
        except OSError as error:
            self._partial.unlink(missing_ok=True)
            text = f"{self.path}: no checkpoint can be written ({error.strerror}); training goes on without."
            warnings.warn(text, SugarsearchWarning, stacklevel=2)

    def load(self) -> dict[str, Any] | None:
        """The newest state that is whole, on the CPU; None if there is none. What is not whole is told in a warning."""
        for path in (self.path, self._previous):
            try:
                return _read(path)
            except FileNotFoundError:
                continue
            except Exception as error:  # whatever torch makes of a file that is none of its own
                text = f"{path}: this checkpoint cannot be used ({error}); an older one, or none, is."
                warnings.warn(text, SugarsearchWarning, stacklevel=2)
        return None

    def remove(self) -> None:
        """Delete all generations."""
        for path in (self.path, self._previous, self._partial):
            path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    # Checked before torch sees it: a flipped byte of a weight would load without a word.
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("its content does not fit its checksum")
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError(f"it holds {type(state).__name__}, not a dict")
    return state

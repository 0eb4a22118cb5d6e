"""Signals that end a search: the first asks it to stop, the second ends it at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from sugarsearch.evaluation.stop import Stop

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOW_CURSOR: Final = "\x1b[?25h"  # the live display hides it


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into a request to stop; those that are ignored (nohup) stay so.

    A second one ends the process by the shell's code for it. Workers die with it, and what was recorded
    is on the disk, as after kill -9.
    """
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.requested:
            _say(f"{_SHOW_CURSOR if sys.stderr.isatty() else ''}sugarsearch: stopped at once.")
            os._exit(128 + number)
        stop.signal = number
        _say("sugarsearch: stopping after the training step at hand; a second signal ends it at once.")

    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    taken = [number for number, handler in previous.items() if handler is not signal.SIG_IGN]
    for number in taken:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number in taken:
            signal.signal(number, previous[number])


def _say(text: str) -> None:
    """To stderr past Python's buffer, which a signal may have interrupted."""
    os.write(2, f"{text}\n".encode())

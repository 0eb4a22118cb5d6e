"""A request to stop, that everything which takes long looks at."""

from __future__ import annotations

from sugarsearch.errors import StoppedError


class Stop:
    """Whether a signal has asked to stop. Setting it is all that a signal handler has to do.

    Attributes:
        signal: the signal's number; None while nobody has asked.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def requested(self) -> bool:
        """Whether somebody has asked."""
        return self.signal is not None

    def check(self) -> None:
        """Go on, if nobody has asked to stop.

        Raises:
            StoppedError: somebody has.
        """
        if self.signal is not None:
            raise StoppedError(self.signal)

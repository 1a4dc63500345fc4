"""Requests to end as KeyboardInterrupt, at a moment when nothing is lost by it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """While its block runs, the first request to end raises KeyboardInterrupt in the main thread; later ones are ignored.

    Clearing away takes a moment, and is not to be interrupted in turn; nor is the end of the process that follows. Within `shielded` the
    request waits until that block has ended: a process that was just started must be noted before anything else can happen.
    """

    def __init__(self) -> None:
        self._came = self._shielded = False

    def __enter__(self) -> "Interruption":
        self._before = {number: signal.signal(number, self._note) for number in REQUESTS}
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if self._came else handler)

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Hold a request back while the block runs."""
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False
        if self._came:
            raise KeyboardInterrupt

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        if self._came:
            return
        self._came = True
        if not self._shielded:
            raise KeyboardInterrupt

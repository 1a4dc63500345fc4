"""SIGINT and SIGTERM as something to wait for."""

import signal
import threading
from types import FrameType


class StopSignals:
    """Counts the signals that ask this process to stop. To be made in the main thread."""

    def __init__(self) -> None:
        self.count = 0
        self._came = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def wait(self, *others: threading.Event) -> None:
        """Return when a signal has come, or one of the other events is set."""
        while not self._came.wait(0.2):
            if any(other.is_set() for other in others):
                return
        self._came.clear()

    def came_within(self, seconds: float) -> bool:
        """Wait so long for a signal, at most; whether one has come that nobody waited for."""
        came = self._came.wait(seconds)
        self._came.clear()
        return came

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        self._came.set()

"""Lets requests wait until the gateway has looked at the services anew: what was deployed a moment ago need not be refused.

Each look has a number, given when it begins. One that began after a request came has all that was there before the request.
"""

import threading
from collections.abc import Callable

WITHIN_S = 1.0
MOST_WAITING = 16  # requests; each holds a thread of the server


class Looks:
    """Numbers the looks, and knows which ones are over. May be used from several threads."""

    def __init__(self, within_s: float = WITHIN_S, most_waiting: int = MOST_WAITING) -> None:
        self._within_s = within_s
        self._condition = threading.Condition()
        self._places = threading.BoundedSemaphore(most_waiting)
        self._begun = self._over = 0

    def begin(self) -> int:
        """A look begins; returns its number."""
        with self._condition:
            self._begun += 1
            return self._begun

    def end(self, look: int) -> None:
        """A look is over, and what was seen is in force; or nothing was seen."""
        with self._condition:
            self._over = max(self._over, look)
            self._condition.notify_all()

    def wait(self, is_there: Callable[[], bool]) -> bool:
        """Wait until this is so, or a look that has not begun yet is over; says whether it is so. Returns at once when too many wait."""
        if not self._places.acquire(blocking=False):
            return is_there()
        try:
            with self._condition:
                enough = self._begun + 1
                self._condition.wait_for(lambda: self._over >= enough or is_there(), self._within_s)
                return is_there()
        finally:
            self._places.release()

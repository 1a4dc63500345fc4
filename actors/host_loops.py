"""The threads around HostAgent that wait for coordinators, so that the actor itself never waits.

Each is a loop that does one thing (`once`) again and again. What goes wrong is logged when it changes, and followed by a pause that grows;
a coordinator that says when to come back is taken at its word.
"""

import logging
import random
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from skyclaw.errors import ServerRefused, SkyclawError
from skyclaw.hosting.pacing import Backoff

logger = logging.getLogger(__name__)

Tell = Callable[[object], None]
Hear = Callable[[Mapping[str, Any]], None]

GATHER_S = 0.01


def host_clock() -> int:
    """Milliseconds that only go forward, also while the machine sleeps: leases go on then."""
    return int(time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) * 1000)


def unheard(_answer: Mapping[str, Any]) -> None:
    """Nobody cares what else the answer says."""


class Loop(threading.Thread):
    """Does `once` whenever there is work, until it is stopped."""

    def __init__(self, name: str, most_s: float = 5.0) -> None:
        super().__init__(name=name, daemon=True)
        self._wake, self._over = threading.Event(), threading.Event()
        self._backoff = Backoff(random.random, most_s=most_s)
        self._trouble, self._gathered = "", 0.0

    @abstractmethod
    def once(self) -> float:
        """Do it; returns the seconds to wait before it is done again. A nudge ends the waiting."""

    def has_work(self) -> bool:
        """Whether there is something to do; otherwise the loop waits for a nudge."""
        return True

    def failed(self, error: Exception) -> None:
        """It did not work; a pause follows, which only `stop` ends."""

    def gather(self, enough: Callable[[], bool]) -> None:
        """Let more come together for a moment, unless it is enough or the last time is longer ago.

        When much is going on, requests are what costs most; when little is, nothing waits.
        """
        ends = self._gathered + GATHER_S
        while not enough() and not self._over.is_set() and (left := ends - time.monotonic()) > 0:
            self._wake.wait(left)
            self._wake.clear()
        self._gathered = time.monotonic()

    def nudge(self) -> None:
        """There may be something to do."""
        self._wake.set()

    def stop(self, timeout_s: float = 0.0) -> None:
        """End after what is being done, and wait at most that long for it."""
        self._over.set()
        self._wake.set()
        if self.ident is not None:
            self.join(timeout_s)

    def run(self) -> None:
        while not self._over.is_set():
            self._wake.clear()
            if not self.has_work():
                self._wake.wait()
                continue
            try:
                wait_s = self.once()
            except Exception as error:
                self._over.wait(self._pause(error))
            else:
                self._well()
                self._wake.wait(wait_s)

    def _pause(self, error: Exception) -> float:
        """Seconds to wait after a failure, which is logged if it is another than the last."""
        if not isinstance(error, SkyclawError):
            logger.error("loop_failed loop=%s", self.name, exc_info=error)
        elif str(error) != self._trouble:
            logger.warning("coordinator_trouble loop=%s cause=%s", self.name, error)
        self._trouble = str(error)
        self.failed(error)
        return self._backoff.pause((error.retry_after or 0.0) if isinstance(error, ServerRefused) else 0.0)

    def _well(self) -> None:
        if self._trouble:
            logger.info("coordinator_answers_again loop=%s", self.name)
            self._trouble = ""
        self._backoff.reset()


def is_unknown_host(error: Exception) -> bool:
    """Whether the coordinator does not know this host (any more)."""
    return isinstance(error, ServerRefused) and error.status == 404 and error.code == "unknown_host"

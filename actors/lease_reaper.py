"""Lets time pass for the queue: leases end, delayed jobs start, silent hosts and old idempotency keys go."""

import logging
import time
from collections.abc import Callable

from actors.base import Actor
from actors.desk import Desk
from skyclaw.answers import Reaped
from skyclaw.commands import Reap
from skyclaw.errors import StorageFailed, StorageFull, StorageReadOnly, Unavailable

logger = logging.getLogger(__name__)

INTERVAL_S = 0.5
LATE_S = 1.0  # a round may be late; what goes beyond that this process has slept


class LeaseReaper(Actor):
    """One round for each Tick. `clock` says s, and goes only forward."""

    def __init__(self, desk: Desk, on_death: Callable[[str], None] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(on_death)
        self._desk, self._clock, self._latest = desk, clock, clock()

    def handle(self, message: object) -> None:  # noqa: ARG002  # every message is a Tick
        """One round; when the queue cannot write now, the next round does it."""
        try:
            self.run_once()
        except (StorageReadOnly, StorageFull, StorageFailed) as failure:
            logger.warning("reap_failed cause=%s", failure)
        except Unavailable as failure:
            logger.info("reap_later cause=%s", failure)

    def run_once(self) -> Reaped:
        """Ask the queue to do what time demands; the counts are durable when they are returned."""
        before, self._latest = self._latest, self._clock()
        slept_s = max(0.0, self._latest - before - INTERVAL_S - LATE_S)
        reaped: Reaped = self._desk.ask(Reap(slept_ms=int(slept_s * 1000)))
        if reaped:
            logger.info(
                "reaped expired=%d started=%d forgotten=%d pruned=%d lost=%d",
                reaped.expired,
                reaped.started,
                reaped.forgotten,
                reaped.pruned,
                reaped.lost,
            )
        return reaped

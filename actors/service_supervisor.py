"""ServiceSupervisor keeps the instances of services that the coordinators want on this host running and healthy, and ends the others.

What it does with them is in `actors.service_work`; what has to wait, for coordinators, probes or bundles, is left to the threads around it
(`actors.service_syncs`, `service_helpers`), which tell it what came of it. While no coordinator answers, what runs goes on. It waits for
one thing only: when the executor has died, the next process starts another one, which takes a fraction of a second, and some 10 s at most.
"""

from collections.abc import Callable

from actors.base import Actor
from actors.host_messages import Drain, StopNow
from actors.service_messages import ProbeAnswered, Synced, Unpacked
from actors.service_work import ServiceWork
from actors.ticker import Tick
from skyclaw.hosting.leaving import Leaving
from skyclaw.outside.clock import Clock
from skyclaw.outside.processes import Ended

ENDS_MS = 20_000  # within which every process has ended or was killed, and the coordinators were told


class ServiceSupervisor(Actor):
    """What it may be told is in `actors.service_messages`; and the executor's `Ended`, `Tick`, `Drain` and `StopNow`.

    `on_idle` is called, perhaps again and again, when the host leaves and nothing is left to do here.
    """

    def __init__(self, work: ServiceWork, clock: Clock, on_idle: Callable[[], None], on_death: Callable[[str], None]) -> None:
        super().__init__(on_death)
        self._work, self._clock, self._on_idle = work, clock, on_idle
        self._leaving = Leaving()

    def handle(self, message: object) -> None:
        """Deal with one message."""
        now = self._clock()
        match message:
            case Synced():
                self._work.synced(message, now)
            case ProbeAnswered():
                self._work.probed(message, now)
            case Ended():
                self._work.ended(message, now)
            case Unpacked():
                self._work.unpacked(message, now)
            case Tick():
                self._work.pass_time(now)
            case Drain():
                self._leave(ENDS_MS, now)
            case StopNow():
                self._leave(0, now)
                self._work.hurry()
        if self._leaving.is_over(now, self._work.running, self._work.idle):
            self._on_idle()

    def _leave(self, grace_ms: int, now: int) -> None:
        self._leaving.begin(now, grace_ms)
        self._work.leave(now)

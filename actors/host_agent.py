"""HostAgent takes the jobs that were leased to this host, and gives them up in time.

What it does with them is in `actors.host_work`. Everything that has to wait for a coordinator is left to the threads around it
(`actors.host_claims`, `host_heartbeats`, `host_deliveries`), which tell it what came of it. It waits for one thing only: when the executor
has died, the next job starts another one, which takes a fraction of a second, and some 10 s at most.
"""

from collections.abc import Callable

from actors.base import Actor
from actors.host_boxes import Outbox, Slots
from actors.host_heartbeats import HeartbeatLoop
from actors.host_messages import Claimed, Drain, HostUnknown, NotRenewed, Renewed, Settled, StopNow
from actors.host_work import HostWork
from actors.ticker import Tick
from skyclaw.hosting.held_leases import certain_since
from skyclaw.hosting.leaving import Leaving
from skyclaw.hosting.pacing import Rhythm, heartbeat_timeout_s
from skyclaw.outside.clock import Clock
from skyclaw.outside.processes import Ended

LATE_MS = 1_000  # a claim that was answered later than that is followed by a heartbeat at once


class HostAgent(Actor):
    """What it may be told is in `actors.host_messages`, and the executor's `Ended`.

    `on_idle` is called, perhaps again and again, when a host that leaves has nothing left to do.
    """

    def __init__(
        self,
        work: HostWork,
        heartbeats: HeartbeatLoop,
        rhythm: Rhythm,
        slots: Slots,
        outbox: Outbox,
        clock: Clock,
        grace_ms: int,
        on_idle: Callable[[], None],
        on_death: Callable[[str], None],
    ) -> None:
        super().__init__(on_death)
        self._work, self._heartbeats, self._rhythm, self._slots, self._outbox = work, heartbeats, rhythm, slots, outbox
        self._clock, self._grace_ms, self._on_idle = clock, grace_ms, on_idle
        self._leaving = Leaving()
        self._answered: str | None = None  # the id of the last claim

    def handle(self, message: object) -> None:
        """Deal with one message."""
        match message:
            case Ended():
                self._work.ended(message)
            case Settled():
                self._work.told(message)
            case Claimed():
                self._claimed(message)
            case Renewed():
                self._work.renewed(message)
            case NotRenewed():
                self._rhythm.failed()
            case HostUnknown():
                self._heartbeat()
            case Tick():
                self._tick()
            case Drain():
                self._leave(self._grace_ms)
            case StopNow():
                self._leave(0)

    def _claimed(self, claimed: Claimed) -> None:
        take = self._work.decline if self._leaving else self._work.take
        for job in claimed.jobs:
            take(job, certain_since(claimed.sent, claimed.received))
        self._answered = claimed.claim_id
        if claimed.jobs and claimed.received - claimed.sent > LATE_MS:
            self._heartbeat()

    def _heartbeat(self) -> None:
        self._rhythm.sent(self._clock())
        self._heartbeats.order(self._work.listed(), self._answered, heartbeat_timeout_s(self._work.shortest_lease_ms))

    def _leave(self, grace_ms: int) -> None:
        if not self._leaving:
            self._slots.close()
            self._outbox.say_goodbye()
        self._leaving.begin(self._clock(), grace_ms)
        self._tick()

    def _tick(self) -> None:
        now = self._clock()
        self._work.stop_overdue(now)
        if self._rhythm.is_due(now, self._work.shortest_lease_ms):
            self._heartbeat()
        if self._leaving.must_stop(now):
            self._work.stop_all()
        if self._leaving.is_over(now, self._work.running, self._work.settled):
            self._on_idle()

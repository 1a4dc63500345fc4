"""The leases a host holds, judged by the host's own clock.

1. A lease is certain until `lease_ms` after the moment at which the last successful request that renewed it was *sent*: the coordinator
   cannot have renewed it earlier than that, so it cannot end it earlier either.
2. A parked claim was sent long before its leases began. An answer is taken to have travelled at most ANSWER_MS; a heartbeat that follows at
   once corrects what that leaves open.
3. A running attempt whose lease is no longer certain must be stopped. A finished one waits with its result: nothing runs any more, and the
   coordinator decides whether the result still counts.
4. A lease whose job is to be given back is held until the attempt's process has ended: nobody else may run the job before.
5. An attempt is known by an id of its own, because the same job may come back under another lease while the former attempt still dies.

The clock is milliseconds of one that only goes forward, also while the machine sleeps; it is handed in.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

ANSWER_MS = 1_000


class Stage(Enum):
    """Where an attempt is."""

    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"  # its result is on its way
    RETURNED = "returned"  # nothing of it runs, and its job is being given back


class Why(Enum):
    """Why an attempt is stopped before it ends by itself; the value is what the executor and the coordinator are told."""

    CANCELLED = "cancelled"
    LOST = "lost"
    LAPSED = "lease_not_renewed"
    DRAINED = "host_stops"
    UNABLE = "host_cannot_start_processes"

    @property
    def gives_back(self) -> bool:
        """Whether the job is to be released; otherwise the host has no say in it any more."""
        return self in (Why.LAPSED, Why.DRAINED, Why.UNABLE)


@dataclass(frozen=True, slots=True)
class Lease:
    """What names a lease to its coordinator."""

    job_id: str
    token: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt at a job under a lease; `renewed` is when the request that last renewed the lease was sent."""

    id: str
    lease: Lease
    kind: str
    lease_ms: int
    renewed: int
    timeout_ms: int = 0
    stage: Stage = Stage.RUNNING
    why: Why | None = None

    @property
    def holds(self) -> bool:
        """Whether its lease is to go on: it runs, or its result is on its way, or it still dies before its job is given back."""
        if self.stage is Stage.STOPPING:
            return self.why is not None and self.why.gives_back
        return self.stage is not Stage.RETURNED


class HeldLeases:
    """All attempts of a host that are not settled yet. Times are ms of the host's clock."""

    def __init__(self) -> None:
        self._attempts: dict[str, Attempt] = {}

    def __len__(self) -> int:
        return len(self._attempts)

    def take(self, attempt: Attempt) -> None:
        """Enter a new attempt; the lease of a former one that is still being stopped is lost."""
        for former in self._in(Stage.STOPPING):
            if former.lease.job_id == attempt.lease.job_id:
                self.stop(former.id, Why.LOST)
        self._attempts[attempt.id] = attempt

    def get(self, attempt_id: str) -> Attempt | None:
        """The attempt, unless it is settled."""
        return self._attempts.get(attempt_id)

    def of_job(self, job_id: str) -> Attempt | None:
        """The attempt at the job that has not been told to stop."""
        return next((a for a in self._attempts.values() if a.lease.job_id == job_id and a.stage in (Stage.RUNNING, Stage.ENDED)), None)

    def running(self) -> tuple[Attempt, ...]:
        """The attempts that run and may go on."""
        return self._in(Stage.RUNNING)

    def listed(self) -> tuple[Lease, ...]:
        """The leases to be renewed."""
        return tuple(attempt.lease for attempt in self._attempts.values() if attempt.holds)

    def shortest_ms(self) -> int | None:
        """The shortest lease among them."""
        return min((attempt.lease_ms for attempt in self._attempts.values()), default=None)

    def renew(self, leases: Iterable[Lease], sent: int) -> None:
        """A request sent at that time renewed these leases."""
        renewed = set(leases)
        for attempt in self._attempts.values():
            if attempt.lease in renewed and attempt.renewed < sent:
                self._attempts[attempt.id] = replace(attempt, renewed=sent)

    def overdue(self, now: int) -> tuple[Attempt, ...]:
        """The running attempts whose leases are no longer certain."""
        return tuple(attempt for attempt in self.running() if now - attempt.renewed >= attempt.lease_ms)

    def stop(self, attempt_id: str, why: Why) -> None:
        """The attempt is being stopped."""
        self._attempts[attempt_id] = replace(self._attempts[attempt_id], stage=Stage.STOPPING, why=why)

    def end(self, attempt_id: str) -> None:
        """The attempt has a result, which is on its way."""
        self._attempts[attempt_id] = replace(self._attempts[attempt_id], stage=Stage.ENDED)

    def give_back(self, attempt_id: str, why: Why) -> None:
        """Nothing of the attempt runs (any more); its job is being given back."""
        self._attempts[attempt_id] = replace(self._attempts[attempt_id], stage=Stage.RETURNED, why=why)

    def settle(self, attempt_id: str) -> Attempt | None:
        """The attempt is over for this host; None when it was already."""
        return self._attempts.pop(attempt_id, None)

    def _in(self, *stages: Stage) -> tuple[Attempt, ...]:
        return tuple(attempt for attempt in self._attempts.values() if attempt.stage in stages)


def certain_since(sent: int, received: int) -> int:
    """From when on a claimed lease counts, given when its claim was sent and answered."""
    return max(sent, received - ANSWER_MS)

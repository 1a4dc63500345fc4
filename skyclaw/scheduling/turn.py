"""One turn of the queue: the events it decided for one log, the answers that wait for their commit, and how to take it all back.

`Book` is what the turns work on: the fold of a log and, beside it, the soft state that only the log's owner has.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from skyclaw import events as ev
from skyclaw.records import Epoch
from skyclaw.scheduling import hosts
from skyclaw.scheduling.jobs import QUEUED, Job, Stamp
from skyclaw.scheduling.leases import Deadlines
from skyclaw.scheduling.state import State, Undo, undo_all
from skyclaw.services.service import Service

Ticket = object  # names the one who waits for an answer; only its identity counts

RESULTS = ev.JobCompleted | ev.JobFailed
LEASE_ENDS = ev.JobReleased | ev.JobLeaseExpired | ev.JobCompleted | ev.JobFailed | ev.JobCancelled
WANTED_CHANGES = ev.InstancePlaced | ev.InstanceDraining | ev.InstanceEnded


@dataclass(frozen=True, slots=True)
class Rules:
    """The limits of a queue; durations in ms."""

    lease_ms: int = 60_000
    max_queued: int = 1_000_000
    key_ttl_ms: int = 86_400_000
    max_parked: int = 48
    service_lease_ms: int = 15_000


class Book:
    """A log: its state; while it is owned here, the epoch and the owner's soft state; and how far it is known to be committed."""

    def __init__(self, log: str) -> None:
        self.log, self.state, self.epoch = log, State(), ""
        self.committed = 0
        self._forget_soft_state()

    def _forget_soft_state(self) -> None:
        self.opened_at = 0
        self.deadlines = Deadlines()
        self.quarantine: dict[str, int] = {}  # host id -> its end
        self.losses: dict[str, int] = {}  # leases lost in a row by hosts that are registered in other logs
        self.renewed: dict[str, int] = {}  # instance of a service -> since when its lease has its full time

    @property
    def owned(self) -> bool:
        """Does this process decide for the log?"""
        return self.epoch != ""

    def open(self, epoch: str, now: int) -> None:
        """Begin to own the log: every lease has its full time again, and no host has been heard of yet."""
        self._forget_soft_state()
        self.epoch, self.opened_at = epoch, now
        for job in self.state.jobs.values():
            if job.lease is not None:
                self.deadlines.start(job, now)
        for host in self.state.hosts.values():
            if host.losses_in_a_row >= hosts.LOSSES_TO_QUARANTINE:
                self.quarantine[host.id] = now + hosts.QUARANTINE_MS
        for service in self.state.services.values():
            self.renewed.update(dict.fromkeys((instance.id for instance in service.instances), now))

    def close(self) -> None:
        """Own the log no more."""
        self.epoch = ""
        self._forget_soft_state()

    def holds_back(self, host_id: str, now: int) -> bool:
        """Is the host in quarantine for what it did to this log's jobs?"""
        return self.quarantine.get(host_id, 0) > now

    def precedes(self, token: str | None) -> bool:
        """Was this fencing token given by a later owner than the one that this process knows?"""
        try:
            return token is not None and Epoch.parse(token.rpartition("/")[0]) > Epoch.parse(self.epoch)
        except ValueError:  # not one of ours
            return False


class News:
    """What somebody may wait for."""

    __slots__ = ("freed", "ready", "touched", "wanted")

    def __init__(self) -> None:
        self.ready: list[tuple[Book, Job]] = []  # became free to be claimed
        self.freed: set[str] = set()  # hosts that hold a lease less
        self.touched: set[str] = set()  # jobs
        self.wanted: set[str] = set()  # hosts of which other instances of services are wanted than before

    def take(self, book: Book, event: ev.Event, job_id: str, before: Job | None) -> None:
        """Note what a job's event means to those who wait; `before` is the live job as it was."""
        self.touched.add(job_id)
        if before is not None and before.lease is not None and isinstance(event, LEASE_ENDS):
            self.freed.add(before.lease.host_id)
        after = book.state.jobs.get(job_id)
        if after is not None and after.status == QUEUED:
            self.ready.append((book, after))

    def take_wanted(self, event: ev.Event, before: Service | None) -> None:
        """Note what an event means to a host that runs instances of services; `before` is the service as it was."""
        if isinstance(event, ev.InstancePlaced):
            self.wanted.add(event.host_id)
        elif isinstance(event, WANTED_CHANGES) and before is not None:
            self.wanted.update(instance.host_id for instance in before.instances if instance.id == event.instance_id)


class Turn:
    """What one message led to in one log. `start` is the position before its first event."""

    __slots__ = ("_undo", "answers", "book", "events", "news", "now", "start")

    def __init__(self, book: Book, now: int, news: News) -> None:
        self.book, self.now, self.news, self.start = book, now, news, book.state.end
        self.events: list[ev.Event] = []
        self.answers: list[tuple[Ticket, object]] = []
        self._undo: list[Undo] = []

    @property
    def end(self) -> int:
        """The position of its last event."""
        return self.start + len(self.events)

    def emit(self, events: Iterable[ev.Event]) -> None:
        """Let events happen, at once in this process and for all when they are committed."""
        book, state = self.book, self.book.state
        for event in events:
            job_id = getattr(event, "job_id", None)
            before = state.jobs.get(job_id) if job_id else None
            if job_id is None and isinstance(event, WANTED_CHANGES):
                self.news.take_wanted(event, state.services.get(event.service_id))
            self._undo += state.apply(event, Stamp(state.end + 1, book.epoch, self.now))
            self.events.append(event)
            if job_id:
                self.news.take(book, event, job_id, before)
                self._follow(event, before)
            elif isinstance(event, ev.HostForgotten):
                self._quarantine(event.host_id, None)
            elif isinstance(event, ev.InstancePlaced | ev.InstanceEnded):
                placed = isinstance(event, ev.InstancePlaced)
                self._undo.append(_put(book.renewed, event.instance_id, self.now if placed else None))

    def hear(self, event: ev.Event, stamp: Stamp) -> None:
        """Let an event happen that was decided before; nothing follows from it here."""
        self._undo += self.book.state.apply(event, stamp)
        self.events.append(event)

    def take_back(self) -> None:
        """Nothing of this turn happened. The list of its events is left as it is: another thread may have it in hand."""
        undo_all(self._undo)
        self._undo, self.events = [], []
        self.book.state.end = self.start

    def end_quarantine(self, host_id: str) -> None:
        """The host may be trusted with work again."""
        self._quarantine(host_id, None)
        self._count_losses(host_id, None)

    def _follow(self, event: ev.Event, before: Job | None) -> None:
        """Keep the soft state in step with a job's event."""
        deadlines = self.book.deadlines
        if isinstance(event, ev.JobLeased):
            deadlines.start(self.book.state.jobs[event.job_id], self.now)
            self._undo.append(partial(deadlines.drop, event.job_id))
        elif before is not None and before.lease is not None and isinstance(event, LEASE_ENDS):
            deadlines.drop(before.id)
            self._undo.append(partial(deadlines.start, before, self.now))
        if isinstance(event, ev.JobLeaseExpired):
            self._judge(event.host_id)
        elif self.book.losses and isinstance(event, RESULTS) and event.host_id is not None:
            self._count_losses(event.host_id, None)

    def _judge(self, host_id: str) -> None:
        host = self.book.state.hosts.get(host_id)
        losses = self.book.losses.get(host_id, 0) + 1 if host is None else host.losses_in_a_row
        if host is None:
            self._count_losses(host_id, losses)
        if losses >= hosts.LOSSES_TO_QUARANTINE:
            self._quarantine(host_id, self.now + hosts.QUARANTINE_MS)

    def _quarantine(self, host_id: str, until: int | None) -> None:
        self._undo.append(_put(self.book.quarantine, host_id, until))

    def _count_losses(self, host_id: str, losses: int | None) -> None:
        self._undo.append(_put(self.book.losses, host_id, losses))


def _put(numbers: dict[str, int], name: str, number: int | None) -> Undo:
    """Set or remove a number; running the answer puts the former one back."""
    old = numbers.get(name)
    if number is None:
        numbers.pop(name, None)
    else:
        numbers[name] = number
    return partial(_put, numbers, name, old)

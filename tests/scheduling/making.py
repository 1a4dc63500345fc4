"""Short words for what the tests of the queue are made of."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any
from unittest.mock import patch

from skyclaw import commands as cmd
from skyclaw import events as ev
from skyclaw.answers import Synced
from skyclaw.errors import SkyclawError
from skyclaw.scheduling import jobs, service_desk
from skyclaw.scheduling.jobs import Job, Stamp
from skyclaw.scheduling.queue import Queue
from skyclaw.scheduling.state import State
from skyclaw.scheduling.turn import Rules
from skyclaw.scheduling.turns import Turns
from skyclaw.services.service import Service

HOME = "5eed5eed"  # tag of the log; the ids of most jobs in these tests are short, and belong to it nevertheless
EPOCH = "0.1.n"
T0 = 1_700_000_000_000
MINUTE = 60_000
DAY = 1440 * MINUTE


def asked(job_id: str = "j1", required: Iterable[str] = (), **fields: Any) -> ev.JobEnqueued:
    """What a client asked for: a small shell job."""
    return ev.JobEnqueued(job_id, fields.pop("kind", "shell"), '{"kind":"shell","command":"true"}', tuple(sorted(required)), **fields)


def outcome(success: bool = True, **fields: Any) -> cmd.Outcome:
    """How an attempt ended."""
    return cmd.Outcome(success, 5, 0 if success else 1, "out", "err", **fields)


def done(job_id: str = "j1", host_id: str = "h1", stdout: str = "out") -> ev.JobCompleted:
    """The event of a success."""
    return ev.JobCompleted(job_id, host_id, 5, 0, stdout, "err")


def failed(job_id: str = "j1", host_id: str | None = "h1", reason: str = "failed") -> ev.JobFailed:
    """The event of a failure."""
    return ev.JobFailed(job_id, host_id, 5, 1, "out", "err", "broke", reason)


def stamp(seq: int, at: int = T0) -> Stamp:
    """A place in the log."""
    return Stamp(seq, EPOCH, at)


def token(seq: int) -> str:
    """The fencing token of the lease that the event at this position gave."""
    return f"{EPOCH}/{seq}"


def lived(*events: ev.Event, start: int = 1, at: int = T0) -> Job:
    """The job after these events, which stand at positions `start`, `start` + 1, ..., a millisecond apart."""
    job = None
    for number, event in enumerate(events):
        job = jobs.evolve(job, event, stamp(start + number, at + number))
    assert job is not None
    return job


def folded(*events: ev.Event, at: int = T0) -> State:
    """The state after these events, a millisecond apart."""
    state = State()
    for number, event in enumerate(events):
        state.apply(event, stamp(number + 1, at + number))
    return state


def held(job_id: str, token: str) -> cmd.HeldLease:
    """A lease that a host says it holds."""
    return cmd.HeldLease(job_id, token)


@contextmanager
def numbered_ids() -> Iterator[None]:
    """Services and their instances have numbers instead of drawn ids."""
    numbers = count(1)
    with (
        patch.object(service_desk, "new_service_id", lambda log: f"svc_{log}-0000-4000-8000-{next(numbers):012}"),
        patch.object(service_desk, "new_instance_id", lambda log: f"ins_{log}-0000-4000-8000-{next(numbers):012}"),
    ):
        yield


class Shop:
    """A queue with a clock that the test turns; what is archived is given by the test."""

    def __init__(self, state: State | None = None, archived: Mapping[str, Job] | None = None, draw: float = 0.0, **rules: int) -> None:
        self.now = T0
        self.archived = dict(archived or {})
        self.queue = Queue(HOME, Rules(**rules), lambda job_id, _: self.archived.get(job_id), lambda: draw)
        self.queue.replace(HOME, state or State())
        self.queue.own(HOME, EPOCH, self.now)
        self.books, self.book = self.queue.books, self.queue.books.home
        self.turns = Turns(self.books, self.now)  # the latest ones
        self.turn = self.turns.of(self.book)

    @property
    def state(self) -> State:
        """The fold of what has happened."""
        return self.book.state

    def ask(self, command: cmd.Command, ticket: object = "mine") -> Any:
        """The answer, or None when it was parked; raises the refusal."""
        self.turns = self.queue.ask(ticket, command, self.now)
        self.turn = self.turns.of(self.book)
        mine = [answer for whose, answer in self.turns.answers if whose is ticket]
        assert len(mine) <= 1
        if mine and isinstance(mine[0], SkyclawError):
            raise mine[0]
        return mine[0] if mine else None

    def others(self) -> dict[object, Any]:
        """What the latest turn answered to others than its asker, by ticket."""
        return {whose: answer for whose, answer in self.turns.answers if whose != "mine"}

    def enqueue(self, *which: ev.JobEnqueued | str) -> Any:
        """Accept jobs."""
        return self.ask(cmd.Enqueue(tuple(asked(one) if isinstance(one, str) else one for one in which)))

    def register(self, host_id: str = "h1", capabilities: Iterable[str] = (), parallel: int = 1, **fields: Any) -> Any:
        """A host begins a life."""
        return self.ask(cmd.Register(host_id, host_id.upper(), tuple(sorted(capabilities)), parallel, **fields))

    def claim(self, host_id: str = "h1", limit: int = 1, **fields: Any) -> list[str]:
        """The ids of the jobs that the host gets at once."""
        return [seen.job.id for seen in self.ask(cmd.Claim(host_id, limit, **fields)).jobs]

    def park(self, ticket: object, host_id: str = "h1", limit: int = 1) -> None:
        """Let a claim wait."""
        assert self.ask(cmd.Claim(host_id, limit, park=True), ticket) is None

    def report(self, job_id: str = "j1", host_id: str = "h1", token: str | None = None, success: bool = True) -> Any:
        """The result of an attempt."""
        return self.ask(cmd.Report(job_id, host_id, token, outcome(success)))

    def pass_time(self, ms: int) -> Any:
        """Let time pass, and the reaper see it."""
        self.now += ms
        return self.ask(cmd.Reap())

    def leased(self, job_id: str = "j1", host_id: str = "h1", **fields: Any) -> str:
        """Enqueue a job and let the host, which is registered for it, take it; returns the lease's token."""
        self.enqueue(asked(job_id, **fields))
        assert self.claim(host_id) == [job_id]
        return self.token_of(job_id)

    def host(self, host_id: str = "h1", takes: str | None = "16", capabilities: Iterable[str] = ("service-host",), **fields: Any) -> Any:
        """A host that runs services begins a life; one that does not say how many it takes is of the TypeScript kind."""
        return self.register(host_id, capabilities, labels=(("services", takes),) if takes is not None else (), **fields)

    def deploy(self, name: str = "web", **fields: Any) -> Service:
        """Deploy a service, or its next revision."""
        service: Service = self.ask(cmd.Deploy(name, fields.pop("command", "serve"), **fields)).service
        return service

    def service(self, service: str = "web") -> Service:
        """The service as it is now."""
        found: Service = self.ask(cmd.FindService(service)).service
        return found

    def sync(self, host_id: str = "h1", status: str = "running", *, only: Iterable[str] | None = None, **fields: Any) -> Synced:
        """The host says of all its instances, or of these only, that they have this status."""
        mine = [instance.id for _, _, instance in self.books.instances(host_id, self.books.all)] if only is None else only
        answer: Synced = self.ask(cmd.SyncServices(host_id, tuple(cmd.InstanceNews(one, status, **fields) for one in mine)))
        return answer

    def token_of(self, job_id: str) -> str:
        """The token of the lease in force."""
        lease = self.state.jobs[job_id].lease
        assert lease is not None
        return lease.token


def kinds(shop: Shop) -> list[str]:
    """What happened in the latest turn."""
    return [type(event).__name__ for event in shop.turn.events]

"""What a coordinator does for clients and hosts, in small: enqueue, claim, renew, complete, expiry, deploy.

Each answer waits for its commit. A new service goes to the log that comes first of all that the coordinator knows, another revision to the
log that knows the service.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from skyclaw.cluster.replica import parse_epoch
from skyclaw.cluster.replication import Effects, Node
from skyclaw.codec import CODEC
from skyclaw.errors import Unavailable
from skyclaw.events import Event, JobCompleted, JobEnqueued, JobLeased, JobLeaseExpired, ServiceDeployed, stream_of
from skyclaw.records import Record, sealed
from tests.cluster.simulation.disk import Disk
from tests.cluster.simulation.jobs import Jobs, Token, fold, revision_of

LEASE_MS = 150
MOST_FORWARDS = 3
OK, NO_JOB, FENCED, RETRY = 200, 204, 409, 503


class Request(NamedTuple):
    """What a client or a host asks; `tried` are the coordinators that have forwarded it."""

    id: str
    client: str
    op: str
    args: tuple[Any, ...]
    tried: tuple[str, ...] = ()


class Reply(NamedTuple):
    """The answer to a Request."""

    id: str
    op: str
    status: int
    body: Any = None


class Waiter(NamedTuple):
    """An answer that was computed from everything up to `position`."""

    position: int
    request: Request
    status: int
    body: Any


@dataclass
class Book:
    """What the owner of a log has beyond its copy: the jobs as of the log's end, deadlines by its own clock, answers that wait."""

    epoch: str
    jobs: Jobs
    deadlines: dict[str, int]
    waiting: list[Waiter] = field(default_factory=list)


class Clerk:
    """Sits on top of a node, as the job queue does; hears of effects once they are durable."""

    def __init__(self, node: Node, disk: Disk, stamp: Callable[[], int], refused: set[bytes]) -> None:
        self.node, self._disk, self._stamp, self._refused = node, disk, stamp, refused
        self.outbox: list[tuple[str, Request | Reply]] = []
        self.at: dict[str, int] = {}
        self.copies: dict[str, Jobs] = {}
        self.books: dict[str, Book] = {}
        self._now = 0
        for log in node.logs:
            self._catch_up(log, node.replica(log).commit)

    # What the node's effects mean

    def hear(self, effects: Effects, now: int) -> None:
        """These effects are durable."""
        for log in effects.lost:
            self._lose(log)
        for log, first, _ in effects.orphans:
            if self.at.get(log, 0) >= first:
                self.at[log], self.copies[log] = 0, {}
                self._catch_up(log, first - 1)
        for log, to in effects.committed.items():
            self._catch_up(log, to)
            self._answer_waiters(log)
        for gained in effects.gained:
            jobs = folded(self._disk.durable[gained.log])
            deadlines = {job_id: now + LEASE_MS for job_id, job in jobs.items() if job.status == "leased"}
            self.books[gained.log] = Book(str(gained.epoch), jobs, deadlines)

    def undone(self, log: str, now: int) -> None:
        """What was proposed lately could not be stored."""
        book = self.books.get(log)
        if book is None:
            return
        end = self.node.replica(log).end
        book.jobs = folded(self._disk.logs.get(log, []))
        book.deadlines = {job_id: book.deadlines.get(job_id, now + LEASE_MS) for job_id, job in book.jobs.items() if job.status == "leased"}
        for waiter in [waiter for waiter in book.waiting if waiter.position > end]:
            book.waiting.remove(waiter)
            self._reply(waiter.request, RETRY)

    def _lose(self, log: str) -> None:
        book = self.books.pop(log, None)
        for waiter in book.waiting if book is not None else ():
            self._reply(waiter.request, RETRY)

    def _catch_up(self, log: str, to: int) -> None:
        at, jobs = self.at.get(log, 0), self.copies.setdefault(log, {})
        if to > at:
            for record in self._disk.durable[log][at:to]:
                fold(jobs, record)
            self.at[log] = to

    def _answer_waiters(self, log: str) -> None:
        book = self.books.get(log)
        if book is None:
            return
        for waiter in [waiter for waiter in book.waiting if waiter.position <= self.at[log]]:
            book.waiting.remove(waiter)
            self._reply(waiter.request, waiter.status, waiter.body)

    # What clients and hosts ask

    def tick(self, now: int) -> None:
        """Leases end by the owner's clock, and only while it is in contact."""
        self._now = now
        for log, book in list(self.books.items()):
            for job_id in [job_id for job_id, end in book.deadlines.items() if now >= end]:
                job = book.jobs[job_id]
                if job.status != "leased" or (self._is_fit(log) and self._propose(log, JobLeaseExpired(job_id, job.host)) is not None):
                    del book.deadlines[job_id]

    def ask(self, request: Request, now: int) -> None:
        """A request came in."""
        self._now = now
        if request.op == "claim":
            self._claim(request)
            return
        if request.op == "deploy":
            self._deploy(request)
            return
        log = request.args[0].split("/")[0]
        if not self._owns(log):
            self._forward(request, self.node.replica(log).owner.node)
        elif request.op == "enqueue":
            self._enqueue(log, request)
        elif request.op == "renew":
            self._renew(log, request)
        else:
            self._complete(log, request)

    def _enqueue(self, log: str, request: Request) -> None:
        job_id = "/".join(request.args)
        if self._is_new(self.books[log], job_id) and self._propose(log, JobEnqueued(job_id, "shell", "{}", ())) is None:
            self._reply(request, RETRY)
        else:
            self._answer(log, request, OK, job_id)

    def _deploy(self, request: Request) -> None:
        name = request.args[0]
        log = self.log_of(name)
        if log is None:
            self._reply(request, RETRY)
        elif not self._owns(log):
            self._forward(request, self.node.replica(log).owner.node)
        else:
            revision = revision_of(self.books[log].jobs, name) + 1
            event = ServiceDeployed(f"{log}/{name}", revision, name, "serve", (), 1, ())
            if self._propose(log, event) is None:
                self._reply(request, RETRY)
            else:
                self._answer(log, request, OK, name)

    def log_of(self, name: str) -> str | None:
        """The log that has the service of this name, or is to have it."""
        known = {log: self.books[log].jobs if self._owns(log) else self.copies.get(log, {}) for log in self.node.logs}
        return min((log for log, jobs in known.items() if name in jobs), default=min(known, default=None))

    def _is_new(self, book: Book, job_id: str) -> bool:
        return job_id not in book.jobs

    def _claim(self, request: Request) -> None:
        host, claim = request.args
        owned = [(log, job_id, job) for log, book in self.books.items() if self._owns(log) for job_id, job in book.jobs.items()]
        for log, job_id, job in owned:
            if job.status == "leased" and job.claim == claim:
                self._answer(log, request, OK, (job_id, job.token))
                return
        for log, job_id, job in owned:
            if job.status == "queued" and (seq := self._propose(log, JobLeased(job_id, host, LEASE_MS, claim))) is not None:
                book = self.books[log]
                book.deadlines[job_id] = self._now + LEASE_MS
                self._answer(log, request, OK, (job_id, (book.epoch, seq)))
                return
        for log, jobs in self.copies.items():
            owner = self.node.replica(log).owner.node
            elsewhere = owner not in (*request.tried, self.node.name, "") and not self._owns(log)
            if elsewhere and any(job.status == "queued" for job in jobs.values()):
                self._forward(request, owner)
                return
        self._reply(request, NO_JOB)

    def _renew(self, log: str, request: Request) -> None:
        job_id, token = request.args
        book = self.books[log]
        job = book.jobs.get(job_id)
        if self._is_from_the_future(token, book) or not self._is_fit(log):
            self._reply(request, RETRY)
        elif job is None or job.token != token or job.status != "leased":
            self._answer(log, request, FENCED)
        else:
            book.deadlines[job_id] = self._now + LEASE_MS
            self._answer(log, request, OK, (job_id, job.result))

    def _complete(self, log: str, request: Request) -> None:
        job_id, token, result = request.args
        book = self.books[log]
        job = book.jobs.get(job_id)
        if self._is_from_the_future(token, book) or not self._is_fit(log):
            self._reply(request, RETRY)
            return
        if job is None or not self._is_in_force(job.token, token) or job.status == "queued":
            self._answer(log, request, FENCED)
            return
        detail = orjson.dumps({"token": job.token}).decode()
        if job.status == "leased" and self._propose(log, JobCompleted(job_id, job.host, 1, 0, result, "", detail)) is None:
            self._reply(request, RETRY)
        else:
            self._answer(log, request, OK, (job_id, book.jobs[job_id].result))

    def _is_in_force(self, lease: Token, token: Token) -> bool:
        return lease == token

    def _is_from_the_future(self, token: Token, book: Book) -> bool:
        """A lease of a later owner: this one is deposed, and does not know it yet."""
        return parse_epoch(token[0]) > parse_epoch(book.epoch)

    # Means

    def _owns(self, log: str) -> bool:
        book, owned = self.books.get(log), self.node.ownership(log)
        return book is not None and owned is not None and str(owned.epoch) == book.epoch

    def _is_fit(self, log: str) -> bool:
        return self._owns(log) and self.node.in_contact(log, self._now)

    def _propose(self, log: str, event: Event) -> int | None:
        """The position of the event, or None when it was refused."""
        book, replica = self.books[log], self.node.replica(log)
        name, version, data = CODEC.encode(event)
        envelope = Record(log, replica.end + 1, book.epoch, stream_of(event), name, version, self._stamp(), data)
        record = sealed(replica.hash, envelope)
        try:
            self.node.propose(log, book.epoch, [record], self._now)
        except Unavailable:
            self._refused.add(record.hash)
            return None
        fold(book.jobs, record)
        return record.seq

    def _answer(self, log: str, request: Request, status: int, body: Any = None) -> None:
        """Answer when everything up to the end of the log, from which the answer was computed, is committed."""
        end = self.node.replica(log).end
        if self._is_known(log, end):
            self._reply(request, status, body)
        else:
            self.books[log].waiting.append(Waiter(end, request, status, body))

    def _is_known(self, log: str, position: int) -> bool:
        return self.at.get(log, 0) >= position

    def _forward(self, request: Request, owner: str) -> None:
        if owner in (*request.tried, self.node.name, "") or len(request.tried) >= MOST_FORWARDS:
            self._reply(request, RETRY)
        else:
            self.outbox.append((owner, request._replace(tried=(*request.tried, self.node.name))))

    def _reply(self, request: Request, status: int, body: Any = None) -> None:
        self.outbox.append((request.client, Reply(request.id, request.op, status, body)))


def folded(records: list[Record]) -> Jobs:
    """The jobs after all these records."""
    jobs: Jobs = {}
    for record in records:
        fold(jobs, record)
    return jobs

"""Takes over what another system has: its hosts, its jobs that are still to be done, and those that are history.

A job keeps its id but for the tag of its log, and its key is remembered, so that whoever brings it again changes nothing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from skyclaw import events as ev
from skyclaw.commands import Command, Keyed
from skyclaw.errors import NotOwner, QueueFull
from skyclaw.scheduling.books import TAG, Books
from skyclaw.scheduling.turns import Turns


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job of another system; `end` is None for one that is still to be done."""

    asked: ev.JobEnqueued
    end: ev.JobCompleted | ev.JobFailed | None = None


@dataclass(frozen=True, slots=True)
class Import(Command):
    """Take over jobs into the log `home`, whose tag their ids bear (the own one, when None), and hosts; all that is new, or nothing."""

    jobs: tuple[Arrival, ...] = ()
    hosts: tuple[ev.HostRegistered, ...] = ()
    home: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """The ids of the jobs and hosts that were not known before."""

    jobs: tuple[str, ...]
    hosts: tuple[str, ...]


def take_over(turns: Turns, asked: Import) -> Imported:
    """Take over what is not known yet; raises QueueFull, NotOwner when the log is decided for elsewhere."""
    books = turns.books
    log = books.home.log if asked.home is None else asked.home
    book = turns.about = books.get(log)
    if book is None or not book.epoch:
        raise NotOwner(log, log)
    jobs = {one.asked.job_id: one for one in asked.jobs if not _is_known(books, one.asked)}
    hosts = {host.host_id: host for host in asked.hosts if books.find_host(host.host_id) is None}
    queued = sum(one.end is None for one in jobs.values())
    if book.state.queued + queued > books.rules.max_queued:
        raise QueueFull(f"{book.state.queued} jobs are queued, the limit is {books.rules.max_queued}")
    turn = turns.of(book)
    turn.emit(hosts.values())
    for one in jobs.values():
        turn.emit([one.asked] if one.end is None else [one.asked, one.end])
    return Imported(tuple(jobs), tuple(hosts))


def ids_in(logs: Iterable[str], job_id: str) -> Iterator[str]:
    """The ids that a job would have if it had been taken over into one of these logs."""
    for log in logs:
        yield f"{job_id[: TAG.start]}{log}{job_id[TAG.stop :]}"


def _is_known(books: Books, asked: ev.JobEnqueued) -> bool:
    """Is the job in one of the logs that are known here, or was it lately?"""
    for book, job_id in zip(books.all, ids_in((book.log for book in books.all), asked.job_id), strict=True):
        if book.state.find(job_id) is not None:
            return True
        if asked.scope and asked.key and asked.digest and book.state.keys.find(Keyed(asked.scope, asked.key, asked.digest)):
            return True
    return False

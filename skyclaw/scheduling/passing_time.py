"""What the passing of time leads to, in the logs that are owned here.

Leases end, delayed jobs start, services are looked after, silent hosts and old keys go.
"""

from skyclaw import events as ev
from skyclaw.answers import Reaped
from skyclaw.commands import Reap
from skyclaw.scheduling import hosts, jobs, service_desk
from skyclaw.scheduling.books import Books
from skyclaw.scheduling.hosts import Host
from skyclaw.scheduling.turn import Book
from skyclaw.scheduling.turns import Turns

KEY_PURGE_MS = 60_000


def reap(turns: Turns, asked: Reap) -> Reaped:
    """Do all of this; says how much there was."""
    books = turns.books
    done = Reaped(started=_start(turns), lost=service_desk.reap(turns, asked.slept_ms))
    for book in books.owned:
        done += _reap(turns, book)
    for book in books.all:
        book.state.tidy()
    books.forget_strangers(turns.now)
    return done


def _start(turns: Turns) -> int:
    """Let delayed jobs be claimed; only those that this process may lease are counted."""
    before = len(turns.news.ready)
    wake(turns)
    return sum(bool(book.epoch) for book, _ in turns.news.ready[before:])


def wake(turns: Turns) -> None:
    """The time of delayed jobs has come."""
    for book in turns.books.all:
        if book.state.delayed:
            turns.news.ready += [(book, job) for job in book.state.wake(turns.now)]


def _reap(turns: Turns, book: Book) -> Reaped:
    state, turn, now, key_ttl = book.state, turns.of(book), turns.now, turns.books.rules.key_ttl_ms
    expired = list(book.deadlines.due(now))
    for job_id in expired:
        turn.emit(jobs.expire(state.jobs[job_id]))
    gone = [host.id for host in state.hosts.values() if _is_gone(turns.books, book, host, now)]
    turn.emit(ev.HostForgotten(host_id) for host_id in gone)
    keys, oldest = len(state.keys), state.keys.oldest()
    if oldest is not None and oldest < now - key_ttl - KEY_PURGE_MS:
        turn.emit([ev.Pruned(now - key_ttl)])
    return Reaped(len(expired), 0, len(gone), keys - len(state.keys))


def _is_gone(books: Books, book: Book, host: Host, now: int) -> bool:
    """Is the host silent everywhere, or registered in another log since, and does it hold nothing that this record is needed for?"""
    latest = books.find_host(host.id)
    if latest is not None and latest is not host:
        settled = now - max(latest.updated_at, host.updated_at) > hosts.SUPERSEDED_MS
        return settled and host.id not in book.state.held and not book.holds_back(host.id, now)
    silent_since = max(books.last_heard(host.id), book.opened_at)
    return now - silent_since > hosts.FORGET_MS and not books.active(host.id) and not books.count_instances(host.id)

"""What may be asked by and about hosts. Each function decides, lets the events happen in the turns, and returns the answer.

A host may hold leases in many logs, and asks any coordinator: what is to be done in logs that others decide for is named in the answer.
"""

from collections.abc import Iterable, Sequence

from skyclaw import events as ev
from skyclaw.answers import Claimed, HeartbeatSeen, HostSeen, JobSeen
from skyclaw.commands import ChangeMode, Claim, Heartbeat, HeldLease, Register
from skyclaw.errors import NotOwner
from skyclaw.ids import is_claimed_by
from skyclaw.scheduling import hosts, jobs
from skyclaw.scheduling.books import TAG, Books
from skyclaw.scheduling.hosts import Host
from skyclaw.scheduling.jobs import CANCELLED, Job
from skyclaw.scheduling.turn import Book
from skyclaw.scheduling.turns import Turns

UNLISTED_MS = 10_000  # a younger lease may be on its way to the host, unless the host says that its claim has been answered


def register(turns: Turns, asked: Register) -> HostSeen:
    """Begin a host's life: the leases it does not list are released at once. Raises NotOwner when nothing can be written here."""
    books = turns.books
    known = books.find_host(asked.host_id)
    if not asked.forwarded:
        _begin_life(turns, asked, known, known.life + 1 if known is not None else 1)
    elif known is None:
        _begin_life(turns, asked, known, asked.life)
    books.hear(asked.host_id, turns.now)
    if known is None or not asked.forwarded or known.life <= asked.life:  # otherwise it has begun another life since
        _release_unlisted(turns, asked)
    return books.see_host(books.host(asked.host_id), turns.now, _owners(books, asked.host_id, asked.leases))


def _begin_life(turns: Turns, asked: Register, known: Host | None, life: int) -> None:
    book = turns.books.writable()
    turn, host_id = turns.of(book), asked.host_id
    turn.emit([ev.HostRegistered(host_id, asked.name, asked.capabilities, asked.max_parallel, asked.labels, life)])
    mode = hosts.PAUSED if known is not None and known.mode == hosts.PAUSED else hosts.ACTIVE
    if book.state.hosts[host_id].mode != mode:  # this log did not know what the one with the former life says
        turn.emit([ev.HostModeChanged(host_id, mode)])


def _release_unlisted(turns: Turns, asked: Register) -> None:
    listed = set(asked.leases)
    for book in turns.books.owned:
        for job in book.state.leases_of(asked.host_id):
            if _as_held(job) not in listed:
                turns.of(book).emit(jobs.abandon(job, "its host began a new life"))


def heartbeat(turns: Turns, asked: Heartbeat) -> HeartbeatSeen:
    """Renew the leases that the host holds, and say which ones it has lost. Raises UnknownHost."""
    books, now = turns.books, turns.now
    host = books.host(asked.host_id)
    books.hear(host.id, now)
    mine = {_as_held(job): book for book in books.owned for job in book.state.leases_of(host.id)}
    listed = set(mine) if asked.leases is None else set(asked.leases)
    for held, book in mine.items():
        job = book.state.jobs[held.job_id]
        if held in listed:
            book.deadlines.renew(job, now)
        elif job.lease is not None and (is_claimed_by(job.lease.claim_id, asked.answered) or now - job.lease.leased_at > UNLISTED_MS):
            turns.of(book).emit([ev.JobReleased(job.id, "its host does not run it")])
    renewed = {held.job_id for held in listed & mine.keys()}
    gone = sorted({held.job_id for held in listed - mine.keys() if _decides(books, held)} - renewed)
    cancelled = tuple(job_id for job_id in gone if _is_cancelled(books, job_id))
    lost = tuple(job_id for job_id in gone if job_id not in cancelled)
    owners = _owners(books, host.id, asked.leases or ())
    return HeartbeatSeen(books.see_host(host, now, owners), cancelled, lost, owners, books.services_digest(host.id))


def _decides(books: Books, held: HeldLease) -> bool:
    """Is it this process that knows whether the lease is in force?"""
    book = books.of(held.job_id)
    return bool(book.epoch) and not books.is_strange(held.job_id) and not book.precedes(held.token)


def _owners(books: Books, host_id: str, listed: Iterable[HeldLease]) -> tuple[str, ...]:
    """The logs that others decide for in which the host holds leases, as far as known here, or says so."""
    if len(books.all) == 1 and books.home.epoch:
        return tuple(sorted({held.job_id[TAG] for held in listed if books.is_strange(held.job_id)}))
    logs = {book.log for book, _ in books.leases(host_id) if not book.epoch}
    for held in listed:
        log = held.job_id[TAG] if books.is_strange(held.job_id) else books.of(held.job_id).log
        book = books.get(log)
        if book is None or not book.epoch:
            logs.add(log)
    return tuple(sorted(logs))


def change_mode(turns: Turns, asked: ChangeMode) -> HostSeen:
    """Let a host take work, or not; who lets it take work ends its quarantine. Raises UnknownHost, NotOwner."""
    books = turns.books
    host = books.host(asked.host_id)
    registry = books.registry(host.id)
    assert registry is not None
    turn = turns.of(books.require(registry))
    if asked.mode == hosts.ACTIVE:
        for book in books.owned:
            turns.of(book).end_quarantine(host.id)
    held_back = host.mode == hosts.PAUSED and asked.mode == hosts.DRAINING  # an operator's pause outlives the host's own drain
    if host.mode != asked.mode and not held_back:
        turn.emit([ev.HostModeChanged(host.id, asked.mode)])
    return books.see_host(books.host(host.id), turns.now)


def claim(turns: Turns, asked: Claim) -> Claimed:
    """Lease the best jobs to the host, as far as it has room; a repeated claim gets its leases again.

    Raises UnknownHost, and NotOwner when the best job, or the former answer, is in a log that another coordinator decides for.
    """
    books = turns.books
    host = books.host(asked.host_id)
    books.hear(host.id, turns.now)
    if asked.claim_id is not None:
        same = _claimed_before(turns, asked)
        if same:
            books.repeated[host.id] = asked.claim_id
            again = tuple(map(books.see_job, sorted(same, key=lambda job: (-job.asked.priority, job.position))))
            return Claimed(again, services=books.services_digest(host.id))
    reason = blocked(turns, host)
    leased = () if reason else lease(turns, host, asked, not_in(books.all, asked.skip))
    return Claimed(leased, reason, services=books.services_digest(host.id))


def _claimed_before(turns: Turns, asked: Claim) -> list[Job]:
    """The jobs that the same claim got before; raises NotOwner when another coordinator gave them."""
    claimed = [
        (book, job) for book, job in turns.books.leases(asked.host_id) if job.lease is not None and job.lease.claim_id == asked.claim_id
    ]
    mine = [job for book, job in claimed if book.epoch]
    for book, _ in claimed:
        if not mine and book.log not in asked.skip:
            raise NotOwner(book.log)
    return mine


def not_in(books: Sequence[Book], skip: Sequence[str]) -> Sequence[Book]:
    """The books without those of other owners' logs that are to be left out."""
    return [book for book in books if book.epoch or book.log not in skip] if skip else books


def blocked(turns: Turns, host: Host) -> str | None:
    """Why the host gets nothing now: draining | paused | quarantined | full."""
    mode = turns.books.mode_of(host, turns.now)
    if mode != hosts.ACTIVE:
        return mode
    return "full" if turns.books.room(host) <= 0 else None


def lease(turns: Turns, host: Host, asked: Claim, among: Sequence[Book]) -> tuple[JobSeen, ...]:
    """Lease jobs of these logs to a host that is not blocked; raises NotOwner when the best of them is another coordinator's."""
    books, taken = turns.books, list[JobSeen]()
    for _ in range(min(asked.limit, books.room(host))):
        book = books.best(among, host.capabilities)
        if book is not None and not book.epoch and not taken:
            raise NotOwner(book.log)
        job = book.state.ready.take(host.capabilities) if book is not None and book.epoch else None
        if book is None or job is None:
            break
        if asked.keyed:
            among = [book]  # the answer to a repetition is read from one log
        turns.of(book).emit([ev.JobLeased(job.id, host.id, books.rules.lease_ms, asked.claim_id)])
        taken.append(books.see_job(book.state.jobs[job.id]))
    return tuple(taken)


def _as_held(job: Job) -> HeldLease:
    assert job.lease is not None
    return HeldLease(job.id, job.lease.token)


def _is_cancelled(books: Books, job_id: str) -> bool:
    job = books.of(job_id).state.find(job_id)
    return job is not None and job.status == CANCELLED

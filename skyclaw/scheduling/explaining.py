"""Why a job is where it is, in words, host by host."""

from datetime import UTC, datetime

from skyclaw.answers import Explained, HostFit
from skyclaw.scheduling import hosts
from skyclaw.scheduling.books import Books
from skyclaw.scheduling.hosts import Host
from skyclaw.scheduling.jobs import LEASED, Job


def explain(books: Books, job: Job, now: int) -> Explained:
    """What holds the job up, and what each known host could do about it; nothing when it has finished."""
    fits = () if job.finished else tuple(_fit(books, job, host, now) for host in books.hosts())
    return Explained(job, tuple(_reasons(books, job, fits, now)), fits)


def _reasons(books: Books, job: Job, fits: tuple[HostFit, ...], now: int) -> list[str]:
    if job.finished:
        return [f"it has finished: {job.status}" + (f" ({job.error})" if job.error else "")]
    if job.status == LEASED and job.lease is not None:
        host = books.find_host(job.lease.host_id)
        return [f"it is running on {host.name if host else job.lease.host_id}, attempt {job.attempts}"]
    reasons = []
    if job.not_before > now:
        reasons.append(f"it may not start before {datetime.fromtimestamp(job.not_before / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC")
    if not fits:
        reasons.append("no host is known; start one with: skyclaw host")
    elif nobody := _missing_everywhere(books, job):
        reasons.append(f"no host has {', '.join(nobody)}")
    elif not any(fit.can for fit in fits):
        reasons.append("no host that could run it takes work now")
    return reasons or ["it is next in line for the first free host, by priority and age"]


def _missing_everywhere(books: Books, job: Job) -> list[str]:
    offered = frozenset().union(*(host.capabilities for host in books.hosts()))
    return [name for name in job.asked.required if name not in offered]


def _fit(books: Books, job: Job, host: Host, now: int) -> HostFit:
    missing = [name for name in job.asked.required if name not in host.capabilities]
    active, mode = books.active(host.id), books.mode_of(host, now)
    if missing:
        reason = f"lacks {', '.join(missing)}"
    elif not books.is_online(host, now):
        reason = f"not heard of for {(now - books.seen_at(host)) // 1000} s"
    elif mode != hosts.ACTIVE:
        reason = f"is {mode}"
    elif active >= host.max_parallel:
        reason = f"is full ({active} of {host.max_parallel})"
    else:
        return HostFit(host.id, host.name, True, "could run it")
    return HostFit(host.id, host.name, False, reason)

"""One job's life: what is allowed (the deciding functions), and what each event makes of it (`evolve`).

    queued -> leased -> completed | failed | cancelled
       ^         |          (failed and cancelled may be queued again by a retry)
       +---------+  released, lease expired, retry after a failure

A lease carries a fencing token, the epoch and position of its JobLeased event. Only the attempt that holds the token in force may report
or release; a stale one is refused. Deciding functions return events or raise; `evolve` never fails.
"""

from dataclasses import dataclass, fields, replace
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from skyclaw import events as ev
from skyclaw.commands import Outcome
from skyclaw.errors import AlreadyFinished, NotFinished, NotLeased, Refused, StaleAttempt
from skyclaw.scheduling.retries import backoff_ms, losses_allowed

QUEUED, LEASED, COMPLETED, FAILED, CANCELLED = "queued", "leased", "completed", "failed", "cancelled"
FINISHED = frozenset({COMPLETED, FAILED, CANCELLED})
STATUSES = (QUEUED, LEASED, COMPLETED, FAILED, CANCELLED)


class Stamp(NamedTuple):
    """Where an event stands: its position and epoch, and when it was written (ms, informative)."""

    seq: int
    epoch: str
    at: int

    @property
    def token(self) -> str:
        """The fencing token of a lease given by the event at this place."""
        return f"{self.epoch}/{self.seq}"


@dataclass(frozen=True, slots=True)
class Lease:
    """A job in a host's hands, until the owner's clock says otherwise (`ttl_ms` after the last renewal)."""

    host_id: str
    token: str
    leased_at: int
    ttl_ms: int
    claim_id: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What the last reported attempt produced; the outputs are None where only the head of a finished job is kept."""

    finished_at: int
    duration_ms: int
    exit_code: int
    stdout: str | None
    stderr: str | None
    detail: str = "{}"


@dataclass(frozen=True, slots=True)
class Job:
    """A job: what was asked (`asked`), and how far it has come."""

    asked: ev.JobEnqueued
    position: int  # of JobEnqueued in its log: its age
    created_at: int
    updated_at: int
    version: int = 1  # events so far
    status: str = QUEUED
    not_before: int = 0
    attempts: int = 0  # leases so far
    failures: int = 0  # reported ones
    losses: int = 0  # leases that expired, or ended with their host's life
    lease: Lease | None = None
    last_token: str | None = None  # of the latest lease, kept after its end
    host_id: str | None = None  # kept after the end
    result: Result | None = None
    error: str | None = None
    reason: str | None = None

    @property
    def id(self) -> str:
        """The job's id."""
        return self.asked.job_id

    @property
    def finished(self) -> bool:
        """Has it come to an end (which a retry may undo)?"""
        return self.status in FINISHED

    def head(self) -> "Job":
        """The job without its outputs, as it is kept in memory once it has finished."""
        if self.result is None or self.result.stdout is None:
            return self
        return _changed(self, result=replace(self.result, stdout=None, stderr=None, detail="{}"))


def report(job: Job, host_id: str, token: str | None, outcome: Outcome, now: int, draw: float) -> list[ev.Event]:
    """The attempt in force ended. `draw` in [0, 1) is the jitter of a retry's delay. Raises NotLeased, StaleAttempt."""
    require_lease(job, host_id, token)
    o = outcome
    if o.success:
        return [ev.JobCompleted(job.id, host_id, o.duration_ms, o.exit_code, o.stdout, o.stderr, o.detail)]
    failed = ev.JobFailed(job.id, host_id, o.duration_ms, o.exit_code, o.stdout, o.stderr, o.error, detail=o.detail)
    if job.failures + 1 >= job.asked.max_attempts:
        return [failed]
    delay = backoff_ms(job.asked.backoff_ms, job.failures + 1, draw)
    return [failed, ev.JobRetryScheduled(job.id, now + delay)]


def require_lease(job: Job, host_id: str, token: str | None) -> None:
    """Raise unless this attempt holds the lease in force; without a token (hosts that know none) the host id decides."""
    if job.lease is None and job.host_id in (None, host_id):
        raise NotLeased(f"job {job.id} is " + ("not leased" if job.host_id else "assigned to nobody"))
    if job.lease is None:
        raise StaleAttempt(f"job {job.id} is assigned to {job.host_id}")
    if job.lease.host_id != host_id:
        raise StaleAttempt(f"job {job.id} is assigned to {job.lease.host_id}")
    if token is not None and job.lease.token != token:
        raise StaleAttempt(f"job {job.id} was leased again since")


def repeats(job: Job, host_id: str, token: str | None) -> bool:
    """Is this the report that ended the job, sent once more?"""
    return job.status in (COMPLETED, FAILED) and job.host_id == host_id and token in (None, job.last_token)


def release(job: Job, host_id: str, token: str | None, reason: str) -> list[ev.Event]:
    """The host gives the job back. Raises NotLeased, StaleAttempt."""
    require_lease(job, host_id, token)
    return [ev.JobReleased(job.id, reason)]


def abandon(job: Job, reason: str) -> list[ev.Event]:
    """The host began a new life and does not know the job any more; whatever it had begun is lost."""
    return [ev.JobReleased(job.id, reason, lost=True), *_exhausted(job)]


def expire(job: Job) -> list[ev.Event]:
    """The lease ran out."""
    return [ev.JobLeaseExpired(job.id, job.lease.host_id), *_exhausted(job)] if job.lease is not None else []


def _exhausted(job: Job) -> list[ev.Event]:
    """One lease more was lost; too many of these end the job as failed."""
    if job.losses + 1 < losses_allowed(job.asked.kind):
        return []
    times = "once" if job.losses == 0 else f"{job.losses + 1} times"
    return [ev.JobFailed(job.id, None, 0, -1, "", "", f"its lease was lost {times}", "exhausted")]


def cancel(job: Job) -> list[ev.Event]:
    """Stop the job for good. Raises AlreadyFinished."""
    if job.finished:
        raise AlreadyFinished(f"job {job.id} has already finished: {job.status}")
    return [ev.JobCancelled(job.id)]


def retry(job: Job) -> list[ev.Event]:
    """Queue a failed or cancelled job again. Raises NotFinished, or Refused for a completed one."""
    if not job.finished:
        raise NotFinished(f"job {job.id} has not finished: {job.status}")
    if job.status == COMPLETED:
        raise Refused(f"job {job.id} has completed; enqueue it anew")
    return [ev.JobRevived(job.id, job.asked, job.position, job.created_at, job.version + 1, job.attempts)]


def evolve(job: Job | None, event: ev.Event, stamp: Stamp) -> Job | None:
    """The job after the event; None when there was no such job."""
    if isinstance(event, ev.JobEnqueued):
        return Job(event, stamp.seq, stamp.at, stamp.at, not_before=event.not_before)
    if isinstance(event, ev.JobRevived):
        return Job(event.asked, event.position, event.created_at, stamp.at, event.changes, attempts=event.attempts)
    if job is None:
        return None
    to = partial(_changed, job, version=job.version + 1, updated_at=stamp.at)
    match event:
        case ev.JobLeased(host_id=host, lease_ms=ttl, claim_id=claim):
            lease = Lease(host, stamp.token, stamp.at, ttl, claim)
            return to(status=LEASED, lease=lease, last_token=lease.token, host_id=host, attempts=job.attempts + 1)
        case ev.JobReleased(lost=lost):
            return to(status=QUEUED, lease=None, host_id=None, losses=job.losses + lost)
        case ev.JobLeaseExpired():
            return to(status=QUEUED, lease=None, host_id=None, losses=job.losses + 1)
        case ev.JobCompleted(host_id=host) as done:
            return to(status=COMPLETED, lease=None, host_id=host, result=_result(done, stamp))
        case ev.JobFailed(host_id=host, error=error, reason=reason) as failed:
            failures = job.failures + (reason == "failed")
            result = None if host is None else _result(failed, stamp)
            return to(status=FAILED, lease=None, host_id=host, failures=failures, result=result, error=error, reason=reason)
        case ev.JobRetryScheduled(not_before=not_before):
            return to(status=QUEUED, not_before=not_before, host_id=None, result=None, error=None, reason=None)
        case ev.JobCancelled(reason=reason):
            return to(status=CANCELLED, lease=None, reason=reason)
    return job


_PLACES = {field.name: place for place, field in enumerate(fields(Job))}
_values = attrgetter(*_PLACES)


def _changed(job: Job, **changes: object) -> Job:
    """As dataclasses.replace, in half the time: every event of a job but the first comes through here."""
    values: list[Any] = list(_values(job))
    for name, value in changes.items():
        values[_PLACES[name]] = value
    return Job(*values)


def _result(event: ev.JobCompleted | ev.JobFailed, stamp: Stamp) -> Result:
    return Result(stamp.at, event.duration_ms, event.exit_code, event.stdout, event.stderr, event.detail)

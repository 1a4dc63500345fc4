"""A second opinion on the queue, which shares no code with it: plain dictionaries that hear every event and object to an illegal one.

The judge knows the rules in their plainest form, without indexes and without care for speed, and keeps what each job has looked like, so
that an answer which shows a job as it never was is found.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from skyclaw import events as ev
from skyclaw.scheduling.jobs import Job
from tests.scheduling.service_judge import TYPESCRIPT_ROOM, ServiceJudge

LOSSES = {"openclaw-run": 1}
KEY_TTL = 86_400_000
SILENCE = 86_400_000


@dataclass
class Facts:
    """A job as its events tell it."""

    asked: ev.JobEnqueued
    position: int
    created: int
    status: str = "queued"
    changes: int = 1
    not_before: int = 0
    host: str | None = None
    token: str | None = None  # of the lease in force
    claim: str | None = None
    leased_at: int = 0
    last_token: str | None = None
    attempts: int = 0
    failures: int = 0
    losses: int = 0
    retry_due: bool = False  # failed, with attempts left
    reason: str | None = None

    @property
    def finished(self) -> bool:
        return self.status in ("completed", "failed", "cancelled")

    @property
    def losses_allowed(self) -> int:
        return LOSSES.get(self.asked.kind, 5)

    @property
    def looks(self) -> tuple[Any, ...]:
        """What an answer must agree with."""
        counts = self.attempts, self.failures, self.losses
        return self.asked, self.position, self.created, self.status, self.not_before, self.host, self.token, counts, self.reason


def looks(job: Job) -> tuple[Any, ...]:
    """The same of a job in an answer."""
    lease = job.lease.token if job.lease else None
    counts = job.attempts, job.failures, job.losses
    return job.asked, job.position, job.created_at, job.status, job.not_before, job.host_id, lease, counts, job.reason


@dataclass
class HostFacts:
    """A host as its events tell it."""

    capabilities: frozenset[str]
    room: int
    since: int  # position of the registration
    mode: str = "active"
    changes: int = 1
    losses: int = 0
    takes: str | None = None  # instances of services, as its label says

    @property
    def managed(self) -> bool:
        return self.takes is not None

    @property
    def room_for_instances(self) -> int:
        return TYPESCRIPT_ROOM if self.takes is None else int(self.takes)


@dataclass
class Judge(ServiceJudge):
    """Hears the events of one log from its beginning."""

    jobs: dict[str, Facts] = field(default_factory=dict)
    hosts: dict[str, HostFacts] = field(default_factory=dict)
    keys: dict[tuple[str, str], tuple[str, tuple[str, ...], int, int]] = field(default_factory=dict)
    history: dict[str, dict[int, tuple[Any, ...]]] = field(default_factory=dict)
    endings: dict[str, int] = field(default_factory=dict)  # position of each job's latest end

    def hear(self, event: ev.Event, seq: int, epoch: str, at: int) -> None:
        """Take note of an event; AssertionError when it may not follow what was heard before."""
        assert seq == self.end + 1, "positions are gapless"
        self.end = seq
        getattr(self, "_" + type(event).__name__)(event, epoch, at)
        job = self.jobs.get(getattr(event, "job_id", ""))
        if job is not None:
            self.history.setdefault(job.asked.job_id, {})[job.changes] = job.looks
            if job.finished:
                self.endings[job.asked.job_id] = seq

    def held(self, host_id: str) -> list[str]:
        """The ids of the jobs that the host holds."""
        return [job_id for job_id, job in self.jobs.items() if job.status == "leased" and job.host == host_id]

    def best(self, host_id: str, now: int, limit: int) -> list[str]:
        """The jobs the host must get now if it may take `limit` more."""
        offered = self.hosts[host_id].capabilities
        fitting = [
            (-job.asked.priority, job.position, job_id)
            for job_id, job in self.jobs.items()
            if job.status == "queued" and job.not_before <= now and offered.issuperset(job.asked.required)
        ]
        return [job_id for _, _, job_id in sorted(fitting)][: max(limit, 0)]

    def room(self, host_id: str) -> int:
        """How many more jobs the host may hold."""
        return self.hosts[host_id].room - len(self.held(host_id))

    def _change(self, event: Any, *allowed: str) -> Facts:
        job = self.jobs[event.job_id]
        assert job.status in allowed, f"{event} of a job that is {job.status}"
        assert not job.retry_due or isinstance(event, ev.JobRetryScheduled)
        job.changes += 1
        return job

    def _end_lease(self, job: Facts, status: str) -> None:
        job.status, job.token, job.claim = status, None, None

    def _OwnershipTaken(self, _event: ev.OwnershipTaken, _epoch: str, _at: int) -> None:
        pass

    def _Pruned(self, event: ev.Pruned, _epoch: str, at: int) -> None:
        assert event.keys_until <= at - KEY_TTL
        self.keys = {name: entry for name, entry in self.keys.items() if entry[3] > event.keys_until}

    def _remember(self, scope: str, key: str, digest: str, subjects: tuple[str, ...], at: int) -> None:
        assert (scope, key) not in self.keys, "one key, one effect"
        self.keys[scope, key] = digest, subjects, self.end, at

    def _RequestAnswered(self, event: ev.RequestAnswered, _epoch: str, at: int) -> None:
        self._remember(event.scope, event.key, event.digest, event.subjects, at)

    def _HostRegistered(self, event: ev.HostRegistered, _epoch: str, _at: int) -> None:
        old = self.hosts.get(event.host_id)
        born = HostFacts(frozenset(event.capabilities), event.max_parallel, self.end, takes=dict(event.labels).get("services"))
        if old is not None:
            born = replace(born, mode="paused" if old.mode == "paused" else "active", changes=old.changes + 1, losses=old.losses)
        self.hosts[event.host_id] = born

    def _HostModeChanged(self, event: ev.HostModeChanged, _epoch: str, _at: int) -> None:
        host = self.hosts[event.host_id]
        assert host.mode != event.mode
        host.mode, host.changes = event.mode, host.changes + 1

    def _HostForgotten(self, event: ev.HostForgotten, _epoch: str, _at: int) -> None:
        assert not self.held(event.host_id)
        assert not self.instances_of(event.host_id)
        del self.hosts[event.host_id]

    def _InstancePlaced(self, event: ev.InstancePlaced, epoch: str, at: int) -> None:
        host, there = self.hosts[event.host_id], self.instances_of(event.host_id)
        assert host.mode == "active"
        assert len(there) < host.room_for_instances
        assert host.managed or not there.keys() & self.services[event.service_id].instances.keys(), "it takes one of each service"
        super()._InstancePlaced(event, epoch, at)

    def _JobEnqueued(self, event: ev.JobEnqueued, _epoch: str, at: int) -> None:
        assert event.job_id not in self.jobs
        self.jobs[event.job_id] = Facts(event, self.end, at, not_before=event.not_before)
        if event.scope and event.key and event.digest:
            self._remember(event.scope, event.key, event.digest, (event.job_id,), at)

    def _JobLeased(self, event: ev.JobLeased, epoch: str, at: int) -> None:
        assert self.hosts[event.host_id].mode == "active"
        assert self.room(event.host_id) > 0, "a host holds more than it can"
        assert [event.job_id] == self.best(event.host_id, at, 1), "by priority, then age"
        job = self._change(event, "queued")
        job.status, job.host, job.claim, job.leased_at = "leased", event.host_id, event.claim_id, at
        job.token = job.last_token = f"{epoch}/{self.end}"
        job.attempts += 1

    def _JobReleased(self, event: ev.JobReleased, _epoch: str, _at: int) -> None:
        job = self._change(event, "leased")
        self._end_lease(job, "queued")
        job.host = None
        job.losses += event.lost
        assert job.losses <= job.losses_allowed

    def _JobLeaseExpired(self, event: ev.JobLeaseExpired, _epoch: str, _at: int) -> None:
        job = self._change(event, "leased")
        assert job.host == event.host_id
        self._end_lease(job, "queued")
        job.host = None
        job.losses += 1
        assert job.losses <= job.losses_allowed
        if event.host_id in self.hosts:
            self.hosts[event.host_id].losses += 1

    def _JobCompleted(self, event: ev.JobCompleted, _epoch: str, _at: int) -> None:
        job = self._change(event, "leased")
        assert job.host == event.host_id
        self._end_lease(job, "completed")
        self._praise(event.host_id)

    def _JobFailed(self, event: ev.JobFailed, _epoch: str, _at: int) -> None:
        if event.reason == "exhausted":
            job = self._change(event, "queued")
            assert job.losses == job.losses_allowed
            job.host = None
        else:
            job = self._change(event, "leased")
            assert job.host == event.host_id
            job.failures += 1
            assert job.failures <= job.asked.max_attempts
            job.retry_due = job.failures < job.asked.max_attempts
            self._praise(event.host_id)
        self._end_lease(job, "failed")
        job.reason = event.reason

    def _praise(self, host_id: str | None) -> None:
        if host_id in self.hosts:
            self.hosts[host_id].losses = 0

    def _JobRetryScheduled(self, event: ev.JobRetryScheduled, _epoch: str, at: int) -> None:
        job = self._change(event, "failed")
        assert job.retry_due
        longest = min(job.asked.backoff_ms * 2 ** (job.failures - 1), 3_600_000)
        assert longest // 2 <= event.not_before - at <= longest
        job.status, job.not_before, job.retry_due, job.host, job.reason = "queued", event.not_before, False, None, None

    def _JobRevived(self, event: ev.JobRevived, _epoch: str, _at: int) -> None:
        old = self._change(event, "failed", "cancelled")
        assert (event.asked, event.position, event.created_at) == (old.asked, old.position, old.created)
        assert (event.changes, event.attempts) == (old.changes, old.attempts)
        self.jobs[event.job_id] = Facts(old.asked, old.position, old.created, changes=old.changes, attempts=old.attempts)

    def _JobCancelled(self, event: ev.JobCancelled, _epoch: str, _at: int) -> None:
        job = self._change(event, "queued", "leased")
        self._end_lease(job, "cancelled")
        job.reason = event.reason

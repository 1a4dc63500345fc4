"""Jobs and hosts as they are shown: JSON objects without the fields that have nothing to say."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from skyclaw.answers import HostSeen, JobSeen
from skyclaw.scheduling.jobs import Job, Lease, Result

View = dict[str, Any]


def dump(view: Any) -> bytes:
    """The JSON text of an answer."""
    return orjson.dumps(view, option=orjson.OPT_INDENT_2)


def iso(ms: int) -> str:
    """A time in ms as ISO 8601, UTC, with milliseconds."""
    seconds, rest = divmod(ms, 1000)
    return f"{_whole_seconds(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=4096)
def _whole_seconds(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class Views:
    """How a coordinator with this label shows things."""

    def __init__(self, node: str) -> None:
        self._node = node

    def job(self, job: Job, lease_end: int | None = None, *, unschedulable: bool = False) -> View:
        """A job; of a lease whose present end is not known, the end it had when it began is shown."""
        asked = job.asked
        view: View = {
            "id": asked.job_id,
            "createdAt": iso(job.created_at),
            "updatedAt": iso(job.updated_at),
            "updatedBy": self._node,
            "version": job.version,
            "status": job.status,
            "attempts": job.attempts,
            "requirement": {"requiredCapabilities": asked.required},
            "payload": orjson.Fragment(asked.payload),
        }
        if asked.submitted_by is not None:
            view["submittedBy"] = asked.submitted_by
        if job.lease is not None:
            view["leaseExpiresAt"] = iso(lease_end or job.lease.leased_at + job.lease.ttl_ms)
        if job.host_id is not None:
            view["assignedHostId"] = job.host_id
        _add_wishes(view, job)
        _add_outcome(view, job)
        if unschedulable:
            view["unschedulable"] = True
        return view

    def seen(self, seen: JobSeen) -> View:
        """A live job with its soft state."""
        return self.job(seen.job, seen.lease_end, unschedulable=seen.unschedulable)

    def claimed(self, seen: JobSeen) -> View:
        """A job for the host that holds it, with the token of its lease."""
        return {**self.seen(seen), **_of_lease(seen.job.lease)}

    def host(self, seen: HostSeen) -> View:
        """A host with its soft state."""
        host = seen.host
        view: View = {
            "id": host.id,
            "name": host.name,
            "capabilities": sorted(host.capabilities),
            "maxParallel": host.max_parallel,
            "activeLeases": seen.active_leases,
            "lastSeenAt": iso(seen.last_seen),
            "registeredAt": iso(host.registered_at),
            "updatedAt": iso(host.updated_at),
            "updatedBy": self._node,
            "version": host.version,
            "mode": seen.mode,
            "online": seen.online,
        }
        if host.labels:
            view["labels"] = dict(host.labels)
        return view


def _add_wishes(view: View, job: Job) -> None:
    """What was asked beyond the usual."""
    asked = job.asked
    if asked.priority:
        view["priority"] = asked.priority
    if job.not_before:
        view["notBefore"] = iso(job.not_before)
    if asked.max_attempts != 1:
        view["maxAttempts"] = asked.max_attempts
    if asked.timeout_ms is not None:
        view["timeoutMs"] = asked.timeout_ms
    if asked.labels:
        view["labels"] = dict(asked.labels)


def _add_outcome(view: View, job: Job) -> None:
    """What became of it."""
    if job.result is not None:
        view["result"] = _result(job.result)
    if job.error is not None:
        view["error"] = job.error
    if job.reason is not None:
        view["reason"] = job.reason
    if job.losses:
        view["losses"] = job.losses


def _of_lease(lease: Lease | None) -> View:
    return {"leaseToken": lease.token, "leaseMs": lease.ttl_ms} if lease is not None else {}


def _result(result: Result) -> View:
    view: View = {"finishedAt": iso(result.finished_at), "durationMs": result.duration_ms, "exitCode": result.exit_code}
    if result.stdout is not None:
        view["stdout"] = result.stdout
    if result.stderr is not None:
        view["stderr"] = result.stderr
    return {**orjson.loads(result.detail), **view} if result.detail != "{}" else view

"""The simulation's jobs, and services: the state of a log as a pure function of its records.

A service is an entry under its name, which no job has, and keeps nothing but the number of its latest revision.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from skyclaw.records import Record

Token = tuple[str, int]  # epoch and position of the lease
Jobs = dict[str, "Job"]


class Job(NamedTuple):
    """A job as its log has it."""

    status: str  # queued | leased | done, of a service: deployed
    token: Token = ("", 0)
    host: str = ""
    claim: str = ""
    result: str = ""
    revision: int = 0  # of a service


@lru_cache(maxsize=65536)
def _fields(data: str) -> dict[str, Any]:
    fields: dict[str, Any] = orjson.loads(data)
    return fields


def fold(jobs: Jobs, record: Record) -> None:
    """What a record makes of the jobs."""
    if record.type not in _FOLDED:
        return
    fields = _fields(record.data)
    if record.type == "ServiceDeployed":
        jobs[fields["name"]] = Job("deployed", revision=fields["revision"])
        return
    job_id = fields["job_id"]
    if record.type == "JobEnqueued":
        jobs[job_id] = Job("queued")
    elif record.type == "JobLeased":
        jobs[job_id] = Job("leased", (record.epoch, record.seq), fields["host_id"], fields["claim_id"])
    elif record.type == "JobLeaseExpired":
        jobs[job_id] = jobs[job_id]._replace(status="queued")
    else:
        jobs[job_id] = jobs[job_id]._replace(status="done", result=fields["stdout"])


_FOLDED = frozenset({"JobEnqueued", "JobLeased", "JobLeaseExpired", "JobCompleted", "ServiceDeployed"})


def revision_of(jobs: Jobs, name: str) -> int:
    """The latest revision of a service; 0 when there is no such service."""
    return jobs[name].revision if name in jobs else 0


def is_of_a_job(record: Record) -> bool:
    """Is it about a job or a service, rather than about the log?"""
    return record.type in _FOLDED


def legal(jobs: Jobs, record: Record) -> bool:
    """May the record follow? An owner never appends one that may not."""
    if record.type not in _FOLDED:
        return True
    fields = _fields(record.data)
    if record.type == "ServiceDeployed":
        return bool(fields["revision"] == revision_of(jobs, fields["name"]) + 1)
    job = jobs.get(fields["job_id"])
    if record.type == "JobEnqueued":
        return job is None
    if record.type == "JobLeased":
        return job is not None and job.status == "queued"
    if record.type == "JobLeaseExpired":
        return job is not None and job.status == "leased" and job.host == fields["host_id"]
    return job is not None and job.status == "leased" and job.token == tuple(_fields(fields["detail"])["token"])

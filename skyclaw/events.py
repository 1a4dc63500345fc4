"""What has happened, in the past tense: the vocabulary of the event log.

Each event is a frozen dataclass of plain values. Times are milliseconds since the epoch (UTC), durations milliseconds. `version` is the
version in which the event is written today; `skyclaw.codec` reads the older ones. Heartbeats, lease renewals and load are soft state and
never events.
"""

from dataclasses import dataclass
from typing import ClassVar


class Event:
    """Base of all events; `version` is raised when a field changes its meaning."""

    __slots__ = ()
    version: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class OwnershipTaken(Event):
    """A node became the owner of the log, under the epoch of this event's envelope."""

    node: str  # replica id of the new owner
    reason: str  # founded | restarted | takeover | handed over | forced by <operator>


@dataclass(frozen=True, slots=True)
class ConfigurationChanged(Event):
    """Who votes in this log and how many copies a write needs, in force from this position on, committed or not.

    Two configurations while voters change: both must agree until the next event leaves the new one alone.
    """

    configurations: tuple[tuple[tuple[str, ...], int], ...]  # (voters, sorted; copies)


@dataclass(frozen=True, slots=True)
class PeerEvicted(Event):
    """The operator turned a node out of the network: its messages are refused by all, and it is replaced where it votes."""

    node: str
    by: str  # the coordinator at which it was said


@dataclass(frozen=True, slots=True)
class Pruned(Event):
    """Idempotency keys that were used at or before `keys_until` have been forgotten."""

    keys_until: int  # ms


@dataclass(frozen=True, slots=True)
class RequestAnswered(Event):
    """A request with an idempotency key was answered; a repetition gets the answer again, without the effect.

    `subjects` are the ids of the jobs or hosts the answer was about: what they were at this event's position is the answer.
    """

    scope: str  # concrete path of the request
    key: str
    digest: str  # sha256 of path and canonical body, hex
    subjects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostRegistered(Event):
    """A host began a life: it holds none of the leases of a former one, except those it listed."""

    host_id: str
    name: str
    capabilities: tuple[str, ...]  # sorted
    max_parallel: int
    labels: tuple[tuple[str, str], ...] = ()
    life: int = 0  # the highest number over all logs is the host's present life


@dataclass(frozen=True, slots=True)
class HostModeChanged(Event):
    """An operator (or the host itself) said whether the host may take work: active | paused | draining."""

    host_id: str
    mode: str


@dataclass(frozen=True, slots=True)
class HostForgotten(Event):
    """A host that was not heard of for long was dropped from the list."""

    host_id: str


@dataclass(frozen=True, slots=True)
class JobEnqueued(Event):
    """A job was accepted."""

    job_id: str
    kind: str
    payload: str  # JSON text of the whole payload, verbatim
    required: tuple[str, ...]  # capabilities, sorted
    submitted_by: str | None = None
    priority: int = 0  # higher first
    not_before: int = 0  # ms, 0: at once
    max_attempts: int = 1  # reported failures
    backoff_ms: int = 1000  # delay after the first failure; doubles with each
    timeout_ms: int | None = None
    labels: tuple[tuple[str, str], ...] = ()
    scope: str | None = None  # with key and digest: the idempotency key, as in RequestAnswered
    key: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class JobLeased(Event):
    """A host took the job; the lease's fencing token is the epoch and position of this event."""

    job_id: str
    host_id: str
    lease_ms: int
    claim_id: str | None = None


@dataclass(frozen=True, slots=True)
class JobReleased(Event):
    """The lease ended without a result: given back, or its host began a new life, whereby the attempt was `lost`."""

    job_id: str
    reason: str
    lost: bool = False


@dataclass(frozen=True, slots=True)
class JobLeaseExpired(Event):
    """The owner's clock passed the lease's end; the attempt counts as lost."""

    job_id: str
    host_id: str


@dataclass(frozen=True, slots=True)
class JobCompleted(Event):
    """The attempt in force reported success."""

    job_id: str
    host_id: str
    duration_ms: int
    exit_code: int
    stdout: str
    stderr: str
    detail: str = "{}"  # JSON object: further result fields the host reported, verbatim


@dataclass(frozen=True, slots=True)
class JobFailed(Event):
    """The attempt in force reported failure, or the job was given up (`reason`: exhausted); JobRetryScheduled may follow."""

    job_id: str
    host_id: str | None
    duration_ms: int
    exit_code: int
    stdout: str
    stderr: str
    error: str | None = None
    reason: str = "failed"  # failed | exhausted
    detail: str = "{}"


@dataclass(frozen=True, slots=True)
class JobRetryScheduled(Event):
    """The job is queued again, not before `not_before`; the delay, jitter included, is fixed here so that a replay repeats it."""

    job_id: str
    not_before: int


@dataclass(frozen=True, slots=True)
class JobRevived(Event):
    """A failed or cancelled job was queued again on request, with all its attempts; it carries what memory had already let go."""

    job_id: str
    asked: JobEnqueued
    position: int
    created_at: int
    changes: int  # the job's version after this event
    attempts: int


@dataclass(frozen=True, slots=True)
class JobCancelled(Event):
    """The job will not run (again); a host that runs it learns so from its next heartbeat."""

    job_id: str
    reason: str = "requested"


@dataclass(frozen=True, slots=True)
class ServiceDeployed(Event):
    """A service got a new revision, which takes the place of the present one as soon as it is healthy; the first one makes the service.

    A stopped or removed service is wanted again.
    """

    service_id: str
    revision: int  # 1, 2, ...
    name: str
    command: str
    args: tuple[str, ...]
    replicas: int
    required: tuple[str, ...]  # capabilities, sorted
    cwd: str | None = None
    env: tuple[tuple[str, str], ...] = ()
    health_path: str | None = None  # None: it is healthy when its port accepts
    health_timeout_ms: int = 30_000  # from the start of a process to its first healthy answer
    drain_ms: int = 10_000  # between the last new request and the end
    bundle: str | None = None  # sha256 of the packed directory it runs in, hex
    reason: str = "deployed"  # deployed | restarted | rolled back to <revision>
    scope: str | None = None  # with key and digest: the idempotency key, as in RequestAnswered
    key: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class ServiceScaled(Event):
    """So many instances of the service are wanted."""

    service_id: str
    replicas: int


@dataclass(frozen=True, slots=True)
class ServiceStopped(Event):
    """No instance of the service is wanted until it is deployed or restarted."""

    service_id: str


@dataclass(frozen=True, slots=True)
class ServiceRemoved(Event):
    """The service is not wanted any more; it is forgotten when its last instance has ended."""

    service_id: str


@dataclass(frozen=True, slots=True)
class ServiceForgotten(Event):
    """A removed service has no instance any more."""

    service_id: str


@dataclass(frozen=True, slots=True)
class RolloutEnded(Event):
    """The newest revision took the place of the former one, or (not `succeeded`) the former one stays, for this reason."""

    service_id: str
    revision: int
    succeeded: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class InstancePlaced(Event):
    """A host is to run an instance of this revision of the service."""

    service_id: str
    instance_id: str
    revision: int
    host_id: str


@dataclass(frozen=True, slots=True)
class InstanceReported(Event):
    """The instance's host says how it is: starting | running. One that its host restarts is starting again; one that failed has ended."""

    service_id: str
    instance_id: str
    status: str
    endpoint: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class InstanceDraining(Event):
    """No new request is to reach the instance, and its host is to end it after the revision's `drain_ms`."""

    service_id: str
    instance_id: str
    reason: str  # replaced | scaled down | stopped | removed | moved | not healthy


@dataclass(frozen=True, slots=True)
class InstanceEnded(Event):
    """The instance is no more: drained | failed (its host gave it up) | lost (its host was not heard of, or ended it) | unclaimed.

    Or it is left: its host cannot be told to end it.

    After what was not wanted, another one may be placed at `retry_at`; the delay is fixed here so that a replay repeats it.
    """

    service_id: str
    instance_id: str
    reason: str
    error: str | None = None
    retry_at: int = 0  # ms, 0: at once


ALL: tuple[type[Event], ...] = (
    OwnershipTaken,
    ConfigurationChanged,
    PeerEvicted,
    Pruned,
    RequestAnswered,
    HostRegistered,
    HostModeChanged,
    HostForgotten,
    JobEnqueued,
    JobLeased,
    JobReleased,
    JobLeaseExpired,
    JobCompleted,
    JobFailed,
    JobRetryScheduled,
    JobRevived,
    JobCancelled,
    ServiceDeployed,
    ServiceScaled,
    ServiceStopped,
    ServiceRemoved,
    ServiceForgotten,
    RolloutEnded,
    InstancePlaced,
    InstanceReported,
    InstanceDraining,
    InstanceEnded,
)


def stream_of(event: Event) -> str:
    """The stream an event belongs to: its job, else its service, else its host, else the log's own."""
    return getattr(event, "job_id", None) or getattr(event, "service_id", None) or getattr(event, "host_id", None) or "log"

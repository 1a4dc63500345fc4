"""What the queue answers: frozen views of jobs and hosts with the soft state that is not in the log. Times are ms (UTC)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from skyclaw.scheduling.hosts import Host
from skyclaw.scheduling.jobs import QUEUED, Job
from skyclaw.services.service import Instance, Service


@dataclass(frozen=True, slots=True)
class JobSeen:
    """A job, the present end of its lease, and whether any known host could run it."""

    job: Job
    lease_end: int | None = None
    unschedulable: bool = False
    duplicate: bool = False  # the report had been accepted before
    parked: bool = True  # False: the answer could not wait because too many do
    until: int | None = None  # of a duplicate: the position up to which its log may be read


@dataclass(frozen=True, slots=True)
class JobsSeen:
    """Several jobs, in the order of the request."""

    jobs: tuple[JobSeen, ...]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The job is not among the live ones: its log knows it, if anybody does, and may be read up to position `until`."""

    job_id: str
    until: int


@dataclass(frozen=True, slots=True)
class Repeated:
    """The request was answered before: about `subjects`, as they were at position `seq` of their log."""

    subjects: tuple[str, ...]
    seq: int


@dataclass(frozen=True, slots=True)
class HostSeen:
    """A host with its soft state; `mode` also says quarantined."""

    host: Host
    mode: str
    last_seen: int
    online: bool
    active_leases: int
    owners: tuple[str, ...] = ()  # other coordinators' logs in which the host holds leases: it begins a new life there, too


@dataclass(frozen=True, slots=True)
class HeartbeatSeen:
    """The host, and which of its jobs it must stop: cancelled ones, and those whose lease is no longer its own."""

    host: HostSeen
    cancelled: tuple[str, ...]
    lost: tuple[str, ...]
    owners: tuple[str, ...] = ()  # other coordinators' logs in which it holds leases, or says so: their owners have to be told, too
    services: str = ""  # digest of the instances that are wanted of the host, in all known logs; empty when there are none


@dataclass(frozen=True, slots=True)
class Claimed:
    """The leases a claim got; when none, perhaps why, and when to come back if the claim could not be parked."""

    jobs: tuple[JobSeen, ...]
    reason: str | None = None
    crowded: bool = False  # too many claims are parked: come back later
    services: str = ""  # as in HeartbeatSeen


@dataclass(frozen=True, slots=True)
class ReportsSeen:
    """For each report in order: the job's status, or the refusal (code, sentence); `not_owner` where another coordinator decides."""

    results: tuple[tuple[str, str] | tuple[str, str, str], ...]  # (job id, status) | (job id, code, sentence)


@dataclass(frozen=True, slots=True)
class HostFit:
    """Whether a host could run a job now, and the reason in words."""

    host_id: str
    name: str
    can: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Explained:
    """Why a job is where it is."""

    job: Job
    reasons: tuple[str, ...]
    hosts: tuple[HostFit, ...]


@dataclass(frozen=True, slots=True)
class HostsSeen:
    """All hosts."""

    hosts: tuple[HostSeen, ...]


@dataclass(frozen=True, slots=True)
class Surveyed:
    """All live jobs, hosts and services; the latest finished jobs as heads, oldest first. Who asked makes the views, not the queue."""

    live: tuple[Job, ...]
    lease_ends: Mapping[str, int]
    hosts: tuple[HostSeen, ...]
    finished: tuple[Job, ...]
    queued: int
    services: tuple[Service, ...] = ()  # the oldest first

    @property
    def leased(self) -> int:
        """How many jobs are in hosts' hands."""
        return len(self.live) - self.queued

    def see(self, some: Iterable[Job]) -> Iterator[JobSeen]:
        """Live jobs as they are shown; each set of requirements is held against the hosts once."""
        fits: dict[tuple[str, ...], bool] = {}
        for job in some:
            required = job.asked.required
            if required not in fits:
                fits[required] = any(seen.host.capabilities.issuperset(required) for seen in self.hosts)
            yield JobSeen(job, self.lease_ends.get(job.id), job.status == QUEUED and not fits[required])


@dataclass(frozen=True, slots=True)
class HostsHeard:
    """The hosts that were heard of here lately, and how many ms ago."""

    ages: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Reaped:
    """What the passing of time led to: counts."""

    expired: int = 0  # leases
    started: int = 0  # delayed jobs that may run now
    forgotten: int = 0  # hosts
    pruned: int = 0  # idempotency keys
    lost: int = 0  # instances of services

    def __bool__(self) -> bool:
        return any((self.expired, self.started, self.forgotten, self.pruned, self.lost))

    def __add__(self, other: "Reaped") -> "Reaped":
        return Reaped(
            self.expired + other.expired,
            self.started + other.started,
            self.forgotten + other.forgotten,
            self.pruned + other.pruned,
            self.lost + other.lost,
        )


@dataclass(frozen=True, slots=True)
class Dismissed:
    """So many claims and watchers were sent away."""

    count: int


@dataclass(frozen=True, slots=True)
class ServiceSeen:
    """A service as its log has it."""

    service: Service


@dataclass(frozen=True, slots=True)
class ServicesSeen:
    """All services, the oldest first."""

    services: tuple[Service, ...]


@dataclass(frozen=True, slots=True)
class ServiceExplained:
    """Why a service is as it is."""

    service: Service
    reasons: tuple[str, ...]
    hosts: tuple[HostFit, ...]


@dataclass(frozen=True, slots=True)
class ServiceClaimed:
    """The next service that is placed on the host, if there is one, and the instance of it."""

    service: Service | None
    instance_id: str | None = None


@dataclass(frozen=True, slots=True)
class Synced:
    """What a host is to do about the services of the logs that are decided for here.

    `wanted` are all its instances, those that it is to drain included; `stop` are those that it named and that are not wanted at all.
    `logs` are the logs this speaks for, `owners` the logs of others in which the host has instances, as far as known here, or says so.
    """

    wanted: tuple[tuple[Service, Instance], ...]
    stop: tuple[str, ...]
    logs: tuple[str, ...]
    owners: tuple[str, ...] = ()
    lease_ms: int = 0
    digest: str = ""  # as in HeartbeatSeen

"""What may be asked of the queue. Frozen, so that they may cross threads; times in milliseconds (UTC), durations in milliseconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from skyclaw.events import JobEnqueued


@dataclass(frozen=True, slots=True)
class Keyed:
    """An idempotency key: unique within the scope (the request's concrete path); the digest tells whether the request is the same."""

    scope: str
    key: str
    digest: str


@dataclass(frozen=True, slots=True)
class HeldLease:
    """A lease that a host says it holds."""

    job_id: str
    token: str


@dataclass(frozen=True, slots=True)
class Command:
    """Base of everything that is asked; `keyed` makes a repetition harmless."""

    keyed: Keyed | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Enqueue(Command):
    """Accept jobs, all or none, into the log `home`, whose tag their ids bear. A single job carries its idempotency key itself.

    Without a home it is this coordinator's own log, unless the key is known in a copy of another one.
    """

    jobs: tuple[JobEnqueued, ...]
    home: str | None = None


@dataclass(frozen=True, slots=True)
class Cancel(Command):
    """Never run the job (again)."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Retry(Command):
    """Queue a failed or cancelled job again, with all its attempts."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Register(Command):
    """A host begins a life, holding only `leases` of the former one.

    When it was `forwarded`, the life has been registered elsewhere under the number `life`, and only leases are given back.
    """

    host_id: str
    name: str
    capabilities: tuple[str, ...]
    max_parallel: int
    labels: tuple[tuple[str, str], ...] = ()
    leases: tuple[HeldLease, ...] = ()
    forwarded: bool = False
    life: int = 0


@dataclass(frozen=True, slots=True)
class Heartbeat(Command):
    """A host lives; `leases` are the ones it holds, None (from hosts that do not list them) renews all of them.

    What the claim `answered` and the ones before it brought is among them.
    """

    host_id: str
    leases: tuple[HeldLease, ...] | None = None
    answered: str | None = None
    load: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChangeMode(Command):
    """Say whether a host may take work: active | paused | draining."""

    host_id: str
    mode: str


@dataclass(frozen=True, slots=True)
class Claim(Command):
    """A host asks for at most `limit` jobs; with `park` the answer waits until there is one.

    `skip` names logs of other owners in which nothing was found already; news of them counts nevertheless.
    """

    host_id: str
    limit: int = 1
    claim_id: str | None = None
    park: bool = False
    skip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended, as its host reports it; `detail` is the JSON object of the further fields."""

    success: bool
    duration_ms: int
    exit_code: int
    stdout: str
    stderr: str
    error: str | None = None
    detail: str = "{}"


@dataclass(frozen=True, slots=True)
class Report(Command):
    """The result of an attempt; without a token the host id decides whose attempt it is."""

    job_id: str
    host_id: str
    token: str | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class ReportAll(Command):
    """Several results of one host; each is accepted or refused by itself. With an idempotency key, all are about jobs of one log."""

    host_id: str
    reports: tuple[Report, ...]


@dataclass(frozen=True, slots=True)
class Release(Command):
    """A leased job is given back: it did not fail, it was not done. `unheard` names the claim whose answer did not reach the host."""

    job_id: str
    host_id: str
    token: str | None
    reason: str
    unheard: str | None = None


@dataclass(frozen=True, slots=True)
class FindJob(Command):
    """Show a job; with `park` the answer waits until it has finished."""

    job_id: str
    park: bool = False


@dataclass(frozen=True, slots=True)
class FindHost(Command):
    """Show a host."""

    host_id: str


@dataclass(frozen=True, slots=True)
class ListHosts(Command):
    """Show all hosts."""


@dataclass(frozen=True, slots=True)
class Explain(Command):
    """Say why a job waits, host by host."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Survey(Command):
    """Show everything that is live."""


@dataclass(frozen=True, slots=True)
class Heard(Command):
    """Other coordinators heard of these hosts, so many ms ago."""

    hosts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Rollcall(Command):
    """Say which hosts were heard of here."""


@dataclass(frozen=True, slots=True)
class Reap(Command):
    """Time has passed: end leases, start delayed jobs, look after services, forget silent hosts and old keys.

    For so many ms of it this process was stopped and could hear of nobody: they count for no lease of an instance.
    """

    slept_ms: int = 0


@dataclass(frozen=True, slots=True)
class StopParking(Command):
    """The process is about to end: answer those who wait, and let nobody wait any more."""


@dataclass(frozen=True, slots=True)
class Evict(Command):
    """Turn a coordinator out of the network; `by` is the one at which this was said."""

    node: str
    by: str


# Services. `service` is an id or a name.


@dataclass(frozen=True, slots=True)
class Deploy(Command):
    """Give the service of this name a new revision; a name that is not known becomes a service.

    None means: as the present revision has it, or the default of a first one; an empty `cwd`, `health_path` or `bundle` means none.
    `service_id` names a service that must exist.
    """

    name: str
    command: str
    args: tuple[str, ...] = ()
    cwd: str | None = None
    env: tuple[tuple[str, str], ...] = ()
    replicas: int | None = None
    required: tuple[str, ...] | None = None
    health_path: str | None = None
    health_timeout_ms: int | None = None
    drain_ms: int | None = None
    bundle: str | None = None
    service_id: str | None = None


@dataclass(frozen=True, slots=True)
class Scale(Command):
    """Want so many instances of a service."""

    service: str
    replicas: int


@dataclass(frozen=True, slots=True)
class StopService(Command):
    """Want no instance of a service until it is restarted or deployed."""

    service: str


@dataclass(frozen=True, slots=True)
class RestartService(Command):
    """Replace all instances of a service, one after the other, by fresh ones: a new revision like the present one."""

    service: str


@dataclass(frozen=True, slots=True)
class Rollback(Command):
    """Make a former revision the newest one again; None: the last one before the present one that was healthy."""

    service: str
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class RemoveService(Command):
    """Want a service no more."""

    service: str


@dataclass(frozen=True, slots=True)
class FindService(Command):
    """Show a service."""

    service: str


@dataclass(frozen=True, slots=True)
class ListServices(Command):
    """Show all services."""


@dataclass(frozen=True, slots=True)
class ExplainService(Command):
    """Say why a service is as it is, host by host."""

    service: str


@dataclass(frozen=True, slots=True)
class ClaimService(Command):
    """A host that asks for one service after the other wants to know the next one that is placed on it.

    When it was `forwarded`, other coordinators' logs are left out.
    """

    host_id: str
    forwarded: bool = False


@dataclass(frozen=True, slots=True)
class ReportService(Command):
    """Such a host says how its instance of a service is: pending | running | failed."""

    service: str
    host_id: str
    status: str
    endpoint: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class InstanceNews:
    """What a host says about one of its instances: starting | running | failed | ended."""

    instance_id: str
    status: str
    endpoint: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SyncServices(Command):
    """A host says how all its instances are, which renews their leases, and wants to know what it is to run."""

    host_id: str
    news: tuple[InstanceNews, ...] = ()

"""One service: what is wanted of it, its revisions, and its instances, as the fold of its events.

    placed -> starting <-> running -> (draining) -> ended: drained | left | failed | lost | unclaimed

A revision becomes the `good` one when its rollout has succeeded; until then, and if it fails, the former one goes on serving. An instance
that has ended leaves nothing but a `Failure`, if it was one, and a `Remnant`, if its process may go on. `evolve` never fails.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

from skyclaw import events as ev

PLACED, STARTING, RUNNING, FAILED, DRAINING = "placed", "starting", "running", "failed", "draining"
ENDED = "ended"  # what a host says of an instance that is no more
DRAINED, LEFT, LOST, UNCLAIMED = "drained", "left", "lost", "unclaimed"  # how an instance ends, if it has not failed
ROLLING, SUCCEEDED, SUPERSEDED = "rolling", "succeeded", "superseded"  # of a rollout, which may have failed, too
PENDING, STOPPED = "pending", "stopped"  # of a service, which may be running or failed, too

MOST_REVISIONS = 10  # kept for a rollback
MOST_FAILURES = MOST_REMNANTS = 32
FAILURE_MS = 600_000  # so long is a failure held against its host
STEADY_MS = 300_000  # one that ends sooner after its placement was short-lived, however healthy it has been


@dataclass(frozen=True, slots=True)
class Instance:
    """One process (or one that is to be) of a service on a host. Times are ms."""

    id: str
    revision: int
    host_id: str
    status: str  # placed | starting | running | draining
    placed_at: int
    updated_at: int
    endpoint: str | None = None
    error: str | None = None
    running_since: int | None = None  # when it became healthy last, kept while its host restarts it; None: it never was

    def is_short_lived(self, now: int) -> bool:
        """If it ended now (ms), would that be so soon that the next one is likely to fare the same?"""
        return now - self.placed_at < STEADY_MS


@dataclass(frozen=True, slots=True)
class Failure:
    """An instance that ended as nobody wanted: failed | lost | unclaimed."""

    instance_id: str
    host_id: str
    revision: int
    at: int
    reason: str
    error: str | None


@dataclass(frozen=True, slots=True)
class Remnant:
    """The process of an instance that was lost, or whose host cannot be told to end it, at `at` (ms): it may go on for long."""

    host_id: str
    revision: int
    at: int


@dataclass(frozen=True, slots=True)
class Revision:
    """One deployment, and how it fared. Instances that were lost with their host, or not taken up, are not its failures."""

    asked: ev.ServiceDeployed
    deployed_at: int
    state: str = ROLLING  # rolling | succeeded | failed | superseded by a newer one before it was decided
    reason: str | None = None  # why it failed
    failures: int = 0
    in_a_row: int = 0  # failures since one of its instances was running
    retry_at: int = 0  # none of it is placed before
    error: str | None = None  # of the latest failure
    short_lived: int = 0  # in a row: short-lived instances that failed, or were not taken up

    @property
    def number(self) -> int:
        """1, 2, 3, ..."""
        return self.asked.revision


@dataclass(frozen=True, slots=True)
class Service:
    """A service. `revisions` are the latest ones, the good one, and those of instances, oldest first; `version` counts all changes."""

    id: str
    name: str
    revisions: tuple[Revision, ...]
    target: int  # the revision that is wanted: the newest one, or the good one after that has failed
    replicas: int
    created_at: int
    updated_at: int
    version: int = 1
    good: int = 0  # the revision that was healthy last; 0: none yet
    stopped: bool = False
    removed: bool = False
    instances: tuple[Instance, ...] = ()  # the longest placed first
    failures: tuple[Failure, ...] = ()  # the latest one of each host, oldest first
    remnants: tuple[Remnant, ...] = ()  # likewise

    @property
    def newest(self) -> Revision:
        """The latest deployment."""
        return self.revisions[-1]

    @property
    def present(self) -> Revision:
        """The revision that is wanted."""
        found = self.revision(self.target)
        assert found is not None
        return found

    @property
    def rollout(self) -> str:
        """How far the newest revision is: rolling | succeeded | failed."""
        return self.newest.state

    @property
    def reason(self) -> str | None:
        """Why the newest revision failed."""
        return self.newest.reason

    @property
    def wanted(self) -> int:
        """So many instances there should be."""
        return 0 if self.stopped or self.removed else self.replicas

    @property
    def live(self) -> tuple[Instance, ...]:
        """The instances that are not about to end."""
        return tuple(instance for instance in self.instances if instance.status != DRAINING)

    @property
    def status(self) -> str:
        """In one word: pending | running | failed | stopped."""
        if not self.wanted:
            return RUNNING if self.instances else STOPPED
        live = self.live
        if any(instance.status == RUNNING for instance in live):
            return RUNNING
        return FAILED if not live and self.present.in_a_row else PENDING

    def revision(self, number: int) -> Revision | None:
        """The revision of this number, if it is still known."""
        return next((revision for revision in self.revisions if revision.number == number), None)

    def instance(self, instance_id: str) -> Instance | None:
        """The instance, if it has not ended."""
        return next((instance for instance in self.instances if instance.id == instance_id), None)

    def remnant_on(self, host_id: str) -> Remnant | None:
        """What may go on running on this host."""
        return next((one for one in self.remnants if one.host_id == host_id), None)

    def failure_on(self, host_id: str, now: int) -> Failure | None:
        """The latest failure on this host, unless it is too long ago to matter."""
        return next((one for one in self.failures if one.host_id == host_id and one.at > now - FAILURE_MS), None)


def evolve(service: Service | None, event: ev.Event, at: int) -> Service | None:
    """The service after the event, which was written at `at` (ms); None when there is no such service (any more)."""
    if isinstance(event, ev.ServiceDeployed):
        return _deployed(service, event, at)
    if service is None:
        return None
    to = partial(replace, service, version=service.version + 1, updated_at=at)
    match event:
        case ev.ServiceScaled(replicas=replicas):
            return to(replicas=replicas)
        case ev.ServiceStopped():
            return to(stopped=True)
        case ev.ServiceRemoved():
            return to(removed=True)
        case ev.ServiceForgotten():
            return None
        case ev.RolloutEnded(revision=number, succeeded=True):
            return to(good=number, revisions=_revised(service, number, state=SUCCEEDED))
        case ev.RolloutEnded(revision=number, reason=reason):
            target = service.good if service.good and service.target == number else service.target
            return to(target=target, revisions=_revised(service, number, state=FAILED, reason=reason))
        case ev.InstancePlaced(instance_id=instance_id, revision=number, host_id=host_id):
            return to(instances=(*service.instances, Instance(instance_id, number, host_id, PLACED, at, at)))
        case ev.InstanceReported() | ev.InstanceDraining() | ev.InstanceEnded():
            instance = service.instance(event.instance_id)
            return service if instance is None else to(**_follow(service, instance, event, at))
    return service


def _deployed(service: Service | None, event: ev.ServiceDeployed, at: int) -> Service:
    new = Revision(replace(event, scope=None, key=None, digest=None), at)
    if service is None:
        return Service(event.service_id, event.name, (new,), event.revision, event.replicas, at, at)
    former = service.newest
    revisions = _revised(service, former.number, state=SUPERSEDED) if former.state == ROLLING else service.revisions
    needed = {service.good, *(instance.revision for instance in service.instances)}
    oldest = event.revision - MOST_REVISIONS
    return replace(
        service,
        name=event.name,
        revisions=(*(one for one in revisions if one.number > oldest or one.number in needed), new),
        target=event.revision,
        replicas=event.replicas,
        updated_at=at,
        version=service.version + 1,
        stopped=False,
        removed=False,
    )


def _follow(service: Service, instance: Instance, event: ev.Event, at: int) -> dict[str, object]:
    """What changes with an instance: it, its revision, the failures."""
    match event:
        case ev.InstanceReported(status=status, endpoint=endpoint, error=error) if instance.status != DRAINING:
            since = at if status == RUNNING != instance.status else instance.running_since
            told = replace(instance, status=status, endpoint=endpoint, error=error, updated_at=at, running_since=since)
            revisions = _revised(service, instance.revision, in_a_row=0) if status == RUNNING else service.revisions
            return {"instances": _exchanged(service.instances, told), "revisions": revisions}
        case ev.InstanceDraining():
            return {"instances": _exchanged(service.instances, replace(instance, status=DRAINING, updated_at=at))}
        case ev.InstanceEnded(reason=reason, error=error, retry_at=retry_at):
            rest = tuple(one for one in service.instances if one.id != instance.id)
            gone: dict[str, object] = {"instances": rest, "remnants": _remnants(service, instance, reason, at)}
            if reason in (DRAINED, LEFT):
                return gone
            failure = Failure(instance.id, instance.host_id, instance.revision, at, reason, error)
            revisions = _failed(service, failure, retry_at, instance.is_short_lived(at))
            return {**gone, "failures": _remembered(service.failures, failure), "revisions": revisions}
    return {}


def _exchanged(instances: Iterable[Instance], changed: Instance) -> tuple[Instance, ...]:
    return tuple(changed if one.id == changed.id else one for one in instances)


def _remembered(failures: Iterable[Failure], latest: Failure) -> tuple[Failure, ...]:
    """The failures that still matter: the latest ones, one of each host."""
    others = (one for one in failures if one.host_id != latest.host_id and one.at > latest.at - FAILURE_MS)
    return (*others, latest)[-MOST_FAILURES:]


def _remnants(service: Service, ended: Instance, reason: str, at: int) -> tuple[Remnant, ...]:
    """What may go on running; of an instance that has failed on its host nothing does."""
    if reason not in (LEFT, LOST, FAILED):
        return service.remnants
    others = tuple(one for one in service.remnants if one.host_id != ended.host_id)
    return others if reason == FAILED else (*others, Remnant(ended.host_id, ended.revision, at))[-MOST_REMNANTS:]


def _failed(service: Service, failure: Failure, retry_at: int, short_lived: bool) -> tuple[Revision, ...]:
    revision = service.revision(failure.revision)
    if revision is None:
        return service.revisions
    retry_at = max(revision.retry_at, retry_at)
    before = revision.short_lived if short_lived else 0
    if failure.reason != FAILED:
        return _revised(service, revision.number, retry_at=retry_at, short_lived=before + (failure.reason == UNCLAIMED))
    count, row = revision.failures + 1, revision.in_a_row + 1
    changes = {"failures": count, "in_a_row": row, "error": failure.error, "short_lived": before + short_lived}
    return _revised(service, revision.number, retry_at=retry_at, **changes)


def _revised(service: Service, number: int, **changes: object) -> tuple[Revision, ...]:
    """The revisions, one of them changed."""
    return tuple(replace(one, **changes) if one.number == number else one for one in service.revisions)  # type: ignore[arg-type]

"""What is to be done so that a service becomes what is wanted of it: rules that look at what is, and say the next step.

R is the number of instances that are wanted: the replicas, or 0 when the service is stopped or removed. A *wanted* instance is a live one
of the target revision on a host that is not draining, an *old* one any other live one; those that are draining count for nothing.

 1. A rollout has failed when there is a good revision, and two instances of the target have failed, or it is not healthy ten minutes after
    its deployment. Then the good one is the target again. A first revision has nothing to go back to and is tried for ever.
 2. When R is 0, all live instances are drained.
 3. An old instance that was never healthy is drained as soon as there is a wanted one, one that is being restarted as soon as a wanted one
    is running, and a running one only while more than R are running, wanted and old ones together.
 4. A rollout has succeeded as soon as R wanted instances are running.
 5. More than R wanted instances, or more than R + 1 in all, are too many: those that are not running are drained first, then those on the
    host with the most, then the newest.
 6. While fewer than R wanted instances, and fewer than R + 1 in all, are there, one is placed, unless no host can take it, or the revision
    failed and is not yet to be tried again. An old instance that is not running makes room for it.
 7. An instance that is draining on a host that cannot be told to end it is left to itself at once; all others end when their hosts say so.
 8. A removed service without instances is forgotten.

Each step is folded before the next one is looked for, so that nothing is left to do for whoever asks again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from skyclaw import events as ev
from skyclaw.commands import InstanceNews
from skyclaw.services import placing
from skyclaw.services.placing import HostView
from skyclaw.services.service import (
    DRAINED,
    DRAINING,
    ENDED,
    FAILED,
    LEFT,
    LOST,
    PLACED,
    ROLLING,
    RUNNING,
    UNCLAIMED,
    Instance,
    Service,
    evolve,
)

FAILURES_BORNE = 2  # so many end a rollout
HEALTHY_MS = 600_000  # a rollout succeeds within this time, or has failed
SURGE = 1  # so many more than are wanted there may be, so that the new take the place of the old
FIRST_BACKOFF_MS, LONGEST_BACKOFF_MS = 1_000, 60_000


def reconcile(service: Service, hosts: Mapping[str, HostView], now: int, new_id: Callable[[], str]) -> list[ev.Event]:
    """All that is to be done now (ms); `new_id` draws ids of instances."""
    events: list[ev.Event] = []
    present: Service | None = service
    while present is not None and (event := _next(Scene(present, hosts, now, new_id))) is not None:
        events.append(event)
        hosts = _counted(hosts, present, event)
        present = evolve(present, event, now)
    return events


def take_news(service: Service, instance: Instance, news: InstanceNews, now: int) -> list[ev.Event]:
    """What follows from a host's words about one of its instances: nothing when they are not new.

    A failed instance has ended; the longer the row of its revision's short-lived ones that failed, the later the next one is tried, be it
    that each of them was healthy for a while. One that its host ended unasked is replaced at once if it was healthy, as the host is
    probably about to stop.
    """
    if instance.status == DRAINING:
        return [ev.InstanceEnded(service.id, instance.id, DRAINED)] if news.status in (ENDED, FAILED) else []
    if news.status == ENDED:
        retry_at = now + FIRST_BACKOFF_MS if instance.running_since is None else 0
        return [ev.InstanceEnded(service.id, instance.id, LOST, news.error or "its host ended it", retry_at)]
    if news.status == FAILED:
        return [ev.InstanceEnded(service.id, instance.id, FAILED, news.error, now + backoff_ms(_row(service, instance, now) + 1))]
    if (news.status, news.endpoint, news.error) == (instance.status, instance.endpoint, instance.error):
        return []
    return [ev.InstanceReported(service.id, instance.id, news.status, news.endpoint, news.error)]


def expire(service: Service, instance: Instance, now: int) -> list[ev.Event]:
    """The host has not been heard of for the time of a lease. It may be on another one at once, unless nobody has taken it up lately."""
    if instance.status == DRAINING:
        return [ev.InstanceEnded(service.id, instance.id, DRAINED)]
    if instance.status == PLACED:
        row = _row(service, instance, now)
        retry_at = now + backoff_ms(row) if row else 0
        return [ev.InstanceEnded(service.id, instance.id, UNCLAIMED, "its host did not take it up", retry_at)]
    return [ev.InstanceEnded(service.id, instance.id, LOST, "its host was not heard of")]


def backoff_ms(failures: int) -> int:
    """How long nothing is tried after so many failures in a row: 1 s, 2 s, 4 s, ... one minute."""
    return int(min(FIRST_BACKOFF_MS * 2 ** min(failures - 1, 30), LONGEST_BACKOFF_MS))


def _row(service: Service, instance: Instance, now: int) -> int:
    """So many short-lived ones in a row it continues if it ends now."""
    revision = service.revision(instance.revision)
    return revision.short_lived if revision is not None and instance.is_short_lived(now) else 0


@dataclass(frozen=True)
class Scene:
    """What the rules look at."""

    service: Service
    hosts: Mapping[str, HostView]
    now: int
    new_id: Callable[[], str]

    @cached_property
    def wanted(self) -> list[Instance]:
        """The live instances of the target on hosts that are not draining."""
        return [one for one in self.service.live if self.is_wanted(one)]

    @cached_property
    def old(self) -> list[Instance]:
        """The other live ones; those that should go first come first: of failed and former revisions, then from draining hosts."""
        others = [one for one in self.service.live if not self.is_wanted(one)]
        return sorted(others, key=lambda one: (one.revision == self.service.good, not self.on_draining_host(one), -one.placed_at, one.id))

    @property
    def running(self) -> int:
        """So many live instances are running."""
        return sum(one.status == RUNNING for one in self.service.live)

    @property
    def wanted_running(self) -> int:
        """So many wanted instances are running."""
        return sum(one.status == RUNNING for one in self.wanted)

    @property
    def room(self) -> int:
        """So many instances may be placed before there are too many."""
        return self.service.wanted + SURGE - len(self.service.live)

    def is_wanted(self, instance: Instance) -> bool:
        """Is this live one of the target revision, and may it stay where it is?"""
        return instance.revision == self.service.target and not self.on_draining_host(instance)

    def on_draining_host(self, instance: Instance) -> bool:
        """Is its host to be emptied?"""
        host = self.hosts.get(instance.host_id)
        return host is not None and host.mode == placing.DRAINING

    def drain(self, instance: Instance) -> ev.Event:
        """Let this one end."""
        return ev.InstanceDraining(self.service.id, instance.id, self._why(instance))

    def _why(self, instance: Instance) -> str:
        if not self.service.wanted:
            return "removed" if self.service.removed else "stopped"
        if instance.revision == self.service.target:
            return "moved" if self.on_draining_host(instance) else "scaled down"
        revision = self.service.revision(instance.revision)
        return "not healthy" if revision is not None and revision.state == FAILED else "replaced"


def _give_up(scene: Scene) -> ev.Event | None:
    service, revision = scene.service, scene.service.present
    if not (service.wanted and service.good and revision.state == ROLLING):
        return None
    if revision.failures >= FAILURES_BORNE:
        return ev.RolloutEnded(service.id, revision.number, False, revision.error)
    if scene.now - revision.deployed_at < HEALTHY_MS:
        return None
    why = revision.error or ("some of its instances are still being started" if scene.wanted else "no host could take it")
    return ev.RolloutEnded(service.id, revision.number, False, f"it was not healthy within {HEALTHY_MS // 60_000} minutes: {why}")


def _stop(scene: Scene) -> ev.Event | None:
    return scene.drain(scene.service.live[0]) if scene.service.live and not scene.service.wanted else None


def _replace(scene: Scene) -> ev.Event | None:
    for one in scene.old:
        if one.status == RUNNING:
            spare = scene.running > scene.service.wanted
        else:
            spare = bool(scene.wanted if one.running_since is None else scene.wanted_running)
        if spare:
            return scene.drain(one)
    return None


def _succeed(scene: Scene) -> ev.Event | None:
    service = scene.service
    if service.wanted and service.present.state == ROLLING and scene.wanted_running >= service.wanted:
        return ev.RolloutEnded(service.id, service.target, True)
    return None


def _cut(scene: Scene) -> ev.Event | None:
    idle = [one for one in scene.old if one.status != RUNNING]
    if scene.room < 0 and idle:
        return scene.drain(idle[0])
    if not scene.wanted or (scene.room >= 0 and len(scene.wanted) <= scene.service.wanted):
        return None
    hosts = [one.host_id for one in scene.wanted]
    return scene.drain(max(scene.wanted, key=lambda one: (one.status != RUNNING, hosts.count(one.host_id), one.placed_at, one.id)))


def _place(scene: Scene) -> ev.Event | None:
    service = scene.service
    if len(scene.wanted) >= service.wanted or scene.now < service.present.retry_at:
        return None
    host = placing.choose(service, scene.hosts, scene.now)
    if host is None:
        return None
    if scene.room > 0:
        return ev.InstancePlaced(service.id, scene.new_id(), service.target, host.id)
    idle = [one for one in scene.old if one.status != RUNNING]
    return scene.drain(min(idle, key=lambda one: one.running_since is not None)) if idle else None


def _end(scene: Scene) -> ev.Event | None:
    for one in scene.service.instances:
        host = scene.hosts.get(one.host_id)
        if one.status == DRAINING and host is not None and not host.managed:
            return ev.InstanceEnded(scene.service.id, one.id, LEFT)
    return None


def _forget(scene: Scene) -> ev.Event | None:
    service = scene.service
    return ev.ServiceForgotten(service.id) if service.removed and not service.instances else None


RULES = (_give_up, _stop, _replace, _succeed, _cut, _place, _end, _forget)


def _next(scene: Scene) -> ev.Event | None:
    """The next step, by the first rule that has one."""
    return next((event for rule in RULES if (event := rule(scene)) is not None), None)


def _counted(hosts: Mapping[str, HostView], service: Service, event: ev.Event) -> Mapping[str, HostView]:
    """The hosts with one instance more or less."""
    if isinstance(event, ev.InstancePlaced):
        host_id, more = event.host_id, 1
    elif isinstance(event, ev.InstanceEnded) and (instance := service.instance(event.instance_id)):
        host_id, more = instance.host_id, -1
    else:
        return hosts
    return {**hosts, host_id: replace(hosts[host_id], instances=hosts[host_id].instances + more)}

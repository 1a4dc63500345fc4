"""Short words for what the tests of services are made of."""

from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any

from skyclaw import events as ev
from skyclaw.commands import Deploy, InstanceNews
from skyclaw.services import deployments, reconciling
from skyclaw.services.placing import HostView
from skyclaw.services.service import DRAINING, RUNNING, Instance, Service, evolve

T0 = 1_700_000_000_000
SECOND = 1_000
MINUTE = 60_000
ID = "svc_1"


def deployed(revision: int = 1, replicas: int = 1, **fields: Any) -> ev.ServiceDeployed:
    """The event of a deployment."""
    return ev.ServiceDeployed(ID, revision, "web", fields.pop("command", "node"), (), replicas, ("service-host",), **fields)


def host(host_id: str = "a", **fields: Any) -> HostView:
    """A host of ours with nothing to do."""
    given = {"online": True, "mode": "active", "capabilities": frozenset({"service-host"}), "capacity": 16, "managed": True, "instances": 0}
    return HostView(host_id, host_id.upper(), **{**given, **fields})


def hosts(*views: HostView | str) -> dict[str, HostView]:
    """These hosts by their ids."""
    made = [host(view) if isinstance(view, str) else view for view in views]
    return {view.id: view for view in made}


def lived(*events: ev.Event, at: int = T0) -> Service:
    """The service after these events, all at one time."""
    service = None
    for event in events:
        service = evolve(service, event, at)
    assert service is not None
    return service


def placed(instance_id: str, host_id: str = "a", revision: int = 1) -> ev.InstancePlaced:
    """An instance of this revision is placed on the host."""
    return ev.InstancePlaced(ID, instance_id, revision, host_id)


def told(instance_id: str, status: str = RUNNING, endpoint: str | None = "http://a:1", error: str | None = None) -> ev.InstanceReported:
    """Its host says how it is."""
    return ev.InstanceReported(ID, instance_id, status, endpoint, error)


def draining(instance_id: str, reason: str = "replaced") -> ev.InstanceDraining:
    """It is to end."""
    return ev.InstanceDraining(ID, instance_id, reason)


def ended(instance_id: str, reason: str = "drained", error: str | None = None, retry_at: int = 0) -> ev.InstanceEnded:
    """It has ended."""
    return ev.InstanceEnded(ID, instance_id, reason, error, retry_at)


def running(*names: str, revision: int = 1) -> list[ev.Event]:
    """Running instances: `a1` is the first one on host a."""
    return [event for name in names for event in (placed(name, name[0], revision), told(name))]


class World:
    """A service, its hosts and a clock that the test turns; every event is kept with its time."""

    def __init__(self, *views: HostView | str) -> None:
        self.now = T0
        self.hosts = hosts(*views)
        self.service: Service | None = None
        self.past: list[tuple[ev.Event, int]] = []
        self.before: list[tuple[Service, ev.Event]] = []  # what the latest reconciling decided, and how the service was then
        self._numbers = count(1)

    @property
    def alive(self) -> Service:
        """The service, which is there."""
        assert self.service is not None
        return self.service

    @property
    def views(self) -> Mapping[str, HostView]:
        """The hosts with as many instances as they have."""
        held = [instance.host_id for instance in self.service.instances] if self.service else []
        return {view.id: host(**{**_fields(view), "instances": held.count(view.id)}) for view in self.hosts.values()}

    def happen(self, events: Iterable[ev.Event]) -> None:
        """Let this happen, and what follows from it."""
        for event in events:
            self._apply(event)
        self.before = []
        if self.service is not None:
            for event in self.due():
                self.before.append((self.alive, event))
                self._apply(event)

    def due(self) -> list[ev.Event]:
        """What is to be done now."""
        return reconciling.reconcile(self.alive, self.views, self.now, lambda: f"i{next(self._numbers)}")

    def _apply(self, event: ev.Event) -> None:
        self.past.append((event, self.now))
        self.service = evolve(self.service, event, self.now)

    def deploy(self, command: str = "node", **fields: Any) -> None:
        """A new revision."""
        self.happen(deployments.deploy(self.service, Deploy("web", command, **fields), ID))

    def wish(self, decide: Callable[..., list[ev.Event]], *arguments: Any) -> None:
        """Scale, stop, restart, roll back or remove it."""
        self.happen(decide(self.alive, *arguments))

    def tell(self, instance: Instance, status: str, error: str | None = None) -> None:
        """Its host says how an instance is."""
        endpoint = f"http://{instance.host_id}:1" if status == RUNNING else None
        self.happen(reconciling.take_news(self.alive, instance, InstanceNews(instance.id, status, endpoint, error), self.now))

    def expire(self, instance: Instance) -> None:
        """The host of an instance was not heard of."""
        self.happen(reconciling.expire(self.alive, instance, self.now))

    def pass_time(self, ms: int) -> None:
        """Let time pass."""
        self.now += ms
        self.happen([])

    def run_all(self, fails: str = "broken") -> None:
        """Every host does what it is asked to; processes of the command `fails` never get healthy."""
        for instance in self.alive.instances:
            revision = self.alive.revision(instance.revision)
            if self.service is None or revision is None or self.service.instance(instance.id) is None:
                continue
            if instance.status == DRAINING:
                self.tell(instance, "ended")
            elif revision.asked.command == fails:
                self.tell(instance, "failed", "exit 1")
            else:
                self.tell(instance, RUNNING)

    def kinds(self) -> list[str]:
        """What the latest reconciling decided."""
        return [type(event).__name__ for _, event in self.before]

    def on(self) -> list[str]:
        """The hosts of the live instances."""
        return sorted(instance.host_id for instance in self.alive.live)


def _fields(view: HostView) -> dict[str, Any]:
    names = ("online", "mode", "capabilities", "capacity", "managed", "since")
    return {"host_id": view.id, **{name: getattr(view, name) for name in names}}

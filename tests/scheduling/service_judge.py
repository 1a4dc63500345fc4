"""What the judge knows of services: the rules in their plainest form, and which instances there are."""

from dataclasses import dataclass, field

from skyclaw import events as ev

TYPESCRIPT_ROOM = 16


@dataclass
class InstanceFacts:
    """An instance that has not ended."""

    host: str
    revision: int
    since: int  # position of its placement
    status: str = "placed"


@dataclass
class ServiceFacts:
    """A service as its events tell it."""

    name: str
    replicas: int
    revision: int = 1
    target: int = 1
    stopped: bool = False
    removed: bool = False
    changes: int = 1
    instances: dict[str, InstanceFacts] = field(default_factory=dict)

    @property
    def wanted(self) -> bool:
        return not (self.stopped or self.removed)

    @property
    def live(self) -> list[InstanceFacts]:
        return [one for one in self.instances.values() if one.status != "draining"]


@dataclass
class ServiceJudge:
    """Hears the events about services."""

    end: int = 0
    services: dict[str, ServiceFacts] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)  # instance -> how
    last_revision: dict[str, int] = field(default_factory=dict)

    def named(self, name: str) -> str | None:
        """The id of the service of this name."""
        return next((service_id for service_id, facts in self.services.items() if facts.name == name), None)

    def instances_of(self, host_id: str) -> dict[str, InstanceFacts]:
        """What the host runs, or is to run or to end."""
        every = ((name, one) for facts in self.services.values() for name, one in facts.instances.items())
        return {name: one for name, one in every if one.host == host_id}

    def _changed(self, service_id: str) -> ServiceFacts:
        facts = self.services[service_id]
        facts.changes += 1
        return facts

    def _ServiceDeployed(self, event: ev.ServiceDeployed, _epoch: str, _at: int) -> None:
        facts = self.services.get(event.service_id)
        if facts is None:
            assert event.revision == 1
            assert self.named(event.name) is None, "a name is given once"
            self.services[event.service_id] = ServiceFacts(event.name, event.replicas)
            return
        self._changed(event.service_id)
        assert (event.name, event.revision) == (facts.name, facts.revision + 1)
        facts.revision = facts.target = event.revision
        facts.replicas, facts.stopped, facts.removed = event.replicas, False, False

    def _ServiceScaled(self, event: ev.ServiceScaled, _epoch: str, _at: int) -> None:
        facts = self._changed(event.service_id)
        assert facts.replicas != event.replicas
        facts.replicas = event.replicas

    def _ServiceStopped(self, event: ev.ServiceStopped, _epoch: str, _at: int) -> None:
        facts = self._changed(event.service_id)
        assert facts.wanted
        facts.stopped = True

    def _ServiceRemoved(self, event: ev.ServiceRemoved, _epoch: str, _at: int) -> None:
        facts = self._changed(event.service_id)
        assert not facts.removed
        facts.removed = True

    def _ServiceForgotten(self, event: ev.ServiceForgotten, _epoch: str, _at: int) -> None:
        facts = self.services.pop(event.service_id)
        assert facts.removed
        assert not facts.instances

    def _RolloutEnded(self, event: ev.RolloutEnded, _epoch: str, _at: int) -> None:
        facts = self._changed(event.service_id)
        assert event.revision == facts.revision == facts.target
        if event.succeeded:
            running = [one for one in facts.live if one.revision == facts.target and one.status == "running"]
            assert len(running) >= facts.replicas
        else:
            facts.target = 0  # some former one

    def _InstancePlaced(self, event: ev.InstancePlaced, _epoch: str, _at: int) -> None:
        facts = self._changed(event.service_id)
        assert facts.wanted
        assert len(facts.live) <= facts.replicas, "one more than wanted at most"
        facts.target = facts.target or event.revision
        assert event.revision == facts.target
        assert event.instance_id not in self.ended
        assert all(event.instance_id not in other.instances for other in self.services.values())
        facts.instances[event.instance_id] = InstanceFacts(event.host_id, event.revision, self.end)

    def _InstanceReported(self, event: ev.InstanceReported, _epoch: str, _at: int) -> None:
        instance = self._changed(event.service_id).instances[event.instance_id]
        assert instance.status != "draining"
        assert event.status in ("starting", "running")
        instance.status = event.status

    def _InstanceDraining(self, event: ev.InstanceDraining, _epoch: str, _at: int) -> None:
        instance = self._changed(event.service_id).instances[event.instance_id]
        assert instance.status != "draining"
        instance.status = "draining"

    def _InstanceEnded(self, event: ev.InstanceEnded, _epoch: str, _at: int) -> None:
        instance = self._changed(event.service_id).instances.pop(event.instance_id)
        assert event.reason != "unclaimed" or instance.status == "placed"
        assert (event.reason in ("drained", "left")) is (instance.status == "draining")
        self.ended[event.instance_id] = event.reason

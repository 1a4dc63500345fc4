"""Services as they are shown: what is wanted is that of the revision that is wanted; what it is told in the environment only hosts see."""

from typing import Any

import orjson

from api.views import View, iso
from skyclaw.answers import ServiceExplained
from skyclaw.events import ServiceDeployed
from skyclaw.records import Record
from skyclaw.services.service import DRAINING, FAILED, PLACED, RUNNING, STARTING, Failure, Instance, Revision, Service

HIDDEN = "***"
KEY = ("scope", "key", "digest")
SHOWN_STATUS = {PLACED: "pending", STARTING: "pending", RUNNING: RUNNING, DRAINING: DRAINING}


class ServiceViews:
    """How a coordinator with this label shows services."""

    def __init__(self, node: str) -> None:
        self._node = node

    def record(self, service: Service) -> View:
        """A service for its users."""
        return self._record(service, service.present.asked, dict.fromkeys(dict(service.present.asked.env), HIDDEN))

    def detailed(self, service: Service) -> View:
        """The same with its revisions, the latest one first."""
        return {**self.record(service), "revisions": [_revision(one) for one in reversed(service.revisions)]}

    def claimed(self, service: Service, instance_id: str | None) -> View:
        """A service for a host that is to run this instance of it: what is to be run is that of the instance's revision."""
        instance = service.instance(instance_id) if instance_id is not None else None
        revision = service.revision(instance.revision) if instance is not None else None
        asked = (revision or service.present).asked
        return self._record(service, asked, dict(asked.env))

    def _record(self, service: Service, asked: ServiceDeployed, env: dict[str, str]) -> View:
        view: View = {"id": service.id, "name": service.name, **_program(asked)}
        if env:
            view["env"] = env
        view |= {
            "replicas": service.replicas,
            "requiredCapabilities": asked.required,
            "status": service.status,
            "createdAt": iso(service.created_at),
            "updatedAt": iso(service.updated_at),
            "updatedBy": self._node,
            "version": service.version,
            "assignments": [*map(_assignment, service.instances), *map(_failed, _present_failures(service))],
            "revision": asked.revision,
        }
        if service.good:
            view["goodRevision"] = service.good
        view["rollout"] = {"revision": service.newest.number, "state": service.rollout, **_given(reason=service.reason)}
        view |= {name: True for name, so in (("stopped", service.stopped), ("removed", service.removed)) if so}
        return {**view, **_care(asked)}


def wanted(service: Service, instance: Instance) -> View:
    """One instance for the host that is to run it, or to let it drain."""
    revision = service.revision(instance.revision) or service.present
    asked = revision.asked
    return {
        "instanceId": instance.id,
        "serviceId": service.id,
        "name": service.name,
        "revision": instance.revision,
        **_program(asked),
        "env": dict(asked.env),
        **_care(asked),
        "state": "drain" if instance.status == DRAINING else "run",
    }


def explanation(said: ServiceExplained) -> View:
    """Why a service is as it is."""
    hosts = [{"hostId": fit.host_id, "name": fit.name, "can": fit.can, "reason": fit.reason} for fit in said.hosts]
    return {"service": {"id": said.service.id, "name": said.service.name}, "reasons": said.reasons, "hosts": hosts}


def event(record: Record) -> View:
    """An event of a service, without what it is told in its environment, and without the digest of the request that says it."""
    data: Any = orjson.Fragment(record.data)
    if record.type == ServiceDeployed.__name__:
        data = {name: value for name, value in orjson.loads(record.data).items() if name not in KEY}
        data["env"] = [[name, HIDDEN] for name, _ in data["env"]]
    return {"seq": record.seq, "at": iso(record.at), "type": record.type, "version": record.version, "data": data}


def _given(**values: str | int | None) -> View:
    """What has a value."""
    return {name: value for name, value in values.items() if value is not None}


def _program(asked: ServiceDeployed) -> View:
    """What is run."""
    return {"command": asked.command, "args": asked.args, **_given(cwd=asked.cwd)}


def _care(asked: ServiceDeployed) -> View:
    """How it is looked after."""
    health = {**_given(path=asked.health_path), "timeoutMs": asked.health_timeout_ms}
    return {"health": health, "drainMs": asked.drain_ms, **_given(bundle=asked.bundle)}


def _assignment(instance: Instance) -> View:
    started = iso(instance.running_since) if instance.running_since is not None else None
    return {
        "hostId": instance.host_id,
        "status": SHOWN_STATUS[instance.status],
        **_given(endpoint=instance.endpoint, error=instance.error, startedAt=started),
        "updatedAt": iso(instance.updated_at),
        "instanceId": instance.id,
        "revision": instance.revision,
    }


def _present_failures(service: Service) -> list[Failure]:
    """The failures because of which the revision that is wanted does not run."""
    return [one for one in service.failures if one.revision == service.target and one.reason == FAILED and service.present.in_a_row]


def _failed(failure: Failure) -> View:
    return {
        "hostId": failure.host_id,
        "status": FAILED,
        **_given(error=failure.error),
        "updatedAt": iso(failure.at),
        "instanceId": failure.instance_id,
        "revision": failure.revision,
    }


def _revision(revision: Revision) -> View:
    asked = revision.asked
    return {
        "revision": revision.number,
        "deployedAt": iso(revision.deployed_at),
        "command": asked.command,
        "args": asked.args,
        "reason": asked.reason,
        "state": revision.state,
    }

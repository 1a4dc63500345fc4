"""What may be wanted of a service: each function returns the events that follow from the wish, none if it is so already, or refuses."""

from dataclasses import replace

from skyclaw import events as ev
from skyclaw.commands import Deploy
from skyclaw.errors import Refused
from skyclaw.services.service import SUCCEEDED, Revision, Service

SERVICE_HOST = "service-host"  # the capability of hosts that run services


def deploy(service: Service | None, asked: Deploy, service_id: str) -> list[ev.Event]:
    """Give the service a new revision; the first one makes the service, with this id."""
    if service is None:
        former, number = ev.ServiceDeployed(service_id, 0, asked.name, asked.command, (), 1, (SERVICE_HOST,)), 1
    else:
        former, number = replace(service.present.asked, replicas=service.replicas), service.newest.number + 1
    given = {
        "replicas": asked.replicas,
        "required": None if asked.required is None else tuple(sorted(set(asked.required))),
        "cwd": asked.cwd,
        "health_path": asked.health_path,
        "health_timeout_ms": asked.health_timeout_ms,
        "drain_ms": asked.drain_ms,
        "bundle": asked.bundle,
    }
    changes = {field: None if value == "" else value for field, value in given.items() if value is not None}
    new = replace(former, revision=number, name=asked.name, command=asked.command, args=asked.args, env=asked.env, reason="deployed")
    return [replace(new, **changes)]  # type: ignore[arg-type]


def scale(service: Service, replicas: int) -> list[ev.Event]:
    """Want so many instances. Raises Refused for a removed service."""
    _require_wanted(service)
    return [ev.ServiceScaled(service.id, replicas)] if replicas != service.replicas else []


def stop(service: Service) -> list[ev.Event]:
    """Want no instance, until the service is restarted or deployed."""
    return [] if service.stopped or service.removed else [ev.ServiceStopped(service.id)]


def restart(service: Service) -> list[ev.Event]:
    """Replace all instances, or start a stopped service: a revision like the present one. Raises Refused for a removed service."""
    _require_wanted(service)
    return [_again(service, service.present, "restarted")]


def rollback(service: Service, revision: int | None = None) -> list[ev.Event]:
    """Deploy a former revision again; None is the latest healthy one that differs from the present one. Raises Refused."""
    _require_wanted(service)
    found = _former(service) if revision is None else service.revision(revision)
    if found is None and revision is None:
        raise Refused(f"service {service.name} has no former healthy revision that differs from the present one")
    if found is None:
        known = ", ".join(str(one.number) for one in service.revisions)
        raise Refused(f"service {service.name} has no revision {revision}; there are {known}")
    if found.number == service.target:
        raise Refused(f"revision {revision} of service {service.name} is the present one")
    return [_again(service, found, f"rolled back to {found.number}")]


def remove(service: Service) -> list[ev.Event]:
    """Want the service no more."""
    return [] if service.removed else [ev.ServiceRemoved(service.id)]


def _require_wanted(service: Service) -> None:
    if service.removed:
        raise Refused(f"service {service.name} has been removed")


def _former(service: Service) -> Revision | None:
    """The latest healthy revision that is not the present one, be it under another number."""
    present = _again(service, service.present, "")
    healthy = [one for one in service.revisions if one.state == SUCCEEDED]
    return next((one for one in reversed(healthy) if _again(service, one, "") != present), None)


def _again(service: Service, revision: Revision, reason: str) -> ev.ServiceDeployed:
    """The revision as the newest one, with as many instances as are wanted now."""
    return replace(revision.asked, revision=service.newest.number + 1, name=service.name, replicas=service.replicas, reason=reason)

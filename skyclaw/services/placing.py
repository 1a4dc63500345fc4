"""On which host the next instance of a service is to run, and for each host why (not).

A host of the TypeScript Skyclaw is not `managed`: it cannot be told to stop an instance, and takes one of each service at most. While the
process of another revision may go on there, it is given none: it would say that what it has is what it was given.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from skyclaw.services.service import Service

ACTIVE, DRAINING = "active", "draining"  # modes of a host


@dataclass(frozen=True, slots=True)
class HostView:
    """A host, as far as it matters here. `instances` are all it has, of any service, those that are about to end included."""

    id: str
    name: str
    online: bool
    mode: str
    capabilities: frozenset[str]
    capacity: int  # so many instances it takes
    managed: bool
    instances: int
    since: int = 0  # when it registered last, or its mode was changed, ms


def choose(service: Service, hosts: Mapping[str, HostView], now: int) -> HostView | None:
    """The host for the next instance of the present revision, or None when no host can take one.

    The best one has had no failure of this service lately, then the fewest of these instances, then the fewest in all.
    """
    placed = [instance.host_id for instance in service.live if instance.revision == service.target]

    def rank(host: HostView) -> tuple[bool, int, int, str]:
        return service.failure_on(host.id, now) is not None, placed.count(host.id), host.instances, host.id

    return min((host for host in hosts.values() if obstacle(service, host) is None), key=rank, default=None)


def obstacle(service: Service, host: HostView) -> str | None:
    """Why the host cannot take the next instance, in words that follow its name; None when it can."""
    missing = [name for name in service.present.asked.required if name not in host.capabilities]
    if missing:
        return f"lacks {', '.join(missing)}"
    if not host.online:
        return "is not heard of"
    if host.mode != ACTIVE:
        return f"is {host.mode}"
    if host.managed and not host.capacity:
        return "takes no services"
    if host.instances >= host.capacity:
        return f"is full ({host.instances} of {host.capacity})"
    if not host.managed and any(instance.host_id == host.id for instance in service.instances):
        return "has an instance, and is of the kind that takes one of a service only and does not replace it"
    remnant = service.remnant_on(host.id)
    if not host.managed and remnant is not None and remnant.revision != service.target and remnant.at >= host.since:
        return f"may still run revision {remnant.revision}, which it cannot be told to end, until it is restarted"
    return None

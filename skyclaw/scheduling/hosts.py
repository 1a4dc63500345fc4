"""One host: what it offers, whether it may take work, and how its leases fared.

A host that registers again under its id begins a new life, which has a higher number than all former ones, in whichever logs they were.
Five leases lost in a row put it into quarantine; any result ends the row.
"""

from dataclasses import dataclass, replace

from skyclaw import events as ev
from skyclaw.scheduling.jobs import Stamp

ACTIVE, PAUSED, DRAINING, QUARANTINED = "active", "paused", "draining", "quarantined"
LOSSES_TO_QUARANTINE = 5
QUARANTINE_MS = 600_000
ONLINE_MS = 15_000  # heard of within this time
FORGET_MS = 86_400_000  # not heard of for this long, and holding nothing
SUPERSEDED_MS = 600_000  # a record is kept for so long after a registration in another log


@dataclass(frozen=True, slots=True)
class Host:
    """A host as the log knows it; when it was last seen is soft state."""

    id: str
    name: str
    capabilities: frozenset[str]
    max_parallel: int
    registered_at: int
    updated_at: int
    version: int = 1
    mode: str = ACTIVE
    losses_in_a_row: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    life: int = 0


def evolve(host: Host | None, event: ev.Event, stamp: Stamp) -> Host | None:
    """The host after the event; None when there is no such host (any more)."""
    match event:
        case ev.HostRegistered():
            return _registered(host, event, stamp)
        case ev.HostForgotten():
            return None
    if host is None:
        return None
    match event:
        case ev.HostModeChanged(mode=mode):
            return replace(host, mode=mode, version=host.version + 1, updated_at=stamp.at)
        case ev.JobLeaseExpired():
            return replace(host, losses_in_a_row=host.losses_in_a_row + 1)
        case ev.JobCompleted() | ev.JobFailed():
            return replace(host, losses_in_a_row=0) if host.losses_in_a_row else host
    return host


def _registered(host: Host | None, event: ev.HostRegistered, stamp: Stamp) -> Host:
    capabilities = frozenset(event.capabilities)
    born = Host(event.host_id, event.name, capabilities, event.max_parallel, stamp.at, stamp.at, labels=event.labels, life=event.life)
    if host is None:
        return born
    mode = PAUSED if host.mode == PAUSED else ACTIVE  # an operator's pause outlives a restart, the host's own drain does not
    return replace(born, registered_at=host.registered_at, version=host.version + 1, mode=mode, losses_in_a_row=host.losses_in_a_row)

"""What the threads around HostAgent tell it, and what it hands to them. Times are ms of the host's own clock."""

from dataclasses import dataclass
from typing import Any

from skyclaw.hosting.held_leases import Lease
from skyclaw.hosting.results import Result


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim was answered with these jobs, which were leased to this host, as the coordinator's JSON has them."""

    jobs: tuple[dict[str, Any], ...]
    sent: int
    received: int
    claim_id: str


@dataclass(frozen=True, slots=True)
class Renewed:
    """A heartbeat that was sent at `sent` renewed `leases`, except those of the jobs named.

    Of those in `doubtful` the coordinator that decides could not be told: they are as they were.
    """

    leases: tuple[Lease, ...]
    sent: int
    cancelled: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()
    doubtful: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class NotRenewed:
    """A heartbeat did not arrive."""


@dataclass(frozen=True, slots=True)
class HostUnknown:
    """A coordinator does not know this host (any more)."""


@dataclass(frozen=True, slots=True)
class Report:
    """A result on its way; `tries` counts how often it was refused as too large."""

    attempt_id: str
    lease: Lease
    lease_ms: int
    kind: str
    result: Result
    tries: int = 0


@dataclass(frozen=True, slots=True)
class GiveBack:
    """A job to be released."""

    attempt_id: str
    lease: Lease
    reason: str


@dataclass(frozen=True, slots=True)
class Settled:
    """The coordinator knows the outcome of these attempts, or (not `accepted`) wants to hear no more of them."""

    items: tuple[Report | GiveBack, ...]
    accepted: bool


@dataclass(frozen=True, slots=True)
class Drain:
    """Take nothing more, finish what runs, then say that it is done."""


@dataclass(frozen=True, slots=True)
class StopNow:
    """Stop what runs, give it back, and be done."""

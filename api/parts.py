"""What the HTTP face is made of: the way to the queue, the way to the logs, and what the coordinator says about itself and the others."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from api.logs_admin import LogsAdmin
from api.peering import Network, Replication
from skyclaw.commands import Command
from skyclaw.outside.peer_channel import PeerSilent, Reply
from skyclaw.records import Record
from skyclaw.scheduling.jobs import Job
from skyclaw.services.service import Service
from skyclaw.store.bundles import BundleFiles


class Desk(Protocol):
    """Answers commands once everything the answer was computed from is durable; raises the refusals."""

    def ask(self, command: Command, timeout_s: float = ...) -> Any:
        """The answer, one of skyclaw.answers."""

    def ask_parked(self, command: Command, wait_ms: int) -> Any:
        """The answer to a command that may be parked for that long."""


class Archive(Protocol):
    """Reads the event logs; safe to use from any thread. Where no log is named, the coordinator's own is meant."""

    def job(self, job_id: str, until: int | None = None) -> Job | None:
        """The job with its outputs, as it was at position `until`."""

    def service(self, service_id: str, until: int | None = None) -> Service | None:
        """The service as it was at position `until`, or before it was forgotten."""

    def events(self, stream: str, until: int | None = None, after: int = 0, limit: int | None = None) -> Sequence[Record]:
        """The events of one job or service, behind position `after` and up to position `until`: the first `limit` of them."""

    def finished(self, statuses: Sequence[str], before: int | None, limit: int, log: str | None = None) -> Iterator[tuple[int, Job | None]]:
        """At most `limit` positions of ends, the latest first, with the jobs; None for a job that went on since."""

    def enqueued(self, before: int | None, limit: int, log: str | None = None) -> Iterator[tuple[int, Job | None]]:
        """At most `limit` positions of acceptances, the latest first, with the jobs."""


class Cluster(Protocol):
    """The coordinators that have the logs, as this one sees them now. Safe to use from any thread; only `forward` waits."""

    @property
    def node(self) -> str:
        """The id of this one."""

    @property
    def ready(self) -> bool:
        """Does this one know all that the others know? Otherwise what it does not know may exist all the same."""

    def logs(self) -> Sequence[str]:
        """The tags of all logs that have a copy here."""

    def owner(self, log: str) -> str | None:
        """The id of the coordinator that decides for a log, as far as known."""

    def in_contact(self, log: str) -> bool:
        """Of a log that is decided for here: were enough of those who could take it over heard of lately?"""

    def committed(self, log: str) -> int | None:
        """How far the copy of a log is committed; None when there is no copy."""

    def forward(self, node: str, method: str, target: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Reply:
        """The answer of another coordinator; raises PeerSilent."""


class Bundles(Protocol):
    """The packed directories that services run in. Safe to use from any thread."""

    @property
    def files(self) -> BundleFiles:
        """Those that are here."""

    def require(self, sha256: str, tried: Collection[str] = ()) -> int:
        """Have a bundle here, from wherever it is unless it was `tried` there; returns its size. Raises UnknownBundle, Unavailable."""

    def announce(self, sha256: str) -> None:
        """There is a new one here, which the others are to have, too."""


class Alone:
    """The only coordinator there is: it decides for whatever it is asked about."""

    node, ready = "alone", True

    def logs(self) -> Sequence[str]:
        """None beside its own."""
        return ()

    def owner(self, _log: str) -> str | None:
        """Itself."""
        return self.node

    def in_contact(self, _log: str) -> bool:
        """Nobody else could decide."""
        return True

    def committed(self, _log: str) -> int | None:
        """What it has is committed, and nobody asks how far."""
        return None

    def forward(self, node: str, _method: str, _target: str, _headers: Mapping[str, str], _body: bytes, _timeout_s: float) -> Reply:
        """There is nobody else."""
        raise PeerSilent(f"{node} is not a peer")


@dataclass(frozen=True, slots=True)
class HealthSeen:
    """How the coordinator is: `degraded` are sentences, `actors` says which of the required ones live."""

    ok: bool
    ready: bool
    degraded: tuple[str, ...] = ()
    actors: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that `create_app` wires. `node` is the coordinator's label, `clock` says ms (UTC).

    `log` is the tag of its own log, None for a witness, which has none.
    """

    desk: Desk
    archive: Archive
    node: str
    log: str | None
    tokens: tuple[str, ...]
    clock: Callable[[], int]
    health: Callable[[], HealthSeen]
    heartbeat_ms: int | None = None  # how often a host should be heard of, if the coordinator has an opinion
    cluster: Cluster = field(default_factory=Alone)
    network: Network | None = None  # None: there are no routes between coordinators
    replication: Replication | None = None
    logs_admin: LogsAdmin | None = None
    bundles: Bundles | None = None  # None: there is no place for bundles
    peer_tokens: tuple[str, ...] = ()  # when there are any, they alone open these routes

    @property
    def logs(self) -> list[str]:
        """The tags of all logs that are known here."""
        own = [] if self.log is None else [self.log]
        return own + sorted(set(self.cluster.logs()) - {self.log})

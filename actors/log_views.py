"""How the logs are, as any thread may read it; the Replicator replaces it as a whole, now and then."""

from dataclasses import dataclass

from skyclaw.cluster.configuration import copies_of, voters_of
from skyclaw.cluster.replication import Node


@dataclass(frozen=True, slots=True)
class VoterSeen:
    """A voter as the owner of a log sees it; `heard_at` (ms) is None when it never was."""

    node: str
    end: int
    heard_at: float | None


@dataclass(frozen=True, slots=True)
class LogSeen:
    """A log as this node sees it. What only its owner knows is empty elsewhere."""

    log: str
    owner: str  # node id, as far as known; empty when nobody is
    epoch: str
    founder: str
    end: int
    committed: int
    voters: tuple[str, ...]
    copies: int
    owned: bool
    in_contact: bool
    settled: bool
    gained_at: int
    followers: tuple[VoterSeen, ...] = ()


class LogViews:
    """All logs that have a copy here, and why nothing can be written, if so."""

    def __init__(self) -> None:
        self.all: tuple[LogSeen, ...] = ()
        self.failure: Exception | None = None  # of the last transaction

    def of(self, log: str) -> LogSeen | None:
        """One log."""
        return next((seen for seen in self.all if seen.log == log), None)


def look_at(node: Node, log: str, gained_at: int, now: int) -> LogSeen:
    """How a log is at this moment (ms); by the Replicator's thread only."""
    r, owned = node.replica(log), node.ownership(log)
    followers = owned.followers if owned is not None else {}
    return LogSeen(
        log=log,
        owner=r.owner.node,
        epoch=str(r.owner),
        founder=r.founder,
        end=r.end,
        committed=r.commit,
        voters=tuple(sorted(voters_of(r.configuration))),
        copies=copies_of(r.configuration),
        owned=owned is not None,
        in_contact=node.in_contact(log, now),
        settled=r.settled and len(r.configuration) == 1,
        gained_at=gained_at,
        followers=tuple(
            VoterSeen(voter, one.match, one.seen if one.seen > 0 else None) for voter, one in followers.items() if voter != node.name
        ),
    )

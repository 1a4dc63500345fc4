"""Looks after the logs that this coordinator owns: who should vote in them, and to whom one is handed back. One round for each Tick."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from actors.base import Actor
from actors.log_views import LogSeen
from actors.replicator_messages import Reconfigure, Transfer
from skyclaw.cluster.configuration import Configuration
from skyclaw.cluster.membership import LEVEL, Member, Policy, label_of, wanted
from skyclaw.errors import Unavailable
from skyclaw.outside.clock import Clock

logger = logging.getLogger(__name__)

SETTLED_BEATS = 5  # heartbeats that an owner keeps a log before it hands it back
UNKNOWN_MS = 60_000  # silence after which a voter that is in nobody's address book is given up
NO_NAME = "node"  # what coordinators are called that nobody named
MOST_PATIENCE = 128  # times as long it waits before it offers a log again that nobody took
NEVER_MS = float("inf")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another coordinator, as the address book has it; `ends` is how far its copies go, by log."""

    node: str
    silent_ms: float
    ends: dict[str, int]
    leaving: bool = False
    replaced: bool = False
    witness: bool = False


class Network(Protocol):
    """What the Steward has to know of the others, and may do about them."""

    @property
    def leaving(self) -> bool:
        """Is this coordinator to leave?"""

    @property
    def cannot_write(self) -> bool:
        """Did the last attempt to store something fail?"""

    @property
    def stuck(self) -> Mapping[str, str]:
        """The logs that this version of Skyclaw cannot follow, and why."""

    def neighbours(self) -> Sequence[Neighbour]:
        """The other coordinators."""

    def depart(self) -> None:
        """Nothing holds this coordinator any more."""


class Steward(Actor):
    """Asks the Replicator for what the policy wants."""

    def __init__(
        self,
        own: str,
        policy: Policy,
        heartbeat_ms: int,
        logs: Callable[[], Sequence[LogSeen]],
        network: Network,
        tell_replicator: Callable[[object], None],
        clock: Clock,
        witness: bool = False,
        on_death: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(on_death)
        self._own, self._policy, self._settled_ms, self._witness = own, policy, SETTLED_BEATS * heartbeat_ms, witness
        self._logs, self._network, self._tell, self._clock = logs, network, tell_replicator, clock
        self._offers: dict[str, tuple[int, int]] = {}  # log -> when it may be offered again, and how often it was in vain

    def handle(self, message: object) -> None:  # noqa: ARG002  # every message is a Tick
        """One round."""
        self.run_once()

    def run_once(self) -> int:
        """Look at every own log; returns how many orders were given."""
        now, neighbours = self._clock(), self._network.neighbours()
        if self._network.leaving and not any(log.owned or self._own in log.voters for log in self._logs()):
            self._network.depart()
        for log in self._logs():
            if not log.owned:
                self._offers.pop(log.log, None)
        orders = [order for log in self._logs() if log.owned and (order := self._order(log, neighbours, now)) is not None]
        for order in orders:
            try:
                self._tell(order)
            except Unavailable as failure:
                logger.warning("order_not_given order=%s cause=%s", type(order).__name__, failure)
        return len(orders)

    def _order(self, log: LogSeen, neighbours: Sequence[Neighbour], now: int) -> Reconfigure | Transfer | None:
        members = _members(log, neighbours, now, self._policy.fresh_ms)
        if not log.settled or not log.in_contact:
            return None
        present = Configuration(frozenset(log.voters), log.copies)
        better = wanted(present, self._own, log.committed, members, self._policy, self._network.leaving)
        if better != present:
            return Reconfigure(log.log, better)
        heir = self._heir(log, members, now)
        return self._offer(log.log, heir, now) if heir is not None else None

    def _offer(self, log: str, heir: str, now: int) -> Transfer | None:
        """Writes wait while a log is offered, so one that nobody takes is offered ever more seldom."""
        again, times = self._offers.get(log, (0, 0))
        if now < again:
            return None
        self._offers[log] = now + self._settled_ms * min(2**times, MOST_PATIENCE), times + 1
        return Transfer(log, heir)

    def _heir(self, log: LogSeen, members: Sequence[Member], now: int) -> str | None:
        """To whom the log is to go: back to its founder; or away from one that leaves, cannot write, cannot read it, or is a witness."""
        level = [one for one in members if one.node in log.voters and self._is_level(one, log)]
        if self._network.leaving or self._network.cannot_write or log.log in self._network.stuck:
            return level[0].node if level else None
        if now - log.gained_at < self._settled_ms:
            return None
        if any(one.node == log.founder for one in level):
            return log.founder
        return level[0].node if self._witness and level else None

    def _is_level(self, member: Member, log: LogSeen) -> bool:
        usable = not (member.leaving or member.replaced or member.witness)
        return usable and member.silent_ms < self._policy.fresh_ms and member.end >= log.committed - LEVEL


def _members(log: LogSeen, neighbours: Sequence[Neighbour], now: int, fresh_ms: int) -> list[Member]:
    """The other coordinators with regard to one log: voters as its owner hears of them, the rest by the address book."""
    voters = {seen.node: seen for seen in log.followers if seen.node in log.voters}
    known = {one.node: one for one in neighbours}
    members = []
    for node in sorted((set(known) | set(log.voters)) - {log.owner}):
        one, seen = known.get(node), voters.get(node)
        silent = one.silent_ms if one is not None else NEVER_MS
        if seen is not None and seen.heard_at is not None:
            silent = now - seen.heard_at
        silent = min(silent, now - log.gained_at) if node in log.voters else silent
        end = seen.end if seen is not None else one.ends.get(log.log, 0) if one is not None else 0
        leaving, replaced, witness = (one.leaving, one.replaced, one.witness) if one is not None else (False, False, False)
        replaced = replaced or (silent > fresh_ms and _has_gone(node, one is None, silent, known))
        members.append(Member(node, end, silent, leaving, replaced, witness))
    return members


def _has_gone(node: str, unknown: bool, silent_ms: float, known: Collection[str]) -> bool:
    """Is a silent node one that nobody has met for long, or the former self of one that is here? Machines of one name are one machine."""
    name = label_of(node)
    return (unknown and silent_ms > UNKNOWN_MS) or (name != NO_NAME and any(label_of(other) == name for other in known if other != node))

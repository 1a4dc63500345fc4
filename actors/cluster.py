"""The logs and the other coordinators as the rest of this one sees them: to be asked from any thread.

Everything here either reads what Replicator and PeerManager have left for others to read, or leaves a message and waits for its reply; no
actor waits here.
"""

import logging
from collections.abc import Mapping, Sequence

from actors.asking import Ask, Post, Reply
from actors.desk import Desk
from actors.log_views import LogSeen, LogViews, VoterSeen
from actors.peers import Peers
from actors.replicator_messages import Arrived, Force, PullArrived, PullWanted, Transfer, Undelivered
from actors.steward import Neighbour
from skyclaw.answers import HostsHeard
from skyclaw.cluster.configuration import Configuration
from skyclaw.cluster.membership import LEVEL
from skyclaw.cluster.messages import Message, Pull
from skyclaw.commands import Evict, Heard, Rollcall
from skyclaw.errors import Refused, Unavailable
from skyclaw.outside import peer_channel
from skyclaw.outside.clock import Clock
from skyclaw.outside.peer_channel import PeerSilent

logger = logging.getLogger(__name__)

ANSWER_S = 5.0
MISSING_MS = 15_000  # silence after which a voter is missed
FORCED_S = 15.0
PULL_GRACE_S = 2.0  # beyond the time a question may wait


class Cluster:
    """`home` is the tag of the own log, None for a witness; `min_copies` is what the operator asks for."""

    def __init__(
        self, node: str, home: str | None, min_copies: int, views: LogViews, desk: Desk, queue: Post, replicator: Post, clock: Clock
    ):
        self.node, self.home, self.min_copies, self.views = node, home, min_copies, views
        self.peers: Peers | None = None
        self.leaving = self._departed = False
        self.stuck: Mapping[str, str] = {}  # log -> why it is not followed any more
        self._desk, self._queue, self._replicator, self._clock = desk, queue, replicator, clock

    # What the HTTP face asks

    @property
    def ready(self) -> bool:
        """Does this coordinator know all that the others know, and who decides for its own log?"""
        if self.peers is not None and self.peers.troubles:
            return False
        return not self._behind() and not self._of_copies() and (self.home is None or self.owner(self.home) is not None)

    def logs(self) -> Sequence[str]:
        """The tags of all logs that have a copy here."""
        return [seen.log for seen in self.views.all]

    def owner(self, log: str) -> str | None:
        """The id of the coordinator that decides for a log, as far as known."""
        seen = self.views.of(log)
        if seen is None or not seen.owner or (seen.owner == self.node and not seen.owned):
            return None
        return seen.owner

    def in_contact(self, log: str) -> bool:
        """Of a log that is owned here: were enough of its voters heard of lately?"""
        seen = self.views.of(log)
        return seen is not None and seen.in_contact

    def committed(self, log: str) -> int | None:
        """How far the copy of a log is committed; None when there is no copy."""
        seen = self.views.of(log)
        return seen.committed if seen is not None else None

    def forward(self, node: str, method: str, target: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> peer_channel.Reply:
        """The answer of another coordinator; raises PeerSilent."""
        url = self.peers.url_of(node) if self.peers is not None else None
        if self.peers is None or url is None:
            raise PeerSilent(f"{node} is not a peer")
        return self.peers.client.forward(url, method, target, headers, body, timeout_s)

    def receive(self, node: str, messages: Sequence[Message], wait_ms: int) -> Sequence[Message]:
        """What there is to answer within that time, perhaps nothing; raises Unavailable."""
        others = [message for message in messages if not isinstance(message, Pull)]
        replies = [Reply()] if others else []
        if others:
            self._replicator.tell(Arrived(node, others, replies[0], self._clock() + wait_ms))
        pulls = [(pull, Reply()) for pull in messages if isinstance(pull, Pull)]
        for pull, reply in pulls:
            self._replicator.tell(PullArrived(pull, reply, self._clock() + wait_ms))
        said = [message for reply in replies if reply.wait(wait_ms / 1000) for message in reply.get(0)]
        return [*said, *(reply.get(0) for _, reply in pulls if reply.wait(wait_ms / 1000 + PULL_GRACE_S))]

    def force(self, log: str, voters: Sequence[str], copies: int, operator: str) -> str:
        """Own a log with these voters, whatever the former ones say; the new epoch. Raises Refused, Unavailable."""
        if self.node not in voters:
            raise Refused(f"{self.node} must be among the voters: it is the one that goes on with the log")
        if not 1 <= copies <= len(set(voters)):
            raise Refused(f"{copies} copies cannot be on {len(set(voters))} voters")
        reply = Reply()
        self._replicator.tell(Force(log, Configuration(frozenset(voters), copies), operator, reply))
        epoch: str = reply.get(FORCED_S)
        return epoch

    def transfer(self, log: str, to: str) -> None:
        """Ask another voter to take a log over; raises Unavailable."""
        self._replicator.tell(Transfer(log, to))

    # What PeerManager asks

    def arrived(self, node: str, messages: Sequence[Message]) -> None:
        """Messages from another coordinator; nobody waits."""
        self._replicator.tell(Arrived(node, messages))

    def undelivered(self, node: str) -> None:
        """What was sent to a coordinator lately may be lost."""
        self._replicator.tell(Undelivered(node))

    def pull(self) -> Pull | None:
        """What to ask a coordinator for."""
        try:
            self._replicator.tell(PullWanted(reply := Reply()))
            pull: Pull = reply.get(ANSWER_S)
        except Unavailable:
            return None
        return pull

    def positions(self) -> Mapping[str, int]:
        """How far the copies are committed, by log."""
        return {seen.log: seen.committed for seen in self.views.all}

    def heard_hosts(self) -> Mapping[str, int]:
        """Which hosts were heard of here, and how many ms ago."""
        try:
            heard: HostsHeard = self._desk.ask(Rollcall())
        except Unavailable:
            return {}
        return heard.ages

    def on_hosts(self, _node: str, hosts: Mapping[str, int]) -> None:
        """Another coordinator heard of these hosts."""
        if hosts:
            try:
                self._queue.tell(Ask(Heard(hosts), Reply()))
            except Unavailable:
                logger.debug("hosts_not_told")

    def evict(self, node: str) -> None:
        """Write down that a node was turned out; raises refusals."""
        self._desk.ask(Evict(node, self.node))

    def leave(self) -> None:
        """Begin to leave: others take over what this coordinator has."""
        self.leaving = True
        if self.peers is not None:
            self.peers.changed()

    # What the Steward asks

    @property
    def cannot_write(self) -> bool:
        """Did the last attempt to store something fail?"""
        return self.views.failure is not None

    def neighbours(self) -> Sequence[Neighbour]:
        """The other coordinators, as the address book has them."""
        if self.peers is None:
            return ()
        now = self._clock()
        picture = self.peers.picture
        known = [
            Neighbour(peer.node, now - peer.heard, dict(peer.positions), peer.leaving, peer.node in picture.evicted, peer.witness)
            for peer in picture.peers.values()
        ]
        gone = {*picture.gone, *picture.evicted} - set(picture.peers)
        return [*known, *(Neighbour(node, float("inf"), {}, replaced=True) for node in sorted(gone))]

    def depart(self) -> None:
        """Nothing holds this coordinator any more: say goodbye."""
        if self.peers is not None and not self._departed:
            self._departed = True
            self.peers.depart()

    # How it is

    def shortcomings(self) -> list[str]:
        """Why this coordinator does not serve as it should, one sentence each."""
        found = [*self._of_storage(), *self.stuck.values(), *self._of_logs(), *self._of_copies()]
        return [*found, *self._behind(), *(self._of_peers(self.peers) if self.peers is not None else ())]

    def _of_storage(self) -> list[str]:
        return [f"the storage cannot be written: {self.views.failure}"] if self.views.failure is not None else []

    def _of_logs(self) -> list[str]:
        found = []
        for seen in self.views.all:
            if self.owner(seen.log) is None:
                found.append(f"log {seen.log} has no owner: writes to it are refused")
            elif not seen.owned and not self._is_seen(seen.owner):
                found.append(f"log {seen.log}: its owner {seen.owner} is not seen; writes to it wait for one that is")
            elif seen.owned and not seen.in_contact:
                found.append(f"log {seen.log} has lost contact with its voters: writes to it are refused")
        missing = {one.node for seen in self.views.all if seen.owned for one in seen.followers if self._is_missing(seen, one)}
        return found + [
            f"{node} votes and is not seen: it is replaced once it was away for long, or at once by: skyclaw evict {node}"
            for node in sorted(missing)
        ]

    def _is_seen(self, node: str) -> bool:
        peer = self.peers.picture.peers.get(node) if self.peers is not None else None
        return peer is not None and not peer.in_doubt

    def _is_missing(self, seen: LogSeen, one: VoterSeen) -> bool:
        now = self._clock()
        settling = now - seen.gained_at < MISSING_MS
        return one.node in seen.voters and not settling and (one.heard_at is None or now - one.heard_at > MISSING_MS)

    def _of_copies(self) -> list[str]:
        home = self.views.of(self.home) if self.home is not None else None
        if home is None or home.copies >= self.min_copies:
            return []
        return [
            f"SKYCLAW_MIN_REPLICATIONS={self.min_copies} asks for {self.min_copies} coordinators that hold each write, "
            f"{home.copies} {'is' if home.copies == 1 else 'are'} there: writes are refused"
        ]

    def _of_peers(self, peers: Peers) -> list[str]:
        hints = [_not_reached(hint.label, hint.url, hint.reason) for hint in peers.hints() if hint.configured]
        return [*peers.troubles, *hints, *(_not_reached(peer.label, peer.url, peer.reason) for peer in peers.peers() if peer.in_doubt)]

    def _behind(self) -> list[str]:
        """What others have committed and this coordinator does not know yet."""
        ends: dict[str, int] = {}
        for peer in self.peers.peers() if self.peers is not None else ():
            for log, end in peer.positions.items():
                ends[log] = max(end, ends.get(log, 0))
        return [
            f"log {log} is being caught up with: {self.committed(log) or 0} of {end} events"
            for log, end in sorted(ends.items())
            if end > (self.committed(log) or 0) + LEVEL
        ]


def _not_reached(label: str, url: str, reason: str) -> str:
    name = f"{label} ({url})" if label else url
    return f"coordinator {name} is not reached: {reason}" if reason else f"coordinator {name} is not reached"

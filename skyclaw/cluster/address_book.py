"""Who is in the network, and who might be. It costs messages when it is wrong, never safety.

1. An address that was configured, announced or heard of is a *hint*. It becomes a *peer* only when the coordinator there has proved to us
   that it knows the token; that others know a peer counts for nothing.
2. Hints that nobody configured are rationed: so many a minute, so many from one source, so many in all. So are peers.
3. A node says its address under a number of its own that only grows, and the highest counts. Two nodes cannot be at one address: whoever
   proves to be there is there, and the other one is gone; to make us look again, a claim must bear the higher number.
4. An evicted node is never a peer again. A peer that was not heard of for seven days is forgotten.

Times are milliseconds of one clock that only goes forward.
"""

import math
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from skyclaw.cluster.peer_status import PeerStatus, Told

MAX_PEERS, MAX_HINTS = 64, 64
NEW_HINTS, NEW_WITHIN_MS = 5, 60_000
HINTS_OF_ONE_SOURCE = 8
FORGOTTEN_MS = 7 * 86_400_000
HINT_MS = 3_600_000  # that long an address is tried that nobody configured
FIRST_PAUSE_MS = 250  # before an address is tried again; doubles with each failure
LONGEST_PAUSE_MS, LONGEST_CONFIGURED_PAUSE_MS = 300_000, 5_000
JUMP = 60_000  # a number that is so much lower is no late one: the node's clock, of which it is made, was set back
REFUSED_PAUSE_MS = 60_000  # before a peer is asked again that says that we were turned out
TOLD_MS = 600_000  # a peer that was silent for longer is not told of


@dataclass(frozen=True, slots=True)
class Hint:
    """An address that is yet to be proved: who named it (a node or a network address), and why it was not admitted so far."""

    url: str
    source: str
    configured: bool
    since: int
    due: int
    tries: int = 0
    reason: str = "not tried yet"
    label: str = ""  # of the coordinator that is known to be there
    settled: bool = False  # it is only kept to show what became of it


@dataclass(frozen=True, slots=True)
class Peer:
    """An admitted coordinator, with what it said about itself last (`number` is 0 before it said anything)."""

    node: str
    label: str
    url: str
    configured: bool
    heard: int  # when, for the last time
    due: int  # when it is to be asked again
    log: str | None = None
    number: int = 0
    ready: bool = False
    witness: bool = False
    leaving: bool = False
    in_doubt: bool = False  # it must prove itself again
    failures: int = 0  # to prove itself, in a row
    vain: int = 0  # attempts to ask it, in a row, whatever it proved between them
    reason: str = ""  # of the last failure
    refuses: bool = False  # it says that we were turned out
    positions: Mapping[str, int] = field(default_factory=dict)


class AddressBook:
    """The peers and hints of one coordinator, which is never in it itself."""

    def __init__(self, node: str, url: str | None, configured: Iterable[str], now: int) -> None:
        self._node, self._own = node, {url} if url else set[str]()
        self._configured = frozenset(configured)
        self._peers: dict[str, Peer] = {}
        self._hints = {url: Hint(url, "settings", True, now, now) for url in self._configured - self._own}
        self._evicted: set[str] = set()
        self._gone: set[str] = set()
        self._recent: deque[int] = deque(maxlen=NEW_HINTS)  # when the latest hints came that nobody configured

    @property
    def peers(self) -> Mapping[str, Peer]:
        """The admitted ones, by node."""
        return self._peers

    @property
    def hints(self) -> Mapping[str, Hint]:
        """The others, by address."""
        return self._hints

    @property
    def evicted(self) -> Collection[str]:
        """The nodes that are refused."""
        return self._evicted

    @property
    def gone(self) -> Collection[str]:
        """The nodes that will not come back: they left, or another one is at their address."""
        return self._gone

    @property
    def own(self) -> Collection[str]:
        """The addresses that lead to ourselves."""
        return self._own

    @property
    def configured(self) -> Collection[str]:
        """The addresses that the operator chose."""
        return self._configured

    @property
    def full_until(self) -> float:
        """When there is room again for an address that nobody configured; infinity when nobody knows."""
        if len(self._hints) >= MAX_HINTS or len(self._peers) >= MAX_PEERS:
            return math.inf
        return self._recent[0] + NEW_WITHIN_MS if len(self._recent) == NEW_HINTS else 0

    def suggest(self, url: str, source: str, now: int) -> bool:
        """Take a hint; False when there is no room for it now, or it needs none."""
        if url in self._own or self._is_waiting(url) or self._at(url) is not None or not self._has_room(source, now):
            return False
        self._recent.append(now)
        self._hints[url] = Hint(url, source, False, now, now)
        return True

    def hear(self, status: PeerStatus, now: int) -> bool:
        """A node spoke of itself. True when that counts: it is a peer, and has not said anything newer."""
        if (peer := self._peers.get(status.node)) is None:
            return False
        if peer.number - JUMP < status.number <= peer.number:
            return False
        self._peers[peer.node] = replace(
            peer,
            label=status.label,
            log=status.log,
            number=status.number,
            ready=status.ready,
            witness=status.witness,
            leaving=status.leaving,
            positions=dict(status.positions),
            heard=now,
            in_doubt=False,
            failures=0,
            vain=0,
            refuses=False,
        )
        return True

    def learn(self, told: Told, source: str, now: int) -> bool:
        """Somebody says where a node is, perhaps that node itself. True when the address is to be tried that was not before."""
        if told.node == self._node or told.node in self._evicted:
            return False
        known, there = self._peers.get(told.node), self._at(told.url)
        if known is not None and (known.url == told.url or told.number <= known.number):
            return False
        if there is None:
            return self.suggest(told.url, source, now)
        if told.number <= there.number:
            return False
        self._peers[there.node] = replace(there, due=now, in_doubt=True)
        return True

    def prove(self, url: str, node: str, label: str, now: int) -> Peer | None:
        """The coordinator at this address has just proved itself. The peer that it is; None when it is ourselves, evicted, or one too many.

        Whoever was thought to be there is one no longer.
        """
        there = self._at(url)
        if there is not None and there.node != node:
            del self._peers[there.node]
            self._gone.add(there.node)
        hint = self._hints.pop(url, None)
        if node == self._node:
            self._own.add(url)
            self._keep_named(hint, label, "it is this coordinator itself")
            return None
        known, configured = self._peers.get(node), url in self._configured
        if node in self._evicted:
            self._keep_configured(url, now, "it was evicted", label)
            self._keep_named(hint, label, "it was evicted")
            return None
        if known is None and len(self._peers) >= MAX_PEERS and not configured:
            self._keep_named(hint, label, f"there are {MAX_PEERS} coordinators already")
            return None
        if known is not None and known.configured and not configured and not known.in_doubt:
            return known  # two addresses of one node: the one that the operator chose stays
        same = known or Peer(node, label, url, configured, now, now)
        due = now + (_pause(same.vain, LONGEST_CONFIGURED_PAUSE_MS) if same.vain > 1 else 0)
        self._gone.discard(node)
        self._peers[node] = replace(same, url=url, label=label, configured=configured, heard=now, due=due, in_doubt=False, failures=0)
        return self._peers[node]

    def fail(self, url: str, reason: str, now: int) -> None:
        """Nobody there, or nobody that could prove itself."""
        if (hint := self._hints.get(url)) is not None:
            longest = LONGEST_CONFIGURED_PAUSE_MS if hint.configured else LONGEST_PAUSE_MS
            due = now + _pause(hint.tries, longest)
            self._hints[url] = replace(hint, tries=hint.tries + 1, due=due, reason=reason)
        elif (peer := self._at(url)) is not None:
            due = now + _pause(peer.failures, LONGEST_CONFIGURED_PAUSE_MS)
            failures, vain = (peer.failures + 1, peer.vain) if peer.in_doubt else (peer.failures, peer.vain + 1)
            self._peers[peer.node] = replace(peer, in_doubt=True, failures=failures, vain=vain, due=due, reason=reason)

    def be_refused(self, node: str, now: int) -> None:
        """This peer says that we were turned out: it is still there, and asked only now and then."""
        if (peer := self._peers.get(node)) is not None:
            self._peers[node] = replace(peer, in_doubt=False, refuses=True, due=now + REFUSED_PAUSE_MS)

    def forget_hint(self, url: str) -> None:
        """This address was named by mistake; one that the operator chose stays."""
        if url not in self._configured:
            self._hints.pop(url, None)

    def ask_again(self, node: str, due: int) -> None:
        """When to turn to a peer the next time."""
        if (peer := self._peers.get(node)) is not None:
            self._peers[node] = replace(peer, due=due)

    def drop(self, node: str) -> None:
        """It left; where it was configured, its address stays a hint."""
        if (peer := self._peers.pop(node, None)) is not None:
            self._gone.add(node)
            self._keep_configured(peer.url, peer.heard, "it left", peer.label)

    def evict(self, nodes: Iterable[str]) -> None:
        """Refuse these nodes from now on."""
        for node in nodes:
            self._evicted.add(node)
            if (peer := self._peers.pop(node, None)) is not None:
                self._keep_configured(peer.url, peer.heard, "it was evicted", peer.label)

    def forget(self, now: int) -> None:
        """Whoever was silent for too long is no peer any more, and what could not be proved no hint."""
        for peer in [peer for peer in self._peers.values() if now - peer.heard >= FORGOTTEN_MS]:
            self.drop(peer.node)
            self._gone.discard(peer.node)
        for hint in [hint for hint in self._hints.values() if not hint.configured and now - hint.since >= HINT_MS]:
            del self._hints[hint.url]

    def told(self, now: int) -> tuple[Told, ...]:
        """What to tell others: where those are who were heard of lately."""
        return tuple(Told(peer.node, peer.url, peer.number) for peer in self._peers.values() if now - peer.heard < TOLD_MS)

    def _keep_configured(self, url: str, now: int, reason: str, label: str) -> None:
        if url in self._configured:
            self._hints[url] = Hint(url, "settings", True, now, now + LONGEST_CONFIGURED_PAUSE_MS, reason=reason, label=label)

    def _keep_named(self, hint: Hint | None, label: str, reason: str) -> None:
        """Whoever named this address can see what became of it, as long as hints last; it is not tried again."""
        if hint is not None and not hint.configured:
            self._hints[hint.url] = replace(hint, due=hint.since + HINT_MS, reason=reason, label=label, settled=True)

    def _is_waiting(self, url: str) -> bool:
        hint = self._hints.get(url)
        return hint is not None and not hint.settled

    def _at(self, url: str) -> Peer | None:
        return next((peer for peer in self._peers.values() if peer.url == url), None)

    def _has_room(self, source: str, now: int) -> bool:
        return now >= self.full_until and sum(hint.source == source for hint in self._hints.values()) < HINTS_OF_ONE_SOURCE


def _pause(failures: int, longest: int) -> int:
    return min(longest, FIRST_PAUSE_MS << min(failures, 20))

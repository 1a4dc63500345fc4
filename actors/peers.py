"""The other coordinators as the rest of this one sees them: to be asked from any thread, without waiting for anybody."""

import contextlib
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from actors.asking import Post
from actors.peer_config import Outlook, PeerConfig, normal
from skyclaw.cluster.address_book import HINTS_OF_ONE_SOURCE, Hint, Peer
from skyclaw.cluster.messages import Message
from skyclaw.cluster.peer_status import MAX_HOSTS, PeerStatus, Told
from skyclaw.errors import Refused, ServerRefused, Unknown
from skyclaw.outside.clock import Clock
from skyclaw.outside.peer_addresses import check_literal, parse
from skyclaw.outside.peer_channel import PeerSilent
from skyclaw.outside.peer_client import PeerClient
from skyclaw.outside.peer_link import PeerLink
from skyclaw.trust.peer_proofs import proof

FAREWELL_S, FAREWELL_LIMIT = 2.0, 64 * 1024


class Unannounced(Refused):
    """This coordinator announces no address: set SKYCLAW_COORDINATOR_PUBLIC_URL."""

    code = "unannounced"


class OwnAddress(Refused):
    """This is the address of this coordinator itself."""

    code = "own_address"


class NoDiscovery(Refused):
    """This coordinator knows only those whom its settings name: SKYCLAW_PEER_DISCOVERY is off."""

    code = "no_discovery"


class Configured(Refused):
    """The settings of this coordinator name this address: change SKYCLAW_PEER_URLS."""

    code = "configured"


class NoRoom(Refused):
    """Too many addresses were named lately, or wait to be admitted: try again in a minute, or forget those that are wrong."""

    code = "no_room"


class NotWaiting(Unknown):
    """No such address waits to be admitted."""

    code = "not_waiting"


@dataclass(frozen=True, slots=True)
class Suggested:
    """Somebody at this network address named the address of a coordinator."""

    url: str
    sender: str


@dataclass(frozen=True, slots=True)
class Forget:
    """This address was named by mistake."""

    url: str


@dataclass(frozen=True, slots=True)
class Came:
    """A coordinator said how it is; `sender` is its network address."""

    status: PeerStatus
    sender: str


@dataclass(frozen=True, slots=True)
class Left:
    """A coordinator said that it left."""

    node: str


@dataclass(frozen=True, slots=True)
class Evict:
    """These nodes were turned out."""

    nodes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Changed:
    """Something is new that peers should hear of soon."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What proves to a stranger who we are: one proof for each live token."""

    node: str
    label: str
    url: str
    proofs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """Everybody, at one moment; replaced as a whole by PeerManager."""

    peers: Mapping[str, Peer] = field(default_factory=dict)
    hints: Mapping[str, Hint] = field(default_factory=dict)
    links: Mapping[str, PeerLink] = field(default_factory=dict)
    told: tuple[Told, ...] = ()
    evicted: Collection[str] = frozenset()
    gone: Collection[str] = frozenset()
    own: Collection[str] = frozenset()  # addresses that lead to ourselves
    full_until: float = 0  # ms: no new address is taken before, but from the settings


class Peers:
    """Reads the picture that PeerManager keeps, and leaves it messages; survives its restarts."""

    def __init__(self, config: PeerConfig, outlook: Outlook, clock: Clock) -> None:
        self.config, self.client, self.post = config, PeerClient(config.ca_file), Post("PeerManager")
        self.picture = Picture()
        self.departed = False  # nobody is told anything any more
        self.turned_out = False  # others say that they turned us out
        self.elsewhere = ""  # label of the coordinator to which the own address leads, when that is another one
        self._outlook, self._clock = outlook, clock
        self._lock = threading.Lock()
        self._number = 0

    @property
    def node(self) -> str:
        """The own id."""
        return self.config.node

    @property
    def url(self) -> str | None:
        """The own address, as it is announced."""
        return None if self.elsewhere else self.config.url

    @property
    def troubles(self) -> list[str]:
        """Why other coordinators cannot do their part with this one, one sentence each."""
        found = []
        if self.turned_out:
            found.append("this coordinator was turned out of the network: stop it; with an empty database it can join again, as a new one")
        if self.elsewhere:
            found.append(f"SKYCLAW_COORDINATOR_PUBLIC_URL={self.config.url} leads to another coordinator ({self.elsewhere})")
        if self.config.url is None and self.config.peer_urls:
            found.append("other coordinators cannot reach this one: set SKYCLAW_COORDINATOR_PUBLIC_URL")
        return found

    def peers(self) -> list[Peer]:
        """The admitted coordinators."""
        return list(self.picture.peers.values())

    def hints(self) -> list[Hint]:
        """The addresses that are still to be proved, with the reason why they are not."""
        return list(self.picture.hints.values())

    def url_of(self, node: str) -> str | None:
        """Where an admitted coordinator is."""
        peer = self.picture.peers.get(node)
        return peer.url if peer is not None else None

    def evicted(self, node: str) -> bool:
        """Was it turned out?"""
        return node in self.picture.evicted

    def send(self, node: str, messages: Sequence[Message]) -> None:
        """Send soon; what is for somebody who is no peer is lost."""
        link = self.picture.links.get(node)
        if link is not None:
            link.send(messages)

    def join(self, url: str, sender: str) -> None:
        """Somebody at this network address asks us to look at `url`; raises BadPeerUrl, OwnAddress, NoDiscovery, NoRoom."""
        if normal(url) in (self.config.url, *self.picture.own):
            raise OwnAddress
        found = check_literal(url, sender, self.config.networks)
        if not self.config.discovery:
            raise NoDiscovery
        if not self._has_room(str(found), sender):
            raise NoRoom
        self.post.tell(Suggested(str(found), sender))

    def forget(self, url: str) -> None:
        """This address was named by mistake; raises BadPeerUrl, NotWaiting, Configured."""
        hint = self.picture.hints.get(str(parse(url)))
        if hint is None:
            raise NotWaiting
        if hint.configured:
            raise Configured
        self.post.tell(Forget(hint.url))

    def exchange(self, status: PeerStatus, sender: str) -> PeerStatus:
        """A coordinator says how it is, and hears how we are."""
        self.post.tell(Came(status, sender))
        return self.status()

    def left(self, node: str) -> None:
        """A coordinator says that it leaves."""
        self.post.tell(Left(node))

    def leave(self) -> None:
        """This coordinator is to leave the network; raises refusals."""
        self._outlook.leave()

    def depart(self) -> None:
        """Leave for good: no peer hears of this coordinator again, and all that can be reached within two seconds are told so."""
        self.departed = True
        body = orjson.dumps({"node": self.node})
        threads = [threading.Thread(target=self._part_from, args=(peer.url, body), daemon=True) for peer in self.peers()]
        for thread in threads:
            thread.start()
        ends = time.monotonic() + FAREWELL_S
        for thread in threads:
            thread.join(max(0.0, ends - time.monotonic()))

    def evict(self, node: str) -> None:
        """The operator turns a node out; raises refusals."""
        self._outlook.evict(node)
        self.post.tell(Evict(frozenset({node})))

    def refuse(self, nodes: Collection[str]) -> None:
        """The logs say that these nodes were turned out."""
        self.post.tell(Evict(frozenset(nodes)))

    def changed(self) -> None:
        """Let peers know soon how we are now."""
        self.post.tell(Changed())

    def proof(self, nonce: str) -> Proof:
        """Proves to whoever drew the nonce that we know the token, here; raises Unannounced."""
        url = self.url
        if url is None or self.departed:
            raise Unannounced
        tokens = self.config.tokens or ("",)
        return Proof(self.node, self.config.label, url, tuple(proof(token, nonce, url, self.node) for token in tokens))

    def status(self) -> PeerStatus:
        """How we are, under the next number."""
        config, outlook = self.config, self._outlook
        hosts = sorted(outlook.heard_hosts().items(), key=lambda heard: heard[1])[:MAX_HOSTS]
        return PeerStatus(
            config.node,
            config.label,
            config.log,
            None if self.departed else self.url,
            self._next_number(),
            outlook.ready(),
            config.witness,
            outlook.positions(),
            dict(hosts),
            self.picture.told,
            outlook.leaving(),
        )

    def _has_room(self, url: str, sender: str) -> bool:
        """Would this address be taken, as far as can be seen from here?"""
        picture = self.picture
        if url in picture.hints or any(peer.url == url for peer in picture.peers.values()):
            return True
        named = sum(hint.source == sender for hint in picture.hints.values())
        return self._clock() >= picture.full_until and named < HINTS_OF_ONE_SOURCE

    def _part_from(self, url: str, body: bytes) -> None:
        with contextlib.suppress(PeerSilent, ServerRefused):  # it will notice
            self.client.channel(url).call("POST", "/v1/network/leave", body, FAREWELL_S, FAREWELL_LIMIT)

    def _next_number(self) -> int:
        """Greater than all before, also than those of an earlier run."""
        with self._lock:
            self._number = max(self._number + 1, self._clock())
            return self._number

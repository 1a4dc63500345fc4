"""What PeerManager asks other coordinators, each in a short-lived thread: a slow one holds up nobody else, and PeerManager never waits."""

import contextlib
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from actors.peer_config import PeerConfig, normal
from actors.peers import Peers
from skyclaw.cluster import peer_status
from skyclaw.cluster.address_book import Peer
from skyclaw.cluster.peer_status import PeerStatus
from skyclaw.cluster.wire import BadMessage
from skyclaw.errors import ServerRefused, Unavailable
from skyclaw.outside.peer_addresses import BadPeerUrl, Pinned, check
from skyclaw.outside.peer_channel import PeerSilent
from skyclaw.outside.peer_client import PeerClient
from skyclaw.trust.peer_proofs import proven_token

STATUS_S, STATUS_LIMIT = 4.0, 1024 * 1024
NAME = peer_status.NAME


@dataclass(frozen=True, slots=True)
class Proven:
    """At this address is this node, and it knows our token. `elsewhere`: it says that its address is another one."""

    url: str
    at: Pinned
    node: str
    label: str
    token: str | None
    elsewhere: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing came of asking at this address. `code` is the word of whoever refused."""

    url: str
    reason: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class OwnSeen:
    """Who is at the own address, as far as it can be reached from here."""

    found: Proven | Failed


@dataclass(frozen=True, slots=True)
class Answered:
    """A peer said how it is; `address` is where it was asked."""

    url: str
    status: PeerStatus
    address: str


class Errands:
    """Runs one errand for each address at a time, and tells what came of it."""

    def __init__(self, peers: Peers, tell: Callable[[object], None]) -> None:
        self._peers, self._tell = peers, tell
        self._config, self._client = peers.config, peers.client
        self._lock = threading.Lock()
        self._busy: set[str] = set()

    def prove(self, url: str, source: str, *, configured: bool) -> None:
        """Find out whether a coordinator of ours is at this address."""
        self._start(url, lambda: prove(self._config, self._client, url, source, configured=configured))

    def look_at_own(self, url: str) -> None:
        """Find out whether the own address leads here."""
        self._start(url, lambda: OwnSeen(prove(self._config, self._client, url, "", configured=True)))

    def exchange(self, peer: Peer) -> None:
        """Tell a peer how we are, and hear how it is."""
        self._start(peer.url, lambda: self._exchange(peer))

    def _start(self, url: str, errand: Callable[[], object]) -> None:
        with self._lock:
            if url in self._busy:
                return
            self._busy.add(url)
        threading.Thread(target=self._run, args=(url, errand), name=f"Errand {url}", daemon=True).start()

    def _run(self, url: str, errand: Callable[[], object]) -> None:
        try:
            result: object = Failed(url, "it could not be asked")
            result = errand()
        finally:
            with self._lock:
                self._busy.discard(url)
            with contextlib.suppress(Unavailable):  # PeerManager is being restarted, and will ask again
                self._tell(result)

    def _exchange(self, peer: Peer) -> object:
        try:
            body = orjson.dumps(peer_status.pack(self._peers.status()))
            channel = self._client.channel(peer.url)
            status = peer_status.unpack(channel.call("POST", "/v1/network/status", body, STATUS_S, STATUS_LIMIT))
        except ServerRefused as refusal:
            return Failed(peer.url, str(refusal), refusal.code)
        except (PeerSilent, BadMessage, Unavailable) as failure:
            return Failed(peer.url, str(failure))
        if status.node != peer.node:
            return Failed(peer.url, f"{status.node} is there now")
        return Answered(peer.url, status, channel.at.addresses[0])


def prove(config: PeerConfig, client: PeerClient, url: str, source: str, *, configured: bool) -> Proven | Failed:
    """Ask the coordinator at an address for its proof; it is shown nothing. `source` is the network address of who named it."""
    nonce = secrets.token_hex(16)
    try:
        at = check(url, None if configured else source, config.networks, configured=configured)
        said = client.proof(at, nonce)
    except (BadPeerUrl, PeerSilent) as failure:
        return Failed(url, str(failure))
    except ServerRefused as refusal:
        reason = "it cannot prove itself: no coordinator of this kind" if refusal.status == 404 else str(refusal)
        return Failed(url, reason, refusal.code)
    return _judge(config, url, at, nonce, said)


def _judge(config: PeerConfig, url: str, at: Pinned, nonce: str, said: dict[str, Any]) -> Proven | Failed:
    node, label, signed, proofs = said.get("node"), said.get("nodeId"), said.get("url"), _proofs(said)
    if not (_is_name(node) and _is_name(label) and isinstance(signed, str) and proofs):
        return Failed(url, "it cannot prove itself: no coordinator of this kind")
    token = proven_token(config.tokens, nonce, signed, str(node), proofs)
    if token is None:
        return Failed(url, "it has another token: its proof does not hold")
    there = normal(signed)
    return Proven(url, at, str(node), str(label), token or None, None if there == url else there)


def _proofs(said: dict[str, Any]) -> Sequence[str]:
    """One for each token that is live there."""
    proofs = said.get("proofs", [said.get("proof")])
    return proofs if isinstance(proofs, list) and len(proofs) <= 2 and all(isinstance(one, str) for one in proofs) else ()


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None

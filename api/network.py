"""/v1/network: who the coordinators are, and what they say to each other about themselves."""

import re
from typing import Any

from falcon import Request, Response

from api import bodies
from api.errors import HttpRefused
from api.fields import Flag, Text
from api.peering import Network
from api.schemas import NULL_IS_MISSING, Closed, EmptyRequest
from api.views import View, dump, iso
from skyclaw.cluster import peer_status
from skyclaw.cluster.address_book import Hint, Peer

NONCE = re.compile(r"[0-9a-f]{32}")
ANY_TEXT = re.compile(r"[^\x00]{1,4096}")  # whoever reads an address says what is wrong with it


class JoinRequest(Closed):
    """Somebody names the address of a coordinator; with `forget`, one that was named by mistake."""

    url = Text(ANY_TEXT, "an address", required=True, error_messages=NULL_IS_MISSING)
    forget = Flag(load_default=False)


class NodeRequest(Closed):
    """What is said about one node."""

    node = Text(peer_status.NAME, "the id of a coordinator", required=True, error_messages=NULL_IS_MISSING)


class LeaveRequest(Closed):
    """The node that leaves; this one when it is not named."""

    node = Text(peer_status.NAME, "the id of a coordinator", load_default=None)


JOIN, NODE, LEAVE, EMPTY = JoinRequest(), NodeRequest(), LeaveRequest(), EmptyRequest()


class Part:
    """Base: what knows the network, and the label of this coordinator."""

    def __init__(self, network: Network, label: str) -> None:
        self._network, self._label = network, label

    def _known(self) -> View:
        """Who is known, as programs of the TypeScript version read it."""
        view: View = {"nodeId": self._label}
        if self._network.url is not None:
            view["self"] = self._network.url
        return {**view, "peers": [peer.url for peer in self._network.peers()]}


class NetworkPeers(Part):
    """/v1/network/peers."""

    def on_get(self, _req: Request, resp: Response) -> None:
        """The admitted coordinators, and the addresses that were named but not admitted, with the reason."""
        coordinators = [_coordinator(peer) for peer in self._network.peers()]
        waiting = [_waiting(hint) for hint in self._network.hints()]
        resp.data = dump({**self._known(), "coordinators": coordinators, "waiting": waiting})


class NetworkJoin(Part):
    """/v1/network/join."""

    def on_post(self, req: Request, resp: Response) -> None:
        """An address is a hint: it is looked at later, if there is room for it, and must prove itself."""
        asked = JOIN.read(bodies.read(req))
        if asked["forget"]:
            self._network.forget(asked["url"])
        else:
            self._network.join(asked["url"], req.remote_addr)
        resp.data = dump({"ok": True, **self._known()})


class NetworkLeave(Part):
    """/v1/network/leave."""

    def on_post(self, req: Request, resp: Response) -> None:
        """A coordinator says that it leaves; without a node it is this one, which begins to."""
        node = LEAVE.read(bodies.read(req))["node"]
        if node is None or node == self._network.node:
            self._network.leave()
        else:
            self._network.left(node)
        resp.data = dump({"ok": True, "nodeId": self._label})


class NetworkEvict(Part):
    """/v1/network/evict."""

    def on_post(self, req: Request, resp: Response) -> None:
        """The operator turns a coordinator out."""
        node = NODE.read(bodies.read(req))["node"]
        if node == self._network.node:
            raise HttpRefused(409, "own_node", "a coordinator cannot turn itself out: let it leave, or say so at another one")
        self._network.evict(node)
        resp.data = dump({"ok": True, "nodeId": self._label, "evicted": node})


class NetworkProof(Part):
    """/v1/network/proof: open to everybody, so that a coordinator can be known before it is shown the token."""

    def on_get(self, req: Request, resp: Response) -> None:
        """Proves that this coordinator knows the token, for the asker's nonce alone."""
        nonce = req.get_param("nonce") or ""
        if not NONCE.fullmatch(nonce):
            raise HttpRefused(400, "bad_nonce", "nonce must be 32 hexadecimal digits")
        own = self._network.proof(nonce)
        view: View = {"nodeId": own.label, "node": own.node, "url": own.url, "proof": own.proofs[0], "proofs": list(own.proofs)}
        resp.data = dump(view)


class NetworkStatus(Part):
    """/v1/network/status."""

    def on_post(self, req: Request, resp: Response) -> None:
        """Two coordinators tell each other how they are."""
        status = peer_status.unpack(bodies.read(req))
        refuse_evicted(self._network, status.node)
        resp.data = dump(peer_status.pack(self._network.exchange(status, req.remote_addr)))


def refuse_evicted(network: Network, node: str) -> None:
    """Raises HttpRefused for a node that was turned out."""
    if network.evicted(node):
        raise HttpRefused(403, "evicted", "this coordinator was turned out of the network")


def _coordinator(peer: Peer) -> View:
    view: dict[str, Any] = {"node": peer.node, "label": peer.label, "url": peer.url, "log": peer.log, "ready": peer.ready}
    view |= {"witness": peer.witness, "leaving": peer.leaving, "configured": peer.configured}
    view["reachable"] = not (peer.in_doubt or peer.refuses)
    return {**view, "lastSeenMs": peer.heard, "lastSeenAt": iso(peer.heard), "positions": dict(peer.positions)}


def _waiting(hint: Hint) -> View:
    return {"url": hint.url, "configured": hint.configured, "reason": hint.reason}

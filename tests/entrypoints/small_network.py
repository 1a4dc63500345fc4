"""The routes about the network of one coordinator among others, as the command line needs them, behind real HTTP."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

from skyclaw.trust.peer_proofs import proof
from tests.entrypoints.small_coordinator import AT, refusal
from tests.support.scripted_server import Asked, Reply

LOG, OTHER = "aaaa1111", "aabb2222"
A, B, C = "kitchen#00000001", "attic#00000002", "attic#00000003"


def log_view(log: str = LOG, owner: str = A, end: int = 20, **more: Any) -> dict[str, Any]:
    """A log as /v1/network/logs shows it."""
    epoch = f"0.3.{owner}" if owner else "0.0."
    view = {"log": log, "owner": owner, "ownerLabel": owner.partition("#")[0], "epoch": epoch, "founder": A, "end": end, "committed": end}
    view |= {"lastEpoch": epoch, "lastPosition": end, "voters": [A, B], "copies": 2, "owned": False, "inContact": False, "settled": True}
    return {**view, "lag": {}, **more}


def peer(node: str, url: str, **more: Any) -> dict[str, Any]:
    """A coordinator as /v1/network/peers shows it."""
    view = {"node": node, "label": node.partition("#")[0], "url": url, "log": LOG, "ready": True, "witness": False, "configured": True}
    return {**view, "reachable": True, "lastSeenMs": 0, "lastSeenAt": AT, "positions": {}, **more}


class SmallNetwork:
    """Give its `script` to a ScriptedServer. `posted` is what was ordered, as (path, body)."""

    def __init__(self, node: str = A) -> None:
        self.node = node
        self.logs: list[dict[str, Any]] = [log_view()]
        self.peers: list[dict[str, Any]] = []
        self.waiting: list[dict[str, Any]] = []
        self.posted: list[tuple[str, Any]] = []
        self.refusal: Reply | None = None
        self.proves: tuple[str, str] | None = None  # with which token, at which address
        self.gives_up: list[list[dict[str, Any]]] = []  # how the logs are, look by look

    def script(self, asked: Asked) -> Reply:
        """The answer to one request."""
        path, label = urlsplit(asked.path).path, self.node.partition("#")[0]
        if asked.method == "GET" and path == "/v1/network/peers":
            known = {"nodeId": label, "self": "http://10.0.0.1:8787", "peers": [one["url"] for one in self.peers]}
            return Reply(say={**known, "coordinators": self.peers, "waiting": self.waiting})
        if asked.method == "GET" and path == "/v1/network/logs":
            if self.gives_up:
                self.logs = self.gives_up.pop(0)
            return Reply(say={"node": self.node, "nodeId": label, "logs": self.logs})
        if path == "/v1/network/proof" and self.proves is not None:
            nonce, (token, url) = parse_qs(urlsplit(asked.path).query)["nonce"][0], self.proves
            return Reply(say={"node": self.node, "nodeId": label, "url": url, "proofs": [proof(token, nonce, url, self.node)]})
        if asked.method == "POST" and path.startswith("/v1/network/"):
            self.posted.append((path, asked.json))
            return self.refusal or Reply(say={"ok": True, "nodeId": label, "peers": [], "log": LOG, "epoch": f"1.1.{self.node}"})
        return refusal(404, "not_found", "not found")

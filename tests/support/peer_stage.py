"""A coordinator of which only the network is real: PeerManager, its links, and the routes between coordinators on a real server."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from actors.peer_config import Outlook, PeerConfig
from actors.peer_manager import PeerManager
from actors.peers import Peers
from api.app import create_app
from api.parts import HealthSeen, Parts
from skyclaw.cluster.messages import Copy, Message, Pull, Pulled, Shape
from skyclaw.entrypoints.serve import Server
from skyclaw.outside.clock import steady_clock
from skyclaw.records import GENESIS_EPOCH
from tests.api.in_process import InProcess

TOKEN = "the-token-of-these-tests"  # noqa: S105 made up
LOG = "5eed5eed"
PATIENCE_S = 60.0


def pull_of(end: int) -> Pull:
    return Pull((Copy(LOG, Shape(end, ()), end, GENESIS_EPOCH),))


class Memory:
    """The rest of a coordinator: it keeps what it is told, and answers what `answer` says."""

    def __init__(self) -> None:
        self.arrived: list[tuple[str, list[Message]]] = []
        self.undelivered: list[str] = []
        self.hosts: dict[str, Mapping[str, int]] = {}
        self.evicted: list[str] = []
        self.left = 0
        self.positions: dict[str, int] = {}
        self.ready, self.leaving = True, False
        self.heard_hosts: dict[str, int] = {}
        self.pull: Pull | None = None
        self.answer: Callable[[str, Sequence[Message], int], Sequence[Message]] = lambda _node, _messages, _wait_ms: ()

    def outlook(self) -> Outlook:
        return Outlook(
            arrived=self._take_in,
            undelivered=self.undelivered.append,
            pull=lambda: self.pull,
            positions=lambda: dict(self.positions),
            ready=lambda: self.ready,
            leaving=lambda: self.leaving,
            heard_hosts=lambda: dict(self.heard_hosts),
            on_hosts=self.hosts.__setitem__,
            evict=self.evicted.append,
            leave=self._leave,
        )

    def receive(self, node: str, messages: Sequence[Message], wait_ms: int) -> Sequence[Message]:
        self.arrived.append((node, list(messages)))
        return self.answer(node, messages, wait_ms)

    def _take_in(self, node: str, messages: Sequence[Message]) -> None:
        """As a real one does, ask for the next part once this one is taken in."""
        self.arrived.append((node, list(messages)))
        for message in messages:
            if isinstance(message, Pulled):
                self.pull = pull_of(message.news[0].commit)

    def _leave(self) -> None:
        self.left += 1


class Stage:
    """A coordinator called `name` that listens on a port of this machine."""

    def __init__(
        self, name: str, tokens: tuple[str, ...] = (TOKEN,), port: int = 0, peer_tokens: tuple[str, ...] = (), **config: Any
    ) -> None:
        self.memory = Memory()
        self._app: Any = None
        self._server = Server(self._serve, "127.0.0.1", port, threads=12)
        self.url = f"http://127.0.0.1:{self._server.port}"
        self.node = config.pop("node", f"{name}#{'0' * 7}1")
        settings = PeerConfig(self.node, name, LOG, self.url, peer_tokens or tokens, sync_ms=200)
        self.clock = steady_clock()
        self.peers = Peers(replace(settings, **config), self.memory.outlook(), self.clock)
        self._name, self._tokens, self._peer_tokens = name, tokens, peer_tokens
        self.inside = InProcess()

    def start(self) -> "Stage":
        health = lambda: HealthSeen(ok=True, ready=True)  # noqa: E731
        parts = Parts(self.inside, self.inside.archive, self._name, LOG, self._tokens, self.clock, health)
        self._app = create_app(replace(parts, network=self.peers, replication=self.memory, peer_tokens=self._peer_tokens))
        self._server.start()
        self.start_manager()
        return self

    def start_manager(self) -> None:
        self.peers.post.ref = PeerManager.start(self.peers, self.memory.outlook(), self.clock)

    def stop_manager(self) -> None:
        if self.peers.post.ref is not None:
            self.peers.post.ref.stop(block=True, timeout=PATIENCE_S)

    def stop(self) -> None:
        self.stop_manager()
        self._server.stop(0.5)

    def knows(self, *others: "Stage") -> bool:
        """Has it admitted exactly these?"""
        return {peer.node for peer in self.peers.peers()} == {other.node for other in others}

    def reason_for(self, url: str) -> str:
        """Why an address is not admitted; empty when it is not waiting."""
        return next((hint.reason for hint in self.peers.hints() if hint.url == url), "")

    def _serve(self, *args: Any) -> Any:
        return self._app(*args)


def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds, which other threads bring about."""
    pause, steps = threading.Event(), int(PATIENCE_S / 0.01)
    for _ in range(steps):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("waited in vain")

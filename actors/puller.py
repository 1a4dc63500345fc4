"""Asks one peer after the other, drawn at random, for what is committed beyond our copies; each keeps the question until it has news."""

import logging
import random
import threading
import time
from collections.abc import Sequence

import orjson

from actors.peer_config import Outlook
from actors.peers import Peers
from skyclaw.cluster import wire
from skyclaw.cluster.messages import Message, Pull, Pulled
from skyclaw.cluster.wire import BadMessage
from skyclaw.errors import ServerRefused, Unavailable
from skyclaw.outside.peer_channel import PeerSilent
from skyclaw.outside.peer_link import ANSWER_LIMIT, envelope, opened

logger = logging.getLogger(__name__)

PATH = "/v1/replicate/pull"
LONGEST_WAIT_MS = 5_000  # that a peer may keep the question
ANSWER_S = 5.0  # beyond that
SETTLED_S, LOOK_S = 1.0, 0.01  # how long to wait for what was pulled to be taken in, and how often to look
LEAST_PAUSE_S = 0.1


class Puller:
    """One thread, one question at a time."""

    def __init__(self, peers: Peers, outlook: Outlook) -> None:
        self._peers, self._outlook = peers, outlook
        self._period_s = peers.config.sync_ms / 1000
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="Puller", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """Ask nothing more; a question that is under way ends with the channel it was asked on."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopped.is_set():
            began = time.monotonic()
            if not self._pull():
                left = self._period_s - (time.monotonic() - began) if self._peers.peers() else 0.0
                self._stopped.wait(max(LEAST_PAUSE_S, left))

    def _pull(self) -> bool:
        """As `pull_once`; whatever happens, there is a next time."""
        try:
            return self.pull_once()
        except Unavailable:
            return False  # who takes in what comes is being restarted
        except Exception:
            logger.exception("pull_failed")
            return False

    def pull_once(self) -> bool:
        """Ask one peer; True when it had something to say."""
        pull, peers = self._outlook.pull(), [peer for peer in self._peers.peers() if not (peer.in_doubt or peer.refuses)]
        if pull is None or not peers:
            return False
        peer = random.choice(peers)  # noqa: S311  # only spreads the load
        try:
            answer = self._ask(peer.node, peer.url, pull)
        except (PeerSilent, ServerRefused, BadMessage):
            return False
        if not any(isinstance(message, Pulled) and message.news for message in answer):
            return False
        self._outlook.arrived(peer.node, answer)
        self._let_settle(pull)
        return True

    def _ask(self, node: str, url: str, pull: Pull) -> Sequence[Message]:
        wait_ms = min(LONGEST_WAIT_MS, self._peers.config.sync_ms)
        body = envelope(self._peers.node, node, [orjson.dumps(wire.pack([pull])[0])], waitMs=wait_ms)
        said = self._peers.client.channel(url).call("POST", PATH, body, wait_ms / 1000 + ANSWER_S, ANSWER_LIMIT)
        return opened(said, self._peers.node, node)

    def _let_settle(self, asked: Pull) -> None:
        """What came is taken in by another thread: asking for the same again meanwhile would be in vain."""
        ends = time.monotonic() + SETTLED_S
        while self._outlook.pull() == asked and time.monotonic() < ends and not self._stopped.wait(LOOK_S):
            pass

"""The way of messages to one peer: a thread that sends what has come in meanwhile as one request, one request at a time.

A message may be lost. After a failure everything that was given to the link is dropped, its user is told once, and the next attempt waits
a little, the longer the more attempts have failed; what comes in meanwhile is kept for it. Whoever hears of the peer meanwhile wakes the
link.
"""

import logging
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from skyclaw.cluster import wire
from skyclaw.cluster.messages import Message
from skyclaw.cluster.wire import BadMessage
from skyclaw.errors import ServerRefused, Unavailable
from skyclaw.outside.peer_channel import Channel, PeerSilent
from skyclaw.outside.peer_outbox import Outbox

logger = logging.getLogger(__name__)

PATH = "/v1/replicate/messages"
ANSWER_S = 5.0
ANSWER_LIMIT = 8 * 1024 * 1024
BODY_BYTES = 6 * 1024 * 1024  # of one request, unless a single message is larger
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0


@dataclass(frozen=True, slots=True)
class Hearing:
    """Who hears of what a peer answers. Called by the link's thread, so they must not wait."""

    on_messages: Callable[[str, Sequence[Message]], None]
    on_undelivered: Callable[[str], None]
    on_refused: Callable[[str, ServerRefused], None]


def envelope(own: str, node: str, messages: Sequence[bytes], **more: Any) -> bytes:
    """The body of a request with these messages, each already JSON."""
    fragments = [orjson.Fragment(message) for message in messages]
    return orjson.dumps({"from": own, "to": node, "messages": fragments, **more})


def opened(said: dict[str, Any], own: str, node: str) -> list[Message]:
    """The messages in what a peer answered; raises BadMessage, also when it is from or for somebody else."""
    if said.get("from") != node or said.get("to") != own:
        raise BadMessage("the answer is from another node, or for another one")
    return wire.unpack(said.get("messages"))


class PeerLink:
    """Sends to `node` in the name of `own`."""

    def __init__(self, own: str, node: str, channel: Channel, hearing: Hearing, answer_s: float = ANSWER_S) -> None:
        self._own, self._node, self._channel, self._hearing, self._answer_s = own, node, channel, hearing, answer_s
        self._outbox = Outbox()
        self._changed = threading.Condition()
        self._stopped = self._woken = False
        self._thread = threading.Thread(target=self._run, name=f"PeerLink {node}", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def send(self, messages: Sequence[Message]) -> None:
        """Send them soon, or never; does not wait."""
        with self._changed:
            self._outbox.put(messages)
            self._changed.notify()

    def wake(self) -> None:
        """The peer was heard of: do not wait longer than after a first failure."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def stop(self, timeout_s: float = 3.0) -> None:
        """Send nothing more; ends what is under way, with all else on the same channel."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._channel.close()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        pause = 0.0
        while (batch := self._next(pause)) is not None:
            try:
                for body in _bodies(self._own, self._node, batch):
                    self._exchange(body)
            except (PeerSilent, ServerRefused, BadMessage) as failure:
                self._fail(failure, first=not pause)
                pause = min(LONGEST_PAUSE_S, 2 * pause or FIRST_PAUSE_S)
            else:
                pause = 0.0

    def _next(self, pause: float) -> list[Message] | None:
        """The next batch, after the pause that follows a failure; None when the link was stopped."""
        with self._changed:
            if pause:
                pause *= random.uniform(0.75, 1.0)  # noqa: S311  # only spreads attempts
                self._changed.wait_for(lambda: self._stopped, min(pause, FIRST_PAUSE_S))
                self._changed.wait_for(lambda: self._stopped or self._woken, pause - FIRST_PAUSE_S)
            self._woken = False
            self._changed.wait_for(lambda: self._stopped or len(self._outbox) > 0)
            return None if self._stopped else self._outbox.take()

    def _exchange(self, body: bytes) -> None:
        messages = opened(self._channel.call("POST", PATH, body, self._answer_s, ANSWER_LIMIT), self._own, self._node)
        if messages:
            self._tell(self._hearing.on_messages, self._node, messages)

    def _fail(self, failure: Exception, *, first: bool) -> None:
        with self._changed:
            self._outbox.clear()
            if self._stopped:
                return
        if first:
            logger.warning("peer_unreachable node=%s cause=%s", self._node, failure)
        self._tell(self._hearing.on_undelivered, self._node)
        if isinstance(failure, ServerRefused):
            self._tell(self._hearing.on_refused, self._node, failure)

    def _tell(self, hears: Callable[..., None], *what: object) -> None:
        """Whoever cannot hear it now has lost it, as if it had been lost on the way; the link goes on."""
        try:
            hears(*what)
        except Unavailable:
            logger.info("answer_not_heard node=%s", self._node)
        except Exception:
            logger.exception("hearing_failed node=%s", self._node)


def _bodies(own: str, node: str, batch: Sequence[Message]) -> Iterator[bytes]:
    """The batch in requests: one, unless it is larger as JSON than it was thought to be."""
    group: list[bytes] = []
    size = 0
    for item in wire.pack(batch):
        text = orjson.dumps(item)
        if group and size + len(text) > BODY_BYTES:
            yield envelope(own, node, group)
            group, size = [], 0
        group.append(text)
        size += len(text)
    yield envelope(own, node, group)

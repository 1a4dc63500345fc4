"""What the Replicator is told by others than the queue: messages of other nodes, questions, and orders."""

from collections.abc import Sequence
from dataclasses import dataclass

from actors.asking import Reply
from skyclaw.cluster.configuration import Configuration
from skyclaw.cluster.messages import Message, Pull


@dataclass(frozen=True, slots=True)
class Arrived:
    """Messages from another node; `reply` gets what is to be said to it at once, if somebody waits for that, `until` then (ms)."""

    src: str
    messages: Sequence[Message]
    reply: Reply | None = None
    until: int = 0


@dataclass(frozen=True, slots=True)
class PullArrived:
    """Another node asks for news; when there is none, the answer may wait until this time (ms)."""

    pull: Pull
    reply: Reply
    until: int


@dataclass(frozen=True, slots=True)
class StopParking:
    """The process is about to end: questions do not wait any more."""


@dataclass(frozen=True, slots=True)
class PullWanted:
    """What to ask another node for? The reply gets a Pull."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Undelivered:
    """What was sent to this node lately did not arrive."""

    node: str


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """The owner of a log wants these voters."""

    log: str
    wanted: Configuration


@dataclass(frozen=True, slots=True)
class Transfer:
    """Let that node own the log."""

    log: str
    to: str


@dataclass(frozen=True, slots=True)
class Force:
    """An operator gives up the former voters of a log; `reply` gets the new epoch when it is durable here."""

    log: str
    wanted: Configuration
    operator: str
    reply: Reply

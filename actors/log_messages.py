"""What JobQueue and Replicator say to each other about logs. Each has one sender and one receiver, and their order is kept.

1. JobQueue numbers its attempts at each log (`line`): a Rejected or OwnershipLost ends the line, and what still comes of it is refused.
2. Answers leave when everything they were computed from is committed; refused ones are told to ask again.
3. What somebody else owns comes as Followed, committed and in order; a gap is read from the store, what is known already is skipped.
4. What the protocol itself appends to a log that is owned here (its voters change) comes as Interposed, and is in the store by then. It
   takes the positions of what the queue decided meanwhile: an Append that does not follow the log's end is refused, with its line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from actors.asking import Reply
from skyclaw.events import Event
from skyclaw.records import Record
from skyclaw.scheduling.snapshots import Picture

Waiting = Sequence[tuple[Reply, object]]  # who waits, and for what


@dataclass(frozen=True, slots=True)
class Append:
    """To the Replicator: events of an owned log that follow position `after` (perhaps none), and the answers that wait for them."""

    log: str
    line: int
    after: int
    epoch: str
    at: int  # ms
    events: Sequence[Event]
    answers: Waiting


@dataclass(frozen=True, slots=True)
class Read:
    """What was read of an owned log: everything up to `position`, in this line and epoch."""

    line: int
    epoch: str
    position: int


@dataclass(frozen=True, slots=True)
class Answers:
    """To the Replicator: answers computed from several owned logs. They leave when every position in `read` (by log) is committed."""

    read: Mapping[str, Read]
    answers: Waiting


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """To the Replicator: a log as it is after everything appended so far, or followed so far; a snapshot once that is committed.

    `epoch` is the one under which it is owned, empty when it is not: what an owner decided counts only as long as it is that owner.
    `rewritten` is how many Rewritten of the log the queue has heard: what it knew before counts no more.
    """

    log: str
    line: int
    epoch: str
    picture: Picture
    rewritten: int = 0


@dataclass(frozen=True, slots=True)
class Committed:
    """To the queue, now and then: everything of an owned log up to this position is committed."""

    log: str
    end: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """To the queue: nothing of this line (or an earlier one) beyond `end` was stored; go back to there."""

    log: str
    line: int
    end: int


@dataclass(frozen=True, slots=True)
class Interposed:
    """To the queue: these records, which it did not decide, stand in an owned log; nothing that it decided stands behind them."""

    log: str
    records: Sequence[Record]


@dataclass(frozen=True, slots=True)
class Followed:
    """To the queue: committed records of a log that somebody else owns, in order; there may be a gap before them, or an overlap."""

    log: str
    records: Sequence[Record]


@dataclass(frozen=True, slots=True)
class OwnershipGained:
    """To the queue: decide for this log, under `epoch`. The store has it up to `end`, up to `committed` for certain."""

    log: str
    epoch: str
    committed: int
    end: int


@dataclass(frozen=True, slots=True)
class OwnershipLost:
    """To the queue: decide no more for this log, and keep nothing of it that is not committed. Who waits has been told."""

    log: str
    committed: int


@dataclass(frozen=True, slots=True)
class Rewritten:
    """To the queue: committed events of this log were replaced; what the store has up to `committed` counts."""

    log: str
    committed: int

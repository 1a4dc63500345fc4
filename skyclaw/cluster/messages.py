"""What nodes say to each other about logs. Any message may be lost, repeated, delayed or overtaken by others; none is awaited.

Epochs are `skyclaw.records.Epoch`, positions whole numbers from 1, `records` sealed `skyclaw.records.Record`s in order.
"""

from typing import NamedTuple

from skyclaw.records import Epoch, Record


class Shape(NamedTuple):
    """How a copy of a log looks from outside: its end, and where each epoch begins, the latest epochs only.

    Two copies that agree on the epoch of one position agree on everything before it, so shapes tell how far copies are equal.
    """

    end: int
    starts: tuple[tuple[int, Epoch], ...]  # ascending


class Ask(NamedTuple):
    """Let me own the log under `epoch`; without one: would you? (which binds nobody). `last` is the asker's last epoch and position."""

    log: str
    epoch: Epoch | None
    last: tuple[Epoch, int]


class Grant(NamedTuple):
    """The answer to an Ask, durable before it is sent."""

    log: str
    epoch: Epoch | None
    ok: bool
    promised: Epoch


class Append(NamedTuple):
    """From the owner to a voter: the records after position `prev`, and how far the log is committed. Without records: a heartbeat."""

    log: str
    epoch: Epoch
    prev: int
    prev_epoch: Epoch
    records: tuple[Record, ...]
    commit: int


class Ack(NamedTuple):
    """The answer to an Append: everything up to `match` is durable; or not `ok`, with the shape of the copy as it is."""

    log: str
    epoch: Epoch
    ok: bool
    match: int
    promised: Epoch
    shape: Shape | None = None


class Campaign(NamedTuple):
    """From the owner under `epoch` to a voter that is level: take the log over, at once."""

    log: str
    epoch: Epoch


class Copy(NamedTuple):
    """What a node has of a log: how it looks, how far it is known to be committed, and the newest epoch known to own it.

    A copy that is `fed` by its owner wants no news from others.
    """

    log: str
    shape: Shape
    commit: int
    owner: Epoch
    fed: bool = False


class Pull(NamedTuple):
    """Tell me what is committed beyond these copies of mine."""

    copies: tuple[Copy, ...]


class News(NamedTuple):
    """Of one log: the newest epoch known to own it, the records after position `prev` (perhaps none), all committed, and how far it is.

    `prev_hash` is the hash of the record at `prev`: it tells whether the copy still is as it was when it asked.
    """

    log: str
    owner: Epoch
    prev: int
    prev_hash: bytes
    records: tuple[Record, ...]
    commit: int


class Pulled(NamedTuple):
    """The answer to a Pull."""

    news: tuple[News, ...]


Message = Ask | Grant | Append | Ack | Campaign | Pull | Pulled

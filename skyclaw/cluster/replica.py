"""One node's copy of one log, as the protocol sees it.

Durable are the promise and the records. In memory are the latest records, the first position of every epoch and the configurations; older
records are read from the past, where all of them are durable. A copy is never cut at its front.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, Protocol

from skyclaw.cluster.configuration import Configurations, of_event
from skyclaw.cluster.messages import Copy, Shape
from skyclaw.codec import CODEC
from skyclaw.events import ConfigurationChanged, OwnershipTaken
from skyclaw.records import GENESIS_EPOCH, GENESIS_HASH, Epoch, Record, chain_hash

KEPT_RECORDS = 4096  # in memory, of each log
KEPT_CHARACTERS = 8 * 1024 * 1024
SHAPE_STARTS = 64  # of the latest epochs
CONFIGURATION = ConfigurationChanged.__name__
TURNING_POINTS = (OwnershipTaken.__name__, CONFIGURATION)

parse_epoch = lru_cache(maxsize=1024)(Epoch.parse)


class Broken(Exception):
    """A record does not follow from the one before it: somebody's copy of the log is damaged, or forged."""


class Past(Protocol):
    """The durable records of the logs."""

    def records(self, log: str, after: int, limit: int) -> Sequence[Record]:
        """At most `limit` records behind position `after`, at least one if there is one."""

    def hash_at(self, log: str, seq: int) -> bytes:
        """The hash of the record at this position."""


class Restored(NamedTuple):
    """What is durable of a copy: where it ends, the first position of each epoch, all configurations, and what it has promised.

    `committed` is a position up to which the log is known to be committed.
    """

    log: str
    promised: Epoch = GENESIS_EPOCH
    end: int = 0
    hash: bytes = GENESIS_HASH
    starts: tuple[tuple[int, Epoch], ...] = ()
    configurations: tuple[tuple[int, Configurations], ...] = ()
    committed: int = 0


class Replica:
    """The durable part of a copy, and what is known of the log at large."""

    def __init__(self, restored: Restored, past: Past) -> None:
        self.log, self._past = restored.log, past
        self.commit = restored.committed
        self.restore(restored)
        self.owner = self.starts[-1][1] if self.starts else GENESIS_EPOCH  # the newest epoch known to own the log
        self.highest = max(self.promised, self.owner)  # heard of at all

    def restore(self, restored: Restored) -> None:
        """Go (back) to what is durable."""
        self.promised = restored.promised
        self.starts = list(restored.starts)
        self.configurations = list(restored.configurations)
        self._base, self._base_hash = restored.end, restored.hash
        self._tail: list[Record] = []
        self._characters = 0
        self.commit = min(self.commit, self.end)

    @property
    def end(self) -> int:
        """The last position."""
        return self._base + len(self._tail)

    @property
    def hash(self) -> bytes:
        """The hash of the last record."""
        return self._tail[-1].hash if self._tail else self._base_hash

    @property
    def last(self) -> tuple[Epoch, int]:
        """Epoch and position of the last record: the greater, the more complete is the copy."""
        return self.starts[-1][1] if self.starts else GENESIS_EPOCH, self.end

    @property
    def overtaken(self) -> bool:
        """Was the log forced, and does this copy lack the records from there on?"""
        return self.promised.generation > self.last[0].generation

    @property
    def configuration(self) -> Configurations:
        """What is in force: the latest in the log, committed or not."""
        return self.configurations[-1][1] if self.configurations else ()

    @property
    def settled(self) -> bool:
        """Is the configuration in force committed?"""
        return not self.configurations or self.configurations[-1][0] <= self.commit

    @property
    def founder(self) -> str:
        """The node that founded the log."""
        return next(iter(self.configurations[0][1][0].voters)) if self.configurations else ""

    def epoch_at(self, seq: int) -> Epoch:
        """The epoch of the record at a position of this copy; that of position 0 is GENESIS_EPOCH."""
        index = bisect_right(self.starts, seq, key=_position) - 1
        return self.starts[index][1] if index >= 0 else GENESIS_EPOCH

    def shape(self) -> Shape:
        """How the copy looks."""
        return Shape(self.end, tuple(self.starts[-SHAPE_STARTS:]))

    def copy(self) -> Copy:
        """What this node has of the log."""
        return Copy(self.log, self.shape(), self.commit, self.owner)

    def common(self, other: Shape) -> int:
        """The last position up to which this copy and the other are surely equal."""
        mine, theirs = _ends(Shape(self.end, tuple(self.starts))), _ends(other)
        return max((min(end, theirs[epoch]) for epoch, end in mine.items() if epoch in theirs), default=0)

    def records(self, after: int, limit: int, characters: int) -> tuple[Record, ...]:
        """The records behind a position, at most `limit` of them and about `characters` of data."""
        found = self._tail[after - self._base : after - self._base + limit] if after >= self._base else self._older(after, limit)
        size = 0
        for count, record in enumerate(found, 1):
            size += len(record.data)
            if size >= characters:
                return tuple(found[:count])
        return tuple(found)

    def put(self, start: int, records: Sequence[Record]) -> None:
        """Replace everything from position `start` on."""
        if start <= self.end:
            self._cut(start)
        for record in records:
            epoch = parse_epoch(record.epoch)
            if not self.starts or self.starts[-1][1] != epoch:
                self.starts.append((record.seq, epoch))
            if record.type == CONFIGURATION:
                self.configurations.append((record.seq, configurations_of(record)))
            self._characters += len(record.data)
        self._tail.extend(records)

    def verify(self, records: Sequence[Record]) -> None:
        """Raise Broken unless the records follow from this copy, of which the first is the next or replaces one."""
        first = records[0].seq
        before = self.hash if first == self.end + 1 else self.hash_at(first - 1)
        for seq, record in enumerate(records, first):
            if record.seq != seq or record.log != self.log or chain_hash(before, record) != record.hash:
                raise Broken(f"event {self.log}/{seq} does not follow from the one before it")
            before = record.hash

    def trim(self, durable: int) -> None:
        """Let go of old records that are durable and committed, once there are many."""
        if len(self._tail) <= 2 * KEPT_RECORDS and self._characters <= 2 * KEPT_CHARACTERS:
            return
        room, last = KEPT_RECORDS, min(durable, self.commit) - self._base
        while room and sum(len(record.data) for record in self._tail[max(0, last - room) : max(0, last)]) > KEPT_CHARACTERS:
            room //= 2
        if (count := last - room) > 0:
            self._base, self._base_hash = self._base + count, self._tail[count - 1].hash
            del self._tail[:count]
            self._characters = sum(len(record.data) for record in self._tail)

    def _cut(self, start: int) -> None:
        """Drop everything from position `start` on."""
        if start <= self._base:
            self._base_hash = self.hash_at(start - 1)
            self._base, self._tail = start - 1, []
        else:
            del self._tail[start - 1 - self._base :]
        self._characters = sum(len(record.data) for record in self._tail)
        while self.starts and self.starts[-1][0] >= start:
            self.starts.pop()
        while self.configurations and self.configurations[-1][0] >= start:
            self.configurations.pop()

    def _older(self, after: int, limit: int) -> Sequence[Record]:
        found = list(self._past.records(self.log, after, min(limit, self._base - after)))
        return [*found, *self._tail[: limit - len(found)]] if found and found[-1].seq == self._base else found

    def hash_at(self, seq: int) -> bytes:
        """The hash of the record at a position."""
        if seq == 0:
            return GENESIS_HASH
        if seq == self._base:
            return self._base_hash
        return self._tail[seq - self._base - 1].hash if seq > self._base else self._past.hash_at(self.log, seq)


@dataclass(slots=True)
class Follower:
    """What the owner knows of a voter: what it surely has, what is sent next, when it was last heard of, and what it was told."""

    match: int = 0
    next: int = 1
    seen: float = float("-inf")
    told: int = 0  # the commit position
    probed: bool = False  # it refused something: one message at a time until it takes one, else each refusal begets many


@dataclass(slots=True)
class Ownership:
    """What only the owner of a log has."""

    epoch: Epoch
    beat_at: int  # time of the next heartbeat
    followers: dict[str, Follower] = field(default_factory=dict)
    yields_to: str | None = None
    yields_until: int = 0
    alone_since: int | None = None  # when contact with the voters was lost

    def follower(self, node: str, end: int) -> Follower:
        """What is known of a voter; of a new one nothing, so that it is asked where it stands."""
        return self.followers.setdefault(node, Follower(next=end + 1))


def configurations_of(record: Record) -> Configurations:
    """The configurations that a record puts in force."""
    event = CODEC.decode(record.type, record.version, record.data)
    assert isinstance(event, ConfigurationChanged)
    return of_event(event)


def restored(log: str, promised: Epoch, end: int, last_hash: bytes, turning_points: Iterable[Record], committed: int) -> Restored:
    """What is durable of a copy; its turning points are its records of the types in TURNING_POINTS, one of which begins every epoch."""
    starts: list[tuple[int, Epoch]] = []
    configurations: list[tuple[int, Configurations]] = []
    for record in turning_points:
        epoch = parse_epoch(record.epoch)
        if not starts or starts[-1][1] != epoch:
            starts.append((record.seq, epoch))
        if record.type == CONFIGURATION:
            configurations.append((record.seq, configurations_of(record)))
    return Restored(log, promised, end, last_hash, tuple(starts), tuple(configurations), committed)


def _position(start: tuple[int, Epoch]) -> int:
    return start[0]


def _ends(shape: Shape) -> dict[Epoch, int]:
    """The last position of each epoch of a copy."""
    following = [*(start for start, _ in shape.starts[1:]), shape.end + 1]
    return {epoch: after - 1 for (_, epoch), after in zip(shape.starts, following, strict=False)}

"""What every event store does, and how a chain of events is verified while it is read.

1. A log is a gapless sequence of sealed records from position 1; each record's hash covers its predecessor's.
2. What `append` or `write` was given is stored whole and durably when it returns, and not at all when it raises.
3. Whoever reads sees whole batches only. A record that does not follow from its predecessor is never handed out.
4. The end of a log may be replaced: of what stood there no reader finds a trace, and who is reading there is told so.
5. A snapshot counts only when it is complete, unchanged, and its head is a record of the log.
6. Beside the records, a store keeps one thing: which epoch its replica promised, for each log.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from skyclaw.errors import DatabaseDamaged, StorageFailed
from skyclaw.records import GENESIS_HASH, Record, chain_hash

CURE = "restore a backup, or start with an empty database beside living peers"


@dataclass(frozen=True, slots=True)
class Head:
    """Where a log ends: position, epoch and hash of its last record."""

    seq: int  # 0: empty
    epoch: str  # "" when empty
    hash: bytes  # GENESIS_HASH when empty


EMPTY = Head(0, "", GENESIS_HASH)


@dataclass(frozen=True, slots=True)
class Write:
    """Everything of a log from position `start` on becomes these records; `start` is at most one behind its end."""

    log: str
    start: int
    records: Sequence[Record]


NO_PROMISES: Mapping[str, str] = MappingProxyType({})


class EventLog(Protocol):
    """A store of logs. One thread calls `append`, `write` and `note_committed`, another one `save_snapshot`, and any all the rest."""

    @property
    def node(self) -> str:
        """Replica id: random per database, permanent."""

    @property
    def log(self) -> str:
        """Tag of the log that was founded with this database, permanent."""

    @property
    def read_only(self) -> bool:
        """True when it was opened where nothing can be written."""

    def logs(self) -> list[str]:
        """The tags of the logs that have records: the own one first, if it has, then the others in order."""

    def promises(self) -> dict[str, str]:
        """The epoch that was promised last, as text, of each log of which one was; raises DatabaseDamaged."""

    def head(self, log: str) -> Head:
        """Where the log ends; `EMPTY` for a log without records."""

    def head_at(self, log: str, seq: int) -> Head:
        """Where the log ended when position `seq` was its last; `EMPTY` at 0. Raises DatabaseDamaged when there is no such record."""

    def append(self, records: Sequence[Record]) -> None:
        """Add sealed records, all or none, durably; they may belong to several logs.

        Raises StorageReadOnly, StorageFull, StorageFailed (each time the store stays usable), ValueError when a record's position does
        not follow the head of its log.
        """

    def write(self, writes: Sequence[Write], promises: Mapping[str, str] = NO_PROMISES) -> None:
        """Append to logs or replace their ends, and keep promised epochs, all or nothing, durably; each log occurs once at most.

        Drops the snapshots of what is replaced. Raises as `append`; ValueError too when records are not those of their write.
        """

    def note_committed(self, positions: Mapping[str, int]) -> None:
        """Keep how far logs are known to be committed, for the next start. Raises as `append`."""

    def committed(self, log: str) -> int:
        """The position that was noted last, if the record there still is the same one; otherwise 0."""

    def tail(self, log: str, after: int) -> Iterator[Record]:
        """The records behind position `after`, in order, verified; ends when it has caught up with the log.

        Raises, while it is read, DatabaseDamaged (details: log, seq), and StorageFailed, also when what was read last is replaced.
        """

    def records(self, log: str, after: int, limit_records: int, limit_bytes: int) -> list[Record]:
        """The next records behind position `after`, verified: none at the end of the log, else one at least.

        No more than `limit_records`, and no more than one of them when their data is larger than `limit_bytes`. Raises as `tail`.
        """

    def stream(self, stream: str, until: int | None = None, after: int = 0, limit: int | None = None) -> list[Record]:
        """The records of one job, service or host behind position `after`, up to and including `until`: the first `limit` of them.

        Log by log, in order, verified; raises as `tail`.
        """

    def of_types(self, log: str, types: Sequence[str]) -> list[Record]:
        """All records of these types, which are rare, in order, each verified to follow its predecessor; raises as `tail`."""

    def newest(self, log: str, types: Sequence[str], before: int | None, limit: int) -> list[tuple[int, str]]:
        """(position, stream) of at most `limit` records of these types before position `before`, newest first."""

    def last(self, log: str, streams: Sequence[str]) -> dict[str, int]:
        """The position of the last record of each of these streams in the log; a stream without records there is left out."""

    def save_snapshot(self, log: str, at: Head, parts: Iterable[str]) -> None:
        """Keep the JSON texts `parts` as the state of the log at `at`; the two newest snapshots of a log are kept.

        Raises as `append`; what was saved halfway is never used.
        """

    def snapshot(self, log: str) -> tuple[Head, Iterator[str]] | None:
        """The newest usable snapshot; its parts raise StorageFailed when it was replaced while it was read."""

    def close(self) -> None:
        """Give the store back; calling it again does nothing."""


def damaged(log: str, seq: int, place: str, fault: str) -> DatabaseDamaged:
    """The error that names the event at which a chain breaks."""
    return DatabaseDamaged(f"database is damaged: event {log}/{seq} in {place} {fault}; {CURE}", {"log": log, "seq": seq})


def checked(record: Record, previous: bytes, place: str) -> Record:
    """The record, if it carries the hash that ties it to a predecessor whose hash is `previous`; raises DatabaseDamaged."""
    try:
        right = chain_hash(previous, record) == record.hash
    except (AttributeError, TypeError):  # damage can turn any column into any type
        right = False
    if not right:
        raise damaged(record.log, record.seq, place, "does not follow from the one before it")
    return record


def verified(records: Iterable[Record], previous: Head, log: str, place: str) -> Iterator[Record]:
    """The records as they come, each checked to follow the one before; raises DatabaseDamaged, which names `place`."""
    seq, last = previous.seq, previous.hash
    for record in records:
        seq += 1
        if record.seq != seq:
            raise damaged(log, seq, place, "is missing")
        yield checked(record, last, place)
        last = record.hash


def replaced(log: str, seq: int, place: str) -> StorageFailed:
    """The error for a reader who had come to a position that was then replaced."""
    return StorageFailed(f"log {log} in {place} was replaced at position {seq} while it was read; read it again")


def size_of(data: object) -> int:
    """The bytes of a record's data, for limits; damaged data can be of any type."""
    return len(str(data).encode(errors="replace"))


def positions_after(writes: Iterable[Write], end: Callable[[str], int]) -> dict[str, int]:
    """The last position of each log after these writes; `end` tells the present one. Raises ValueError as `EventLog.write`."""
    ends: dict[str, int] = {}
    for write in writes:
        if write.log in ends:
            raise ValueError(f"log {write.log} is written twice at once")
        if not 1 <= write.start <= end(write.log) + 1:
            raise ValueError(f"a write of {write.log}/{write.start} does not follow position {end(write.log)}")
        for seq, record in enumerate(write.records, write.start):
            if (record.log, record.seq) != (write.log, seq):
                raise ValueError(f"event {record.log}/{record.seq} does not follow position {seq - 1} of log {write.log}")
        ends[write.log] = write.start - 1 + len(write.records)
    return ends


def next_positions(records: Iterable[Record], head: Callable[[str], int]) -> dict[str, int]:
    """The last position of each log after these records; `head` tells the present one. Raises ValueError at a gap or a repetition."""
    ends: dict[str, int] = {}
    for record in records:
        end = ends[record.log] if record.log in ends else head(record.log)
        if record.seq != end + 1:
            raise ValueError(f"event {record.log}/{record.seq} does not follow position {end}")
        ends[record.log] = record.seq
    return ends

"""The event log in memory: for tests, and for whoever may forget everything when the process ends."""

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate, islice

from skyclaw.errors import StorageFailed, StorageFull, StorageReadOnly
from skyclaw.ids import new_log_tag, new_node_id
from skyclaw.records import Record
from skyclaw.store.event_log import EMPTY, NO_PROMISES, Head, Write, checked, damaged, next_positions, positions_after, size_of, verified

_PLACE = "memory"


class MemoryEventLog:
    """An `EventLog` that lives as long as this object; set `read_only` or `full`, and appends are refused accordingly."""

    def __init__(self, label: str) -> None:
        self.node, self.log = new_node_id(label), new_log_tag()
        self.read_only = self.full = self._closed = False
        self._lock = threading.Lock()
        self._logs: defaultdict[str, list[Record]] = defaultdict(list)
        self._streams: defaultdict[str, list[Record]] = defaultdict(list)
        self._snapshots: defaultdict[str, list[tuple[Head, list[str]]]] = defaultdict(list)  # newest first
        self._promises: dict[str, str] = {}
        self._progress: dict[str, Head] = {}

    def logs(self) -> list[str]:
        """As `EventLog.logs`."""
        with self._open():
            return sorted((log for log, records in self._logs.items() if records), key=lambda log: (log != self.log, log))

    def promises(self) -> dict[str, str]:
        """As `EventLog.promises`."""
        with self._open():
            return dict(self._promises)

    def head(self, log: str) -> Head:
        """As `EventLog.head`."""
        with self._open():
            return self._head_at(log, len(self._logs[log]))

    def head_at(self, log: str, seq: int) -> Head:
        """As `EventLog.head_at`."""
        with self._open():
            return self._head_at(log, seq)

    def append(self, records: Sequence[Record]) -> None:
        """As `EventLog.append`."""
        with self._writable():
            next_positions(records, lambda log: len(self._logs[log]))
            self._add(records)

    def write(self, writes: Sequence[Write], promises: Mapping[str, str] = NO_PROMISES) -> None:
        """As `EventLog.write`."""
        with self._writable():
            positions_after(writes, lambda log: len(self._logs[log]))
            for write in writes:
                self._cut(write.log, write.start)
                self._add(write.records)
            self._promises |= promises

    def note_committed(self, positions: Mapping[str, int]) -> None:
        """As `EventLog.note_committed`."""
        with self._writable():
            self._progress |= {log: self._head_at(log, seq) for log, seq in positions.items()}

    def committed(self, log: str) -> int:
        """As `EventLog.committed`."""
        with self._open():
            noted = self._progress.get(log, EMPTY)
            return noted.seq if noted.seq <= len(self._logs[log]) and self._head_at(log, noted.seq) == noted else 0

    def tail(self, log: str, after: int) -> Iterator[Record]:
        """As `EventLog.tail`."""
        with self._open():
            last = self._head_at(log, after)
            records = self._logs[log][after:]
        yield from verified(records, last, log, _PLACE)

    def records(self, log: str, after: int, limit_records: int, limit_bytes: int) -> list[Record]:
        """As `EventLog.records`."""
        with self._open():
            last, records = self._head_at(log, after), self._logs[log][after : after + limit_records]
        sizes = accumulate(size_of(record.data) for record in records)
        fitting = [record for record, size in zip(records, sizes, strict=True) if size <= limit_bytes or record is records[0]]
        return list(verified(fitting, last, log, _PLACE))

    def stream(self, stream: str, until: int | None = None, after: int = 0, limit: int | None = None) -> list[Record]:
        """As `EventLog.stream`."""
        with self._open():
            found = [record for record in self._streams[stream] if record.seq > after and (until is None or record.seq <= until)]
            found = sorted(found, key=lambda record: (record.log, record.seq))[:limit]
            return [checked(record, self._head_at(record.log, record.seq - 1).hash, _PLACE) for record in found]

    def of_types(self, log: str, types: Sequence[str]) -> list[Record]:
        """As `EventLog.of_types`."""
        with self._open():
            found = [record for record in self._logs[log] if record.type in types]
            return [checked(record, self._head_at(log, record.seq - 1).hash, _PLACE) for record in found]

    def newest(self, log: str, types: Sequence[str], before: int | None, limit: int) -> list[tuple[int, str]]:
        """As `EventLog.newest`."""
        with self._open():
            records = self._logs[log][: None if before is None else max(before - 1, 0)]
        return list(islice(((record.seq, record.stream) for record in reversed(records) if record.type in types), limit))

    def last(self, log: str, streams: Sequence[str]) -> dict[str, int]:
        """As `EventLog.last`."""
        with self._open():
            ends = {stream: [record.seq for record in self._streams[stream] if record.log == log] for stream in streams}
        return {stream: max(seqs) for stream, seqs in ends.items() if seqs}

    def save_snapshot(self, log: str, at: Head, parts: Iterable[str]) -> None:
        """As `EventLog.save_snapshot`."""
        kept = list(parts)
        with self._writable():
            self._snapshots[log] = [(at, kept), *self._snapshots[log][:1]]

    def snapshot(self, log: str) -> tuple[Head, Iterator[str]] | None:
        """As `EventLog.snapshot`."""
        with self._open():
            usable = (
                (at, parts) for at, parts in self._snapshots[log] if at.seq <= len(self._logs[log]) and at == self._head_at(log, at.seq)
            )
            return next(((at, iter(parts)) for at, parts in usable), None)

    def close(self) -> None:
        """As `EventLog.close`; what was in it is lost."""
        self._closed = True

    def _add(self, records: Iterable[Record]) -> None:
        for record in records:
            self._logs[record.log].append(record)
            self._streams[record.stream].append(record)

    def _cut(self, log: str, start: int) -> None:
        """Remove the log from position `start` on."""
        gone = self._logs[log][start - 1 :]
        del self._logs[log][start - 1 :]
        for stream in {record.stream for record in gone}:
            self._streams[stream] = [record for record in self._streams[stream] if record.log != log or record.seq < start]
        self._snapshots[log] = [(at, parts) for at, parts in self._snapshots[log] if at.seq < start]

    @contextmanager
    def _open(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise StorageFailed("the event log in memory is closed")
            yield

    @contextmanager
    def _writable(self) -> Iterator[None]:
        with self._open():
            if self.read_only:
                raise StorageReadOnly
            if self.full:
                raise StorageFull
            yield

    def _head_at(self, log: str, seq: int) -> Head:
        if seq == 0:
            return EMPTY
        if not 0 < seq <= len(self._logs[log]):
            raise damaged(log, seq, _PLACE, "is missing")
        record = self._logs[log][seq - 1]
        return Head(seq, record.epoch, record.hash)

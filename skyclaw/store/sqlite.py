"""The event log in an SQLite database.

Appending is the hot path of the whole system. A batch is one INSERT statement with many rows, in autocommit: the driver gives up the
interpreter lock for every statement that it runs, and beside busy threads it waits long to get it back, so a statement per row, or BEGIN
and COMMIT around it, would cost many times as much. Only a batch of more than ROWS_PER_STATEMENT rows needs several statements, and what
replaces the end of a log or comes with promises.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

from sqlalchemy import and_, bindparam, func, insert, select

from skyclaw.errors import DatabaseDamaged, StorageFailed
from skyclaw.records import Record
from skyclaw.store.database import Database, open_database, text_of
from skyclaw.store.event_log import EMPTY, NO_PROMISES, Head, Write, checked, next_positions, positions_after, verified
from skyclaw.store.pages import LOGS, head_at, last_of, page_behind, rows_of_types
from skyclaw.store.promises import PROMISES, keep, sound_promises
from skyclaw.store.snapshots import Snapshots
from skyclaw.store.tables import EVENT, PROGRESS

ROWS_PER_STATEMENT = 100  # a prepared statement for each number of rows stays in the driver's cache
PAGE_RECORDS = 500
PAGE_BYTES = 4 * 1024 * 1024

_values = attrgetter(*(column.name for column in EVENT.c))
_INSERT = text_of(insert(EVENT)).partition(" VALUES ")[0]
_ROW = f"({', '.join('?' * len(EVENT.c))})"

_E, _BEFORE, _P = EVENT.c, EVENT.alias().c, PROGRESS.c
_STREAM = (
    select(EVENT, _BEFORE.hash)
    .outerjoin(_BEFORE.seq.table, and_(_BEFORE.log == _E.log, _BEFORE.seq == _E.seq - 1))
    .where(_E.stream == bindparam("stream"), _E.seq > bindparam("after"), _E.seq <= bindparam("until"))
    .order_by(_E.log, _E.seq)
    .limit(bindparam("limit"))
)
_ENDS = (
    select(_E.stream, func.max(_E.seq).label("seq"))
    .where(_E.stream.in_(bindparam("streams", expanding=True)), _E.log == bindparam("log"))
    .group_by(_E.stream)
)
# A walk down the index for each type, whatever the planner thinks: it must not seek a rare type in the whole log.
_NEWEST = (
    "SELECT * FROM (SELECT seq, stream FROM event INDEXED BY event_by_type"
    " WHERE log = ? AND type = ? AND seq < ? ORDER BY seq DESC LIMIT ?)"
)
_CUTS = ("DELETE FROM event WHERE log = ? AND seq >= ?", "DELETE FROM snapshot WHERE log = ? AND seq >= ?")
_END_OF_TIME = 2**63 - 1  # behind every position
_ALL = -1  # no limit, in the words of SQLite
_PROGRESS = (
    select(_P.seq)
    .join_from(PROGRESS, EVENT, and_(_E.log == _P.log, _E.seq == _P.seq, _E.hash == _P.hash))
    .where(_P.log == bindparam("log"))
)
_NOTE = "INSERT INTO progress (log, seq, hash) VALUES (?, ?, ?) ON CONFLICT (log) DO UPDATE SET seq = excluded.seq, hash = excluded.hash"


def open_sqlite(path: Path, label: str) -> "SqliteEventLog":
    """Open the event log at `path`, or found it for a replica called `label`; raises as `open_database`."""
    return SqliteEventLog(open_database(path, label))


class SqliteEventLog:
    """An `EventLog` in one file."""

    def __init__(self, database: Database) -> None:
        self._database, self._snapshots = database, Snapshots(database)
        self.node, self.log = database.identity.node, database.identity.log
        self._ends: dict[str, int] = {}  # last position of each log that was appended to

    @property
    def read_only(self) -> bool:
        """True when it was opened where nothing can be written."""
        return self._database.read_only

    def logs(self) -> list[str]:
        """As `EventLog.logs`; raises DatabaseDamaged, StorageFailed."""
        with self._database.reading() as connection:
            return sorted(connection.exec_driver_sql(LOGS).scalars(), key=lambda log: (log != self.log, log))

    def promises(self) -> dict[str, str]:
        """As `EventLog.promises`; raises StorageFailed too."""
        with self._database.reading() as connection:
            return sound_promises(connection.exec_driver_sql(PROMISES), self._database.path)

    def head(self, log: str) -> Head:
        """As `EventLog.head`; raises DatabaseDamaged, StorageFailed."""
        with self._database.reading() as connection:
            return last_of(connection, log)

    def head_at(self, log: str, seq: int) -> Head:
        """As `EventLog.head_at`; raises StorageFailed too."""
        with self._database.reading() as connection:
            return head_at(connection, log, seq, self._database.path)

    def append(self, records: Sequence[Record]) -> None:
        """As `EventLog.append`."""
        ends = next_positions(records, self._end)
        self._store(records)
        self._ends |= ends

    def write(self, writes: Sequence[Write], promises: Mapping[str, str] = NO_PROMISES) -> None:
        """As `EventLog.write`."""
        ends = positions_after(writes, self._end)
        cuts = [(write.log, write.start) for write in writes if write.start <= self._end(write.log)]
        self._store([record for write in writes for record in write.records], cuts, promises)
        self._ends |= ends

    def note_committed(self, positions: Mapping[str, int]) -> None:
        """As `EventLog.note_committed`."""
        rows = [(log, seq, self.head_at(log, seq).hash) for log, seq in positions.items()]
        with self._database.writing() as connection:
            connection.executemany(_NOTE, rows)

    def committed(self, log: str) -> int:
        """As `EventLog.committed`; raises StorageFailed."""
        with self._database.reading() as connection:
            row = connection.execute(_PROGRESS, {"log": log}).first()
            return int(row.seq) if row else 0

    def tail(self, log: str, after: int) -> Iterator[Record]:
        """As `EventLog.tail`."""
        last = self.head_at(log, after)
        while page := self._page(log, last, PAGE_RECORDS, PAGE_BYTES):
            yield from verified(page, last, log, str(self._database.path))
            last = Head(page[-1].seq, page[-1].epoch, page[-1].hash)

    def records(self, log: str, after: int, limit_records: int, limit_bytes: int) -> list[Record]:
        """As `EventLog.records`."""
        last = self.head_at(log, after)
        return list(verified(self._page(log, last, limit_records, limit_bytes), last, log, str(self._database.path)))

    def stream(self, stream: str, until: int | None = None, after: int = 0, limit: int | None = None) -> list[Record]:
        """As `EventLog.stream`; raises DatabaseDamaged, StorageFailed."""
        until, limit = _END_OF_TIME if until is None else until, _ALL if limit is None else limit
        with self._database.reading() as connection:
            rows = connection.execute(_STREAM, {"stream": stream, "until": until, "after": after, "limit": limit}).all()
        return self._each_checked(rows)

    def of_types(self, log: str, types: Sequence[str]) -> list[Record]:
        """As `EventLog.of_types`; raises DatabaseDamaged, StorageFailed."""
        with self._database.reading() as connection:
            return self._each_checked(rows_of_types(connection, log, types, self._database.path))

    def newest(self, log: str, types: Sequence[str], before: int | None, limit: int) -> list[tuple[int, str]]:
        """As `EventLog.newest`; raises DatabaseDamaged, StorageFailed."""
        if not types:
            return []
        walks = " UNION ALL ".join([_NEWEST] * len(types))  # one statement: no event slips in between two walks
        values = [value for name in types for value in (log, name, _END_OF_TIME if before is None else before, limit)]
        with self._database.reading() as connection:
            rows = connection.exec_driver_sql(f"{walks} ORDER BY seq DESC LIMIT ?", (*values, limit))
            return [(seq, stream) for seq, stream in rows]

    def last(self, log: str, streams: Sequence[str]) -> dict[str, int]:
        """As `EventLog.last`; raises DatabaseDamaged, StorageFailed."""
        with self._database.reading() as connection:
            return {row.stream: row.seq for row in connection.execute(_ENDS, {"log": log, "streams": list(streams)})}

    def save_snapshot(self, log: str, at: Head, parts: Iterable[str]) -> None:
        """As `EventLog.save_snapshot`."""
        self._snapshots.save(log, at, parts)

    def snapshot(self, log: str) -> tuple[Head, Iterator[str]] | None:
        """As `EventLog.snapshot`; raises StorageFailed."""
        return self._snapshots.newest(log)

    def close(self) -> None:
        """As `EventLog.close`; moves everything into the one file."""
        self._database.close()

    def _end(self, log: str) -> int:
        try:
            return self._ends[log] if log in self._ends else self.head(log).seq
        except DatabaseDamaged as error:
            raise StorageFailed(f"{error}; nothing was written") from error

    def _store(self, records: Sequence[Record], cuts: Sequence[tuple[str, int]] = (), promises: Mapping[str, str] = NO_PROMISES) -> None:
        """Remove logs from the positions in `cuts` on, then add records and promises, all or nothing."""
        batches = [records[start : start + ROWS_PER_STATEMENT] for start in range(0, len(records), ROWS_PER_STATEMENT)]
        several = bool(len(batches) > 1 or cuts or promises)
        with self._database.writing() as connection:
            if several:
                connection.execute("BEGIN IMMEDIATE")
            for cut in cuts:
                for statement in _CUTS:
                    connection.execute(statement, cut)
            for batch in batches:
                connection.execute(_insert(len(batch)), list(chain.from_iterable(map(_values, batch))))
            if promises:
                keep(promises, connection, self._database.path)
            if several:
                connection.execute("COMMIT")

    def _page(self, log: str, last: Head, limit_records: int, limit_bytes: int) -> list[Record]:
        with self._database.reading() as connection:
            return page_behind(connection, log, last, limit_records, limit_bytes, self._database.path)

    def _each_checked(self, rows: Iterable[Sequence[Any]]) -> list[Record]:
        """The records in rows whose last column is the hash of the record before."""
        return [checked(Record(*row[:-1]), row[-1] or EMPTY.hash, str(self._database.path)) for row in rows]


def _insert(rows: int) -> str:
    """The statement that inserts this many records."""
    return f"{_INSERT} VALUES {', '.join([_ROW] * rows)}"

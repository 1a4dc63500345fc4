"""Reads a log in an SQLite database piece by piece, or what is rare in it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, bindparam, select

from skyclaw.errors import DatabaseDamaged
from skyclaw.records import Record
from skyclaw.store.event_log import CURE, EMPTY, Head, damaged, replaced, size_of
from skyclaw.store.tables import EVENT

ROWS_AT_ONCE = 20

_E = EVENT.c
_HEAD = select(_E.seq, _E.epoch, _E.hash).where(_E.log == bindparam("log"))
_LAST = _HEAD.order_by(_E.seq.desc()).limit(1)
_AT = _HEAD.where(_E.seq == bindparam("seq"))
_PAGE = select(EVENT).where(_E.log == bindparam("log"), _E.seq > bindparam("after")).order_by(_E.seq).limit(bindparam("rows"))
_OF_TYPES = (
    f"SELECT {', '.join(f'e.{column.name}' for column in EVENT.c)}, before.hash"  # noqa: S608 - our own columns
    " FROM event e INDEXED BY event_by_type LEFT JOIN event before ON before.log = e.log AND before.seq = e.seq - 1"
    " WHERE e.log = ? AND e.type IN ({types}) ORDER BY e.seq"
)
# Each entry's log is compared when it is counted; for the condition, SQLite looks only where the walk begins and ends.
_TYPES = "SELECT type, sum(log = :log), sum(seq), max(seq) FROM event INDEXED BY event_by_type WHERE log = :log GROUP BY type"
_TYPE_AT = "SELECT type FROM event NOT INDEXED WHERE log = ? AND seq = ?"
# From log to log by the index: SQLite's own DISTINCT would go through all events. UNION ends it even where the index is out of order.
LOGS = (
    "WITH RECURSIVE tag(log) AS (SELECT min(log) FROM event UNION SELECT (SELECT min(log) FROM event WHERE log > tag.log) FROM tag"
    " WHERE log IS NOT NULL) SELECT log FROM tag WHERE log IS NOT NULL"
)


def last_of(connection: Connection, log: str) -> Head:
    """As `EventLog.head`."""
    row = connection.execute(_LAST, {"log": log}).first()
    return Head(*row) if row else EMPTY


def head_at(connection: Connection, log: str, seq: int, path: Path) -> Head:
    """As `EventLog.head_at`."""
    found = _found_at(connection, log, seq)
    if found is None:
        raise damaged(log, seq, str(path), "is missing")
    return found


def page_behind(connection: Connection, log: str, last: Head, limit_records: int, limit_bytes: int, path: Path) -> list[Record]:
    """The records that follow `last`, not verified; limits as in `EventLog.records`.

    Raises StorageFailed when another record has taken the place of `last`, DatabaseDamaged when the log goes on and its rows do not.
    """
    connection.exec_driver_sql("BEGIN")  # what is read here is of one moment
    if _found_at(connection, log, last.seq) != last:
        raise replaced(log, last.seq, str(path))
    page = _rows_behind(connection, log, last.seq, limit_records, limit_bytes)
    if not page and last_of(connection, log).seq != last.seq:  # from the other side: a walk ends before it meets a damaged row
        raise damaged(log, last.seq + 1, str(path), "is missing")
    return page


def rows_of_types(connection: Connection, log: str, types: Sequence[str], path: Path) -> Sequence[Any]:
    """The rows of these types in order, each with the hash of the record before; raises DatabaseDamaged when one might be missing."""
    connection.exec_driver_sql("BEGIN")
    if not _index_is_whole(connection, log):
        raise DatabaseDamaged(f"database is damaged: {path} has an index of types that does not fit log {log}; {CURE}", {"log": log})
    return connection.exec_driver_sql(_OF_TYPES.format(types=", ".join("?" * len(types))), (log, *types)).all()


def _index_is_whole(connection: Connection, log: str) -> bool:
    """Whether the index by type has each position of the log once, and no type that the log does not have.

    It is read from end to end, unlike the events themselves: a record that it misses is missed by nobody else.
    """
    end, found = last_of(connection, log).seq, connection.exec_driver_sql(_TYPES, {"log": log}).all()
    if (sum(count for _, count, _, _ in found), sum(total for _, _, total, _ in found)) != (end, end * (end + 1) // 2):
        return False
    return all(connection.exec_driver_sql(_TYPE_AT, (log, seq)).scalar() == name for name, _, _, seq in found)


def _found_at(connection: Connection, log: str, seq: int) -> Head | None:
    if seq == 0:
        return EMPTY
    row = connection.execute(_AT, {"log": log, "seq": seq}).first()
    return Head(*row) if row else None


def _rows_behind(connection: Connection, log: str, after: int, limit_records: int, limit_bytes: int) -> list[Record]:
    page: list[Record] = []
    size = 0
    with connection.execute(_PAGE, {"log": log, "after": after, "rows": limit_records}) as rows:
        for row in rows.yield_per(ROWS_AT_ONCE):
            size += size_of(row.data)
            if page and size > limit_bytes:
                break
            page.append(Record(*row))
    return page

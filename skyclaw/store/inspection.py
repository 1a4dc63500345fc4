"""Looks at an existing database before anything may write to it, and refuses what is not ours, too new or damaged.

The first 100 bytes of an SQLite file say whose it is; a file of another program is never opened by SQLite, which might tidy up its
journal. The rest is read without writing. Whole pages of old events are not read here: the hash chain judges them when they are used.
"""

import functools
import hashlib
import sqlite3
import struct
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import create_engine

from skyclaw.errors import DatabaseDamaged, DatabaseForeign, DatabaseNewer, DatabaseUnusable
from skyclaw.store.event_log import CURE
from skyclaw.store.failures import SqliteFailure, driver_error, tells_damage
from skyclaw.store.promises import PROMISES, sound_promises
from skyclaw.store.tables import METADATA

APPLICATION_ID = 0x536B7963  # "Skyc"
SCHEMA_VERSION = 1
_MAGIC = b"SQLite format 3\0"
_HEADER = 100  # bytes


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this replica is, and the log it founded."""

    node: str
    log: str

    @property
    def checksum(self) -> bytes:
        """Guards the row: it is read before any event could contradict it."""
        return hashlib.sha256(f"{self.node}\n{self.log}".encode()).digest()


def check_header(path: Path) -> None:
    """Refuse a file by its first bytes; raises DatabaseDamaged, DatabaseForeign, DatabaseNewer, DatabaseUnusable."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
    except OSError as error:
        raise DatabaseUnusable(f"{path} cannot be read ({error.strerror}): make it readable, or name another file") from error
    if len(header) < _HEADER or not header.startswith(_MAGIC):
        raise _damaged(path, "is not an SQLite file, or is truncated")
    user_version, application_id = (struct.unpack_from(">I", header, offset)[0] for offset in (60, 68))
    if application_id != APPLICATION_ID:
        raise DatabaseForeign(f"{path} is a database of another program: name another file")
    _check_version(path, user_version)


def inspect(path: Path) -> Identity:
    """The identity in a database whose header is right; raises DatabaseDamaged, DatabaseNewer, DatabaseUnusable."""
    try:
        with closing(sqlite3.connect(reading_uri(path), uri=True)) as connection:
            return _inspected(path, connection)
    except SqliteFailure as error:
        raise refusal(error, path) from error


def refusal(error: Exception, path: Path) -> DatabaseUnusable:
    """The error to raise when SQLite could not open or read a database at start."""
    cause = driver_error(error)
    if tells_damage(error):
        return _damaged(path, f"cannot be read ({cause})")
    return DatabaseUnusable(f"{path} cannot be opened ({cause}): see that its directory is accessible and has room, or name another file")


def reading_uri(path: Path) -> str:
    """An SQLite address that reads without writing: of the file alone when there is no write-ahead log beside it, else of both."""
    return f"file:{quote(str(path))}?" + ("mode=ro" if has_write_ahead_log(path) else "immutable=1")


def has_write_ahead_log(path: Path) -> bool:
    """Whether there is content beside the file that a process which died did not move into it."""
    beside = path.with_name(path.name + "-wal")
    return beside.exists() and beside.stat().st_size > 0


def _inspected(path: Path, connection: sqlite3.Connection) -> Identity:
    _check_version(path, connection.execute("PRAGMA user_version").fetchone()[0])  # as the write-ahead log has it
    if not _shape(connection) >= _expected_shape():
        raise _damaged(path, "does not have the tables it should have")
    for log, seq in _ends(path, connection).items():
        if connection.execute("SELECT max(seq) FROM event NOT INDEXED WHERE log = ?", [log]).fetchone() != (seq,):
            raise _damaged(path, f"does not have the end of log {log}")
    rows = connection.execute("SELECT CAST(node AS TEXT), CAST(log AS TEXT), checksum FROM identity").fetchall()
    identity = Identity(*rows[0][:2]) if len(rows) == 1 else None
    if identity is None or identity.checksum != rows[0][2]:
        raise _damaged(path, "does not say whose it is")
    sound_promises(connection.execute(PROMISES).fetchall(), path)
    return identity


def _check_version(path: Path, version: int) -> None:
    if version > SCHEMA_VERSION:
        raise DatabaseNewer(f"{path} was written by a newer Skyclaw (schema {version}, here {SCHEMA_VERSION}): upgrade this one")
    if version < SCHEMA_VERSION:
        raise _damaged(path, f"has no schema {version}")


def _shape(connection: sqlite3.Connection) -> set[tuple[object, ...]]:
    """Columns and indexes as SQLite understands them."""
    columns = "SELECT m.name, t.* FROM sqlite_schema m, pragma_table_xinfo(m.name) t WHERE m.type = 'table'"
    indexes = "SELECT m.name, m.tbl_name, x.seqno, x.name FROM sqlite_schema m, pragma_index_xinfo(m.name) x WHERE m.type = 'index'"
    return {*connection.execute(columns), *connection.execute(indexes)}


@functools.cache
def _expected_shape() -> set[tuple[object, ...]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        METADATA.create_all(create_engine("sqlite://", creator=lambda: connection))
        return _shape(connection)


def _ends(path: Path, connection: sqlite3.Connection) -> dict[str, int]:
    """Each log with its last position as the index by type has it: a second witness, since nothing follows the last event of a chain."""
    by_type = "FROM event INDEXED BY event_by_type WHERE"
    step = f"SELECT CAST(log AS TEXT), CAST(type AS TEXT) {by_type} (log, type) > (?, ?) ORDER BY log, type LIMIT 1"
    last = f"SELECT CAST(max(seq) AS INTEGER) {by_type} log = ? AND type = ?"
    ends: dict[str, int] = {}
    before, found = ("", ""), connection.execute(step, ("", "")).fetchone()
    while found:
        if found <= before:
            raise _damaged(path, "has an index out of order")
        ends[found[0]] = max(ends.get(found[0], 0), connection.execute(last, found).fetchone()[0] or 0)
        before, found = found, connection.execute(step, found).fetchone()
    return ends


def _damaged(path: Path, fault: str) -> DatabaseDamaged:
    return DatabaseDamaged(f"database is damaged: {path} {fault}; {CURE}")

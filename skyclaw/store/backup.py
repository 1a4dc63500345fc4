"""Copies of a database to be carried away, and how one of them is put in place again.

1. A copy is of one moment, also while a coordinator writes: it is read within one transaction, which holds up nobody.
2. A copy counts only when its pages, its identity, its promises and the chain of every log are sound.
3. What comes back is never the replica that was copied. That one may have promised and acknowledged things since of which the copy knows
   nothing; who came back under its name would break these promises. So the database gets another node id, which nobody has heard of.
4. Its logs are then copies of logs that others own and go on with; it founds a log of its own. Only when there are no others (`alone`) does
   the new node take the logs over, in a higher generation: whoever else turns up with one of them later has to follow.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from skyclaw.cluster.configuration import as_event, founding
from skyclaw.cluster.membership import label_of
from skyclaw.codec import CODEC
from skyclaw.errors import DatabaseDamaged, DatabaseLocked, DatabaseUnusable
from skyclaw.events import OwnershipTaken, stream_of
from skyclaw.ids import new_log_tag, new_node_id
from skyclaw.records import Epoch, Record, sealed
from skyclaw.store.drafts import BESIDE, drafted, write_through
from skyclaw.store.event_log import EMPTY, Head, Write, verified
from skyclaw.store.failures import SqliteFailure, tells_damage, writable
from skyclaw.store.founding import placed
from skyclaw.store.inspection import Identity, check_header, has_write_ahead_log, inspect, reading_uri, refusal
from skyclaw.store.locking import take_lock
from skyclaw.store.pages import LOGS
from skyclaw.store.sqlite import open_sqlite
from skyclaw.store.tables import EVENT

PAGES_AT_ONCE = 1_000  # copied before somebody else may have the disk, or the user may end it
REASON = "forced by the restore of a backup"
_EVENTS = f"SELECT {', '.join(column.name for column in EVENT.c)} FROM event WHERE log = ? ORDER BY seq"  # noqa: S608 - our own columns


class BackupThere(DatabaseUnusable):
    """There is a file already; nothing was changed."""

    code = "file_there"


@dataclass(frozen=True, slots=True)
class LogCopy:
    """How far a log goes in a copy; `at` is when its last event was written (ms)."""

    log: str
    epoch: str
    end: int
    at: int


@dataclass(frozen=True, slots=True)
class Contents:
    """Whose copy it is, the log that was founded with it, and all logs in it."""

    node: str
    log: str
    logs: tuple[LogCopy, ...]


@dataclass(frozen=True, slots=True)
class Returned:
    """A database that was put in place: what it holds, who it is now, and where the one before it is kept, if there was one."""

    contents: Contents
    node: str
    log: str
    kept: Path | None


def back_up(database: Path, target: Path, *, replace: bool = False) -> Contents:
    """Write a verified copy of a database, which may be in use, to `target`.

    Raises BackupThere unless an existing file is to be replaced, DatabaseDamaged when the database is, DatabaseUnusable when it cannot be
    copied.
    """
    database, target = Path(os.path.realpath(database)), Path(os.path.realpath(target))
    if not database.exists():
        raise DatabaseUnusable(f"{database} is not there: SKYCLAW_DB_PATH names the database of a coordinator")
    if target in (database, *(database.with_name(database.name + end) for end in (*BESIDE, ".lock"))):
        raise BackupThere(f"{target} belongs to the database itself: name another file")
    if target.is_dir():
        raise DatabaseUnusable(f"{target} is a directory: name a file in it")
    if target.exists() and not replace:
        raise BackupThere(f"{target} is there already: name another file, or add --replace")
    check_header(database)
    try:
        with _address(database) as address, drafted(target, ".part") as draft:
            _copy(address, database, draft)
            contents = verify(draft)
    except OSError as error:
        raise DatabaseUnusable(f"{target} cannot be written ({error.strerror}): name a file in a folder that you may use") from error
    return contents


def verify(path: Path) -> Contents:
    """Read a whole copy, which nobody else has open; raises DatabaseDamaged, or another DatabaseUnusable."""
    check_header(path)
    identity = inspect(path)
    try:
        with closing(sqlite3.connect(reading_uri(path), uri=True)) as connection:
            fault = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if fault != "ok":
                raise DatabaseDamaged(f"database is damaged: {path}: {fault}")
            tags = [tag for (tag,) in connection.execute(LOGS)]
            logs = tuple(_read_log(connection, tag, path) for tag in tags)
    except SqliteFailure as error:
        raise refusal(error, path) from error
    return Contents(identity.node, identity.log, logs)


def restore(backup: Path, database: Path, label: str | None = None, *, alone: bool = False, replace: bool = False) -> Returned:
    """Put a verified copy in the place of a database that nobody uses, as that of a new node called `label` (as before, when None).

    Raises BackupThere unless an existing database is to be replaced (it is kept), DatabaseLocked while somebody uses it, DatabaseDamaged
    when the copy is, or another DatabaseUnusable.
    """
    backup = Path(os.path.realpath(backup))
    contents = verify(backup)
    database = placed(database)
    if backup == database:
        raise BackupThere(f"{backup} is the database itself: name the file of a backup")
    lock = take_lock(database, read_only=False)
    assert lock is not None
    try:
        if _is_there(database) and not replace:
            raise BackupThere(f"there is a database at {database}: SKYCLAW_DB_PATH names another, or --replace puts it aside")
        identity = Identity(new_node_id(label or label_of(contents.node) or "node"), contents.log if alone else new_log_tag())
        with drafted(database, ".restoring") as draft:
            _copy(reading_uri(backup), backup, draft)
            _become(draft, identity)
            if alone:
                _take_over(draft)
            verify(draft)
            write_through(draft)
            kept = _put_aside(database) if _is_there(database) else None
    except OSError as error:
        raise DatabaseUnusable(f"{database} cannot be written ({error.strerror}): make room for it, or name another file") from error
    finally:
        lock.release()
    return Returned(contents, identity.node, identity.log, kept)


@contextmanager
def _address(database: Path) -> Iterator[str]:
    """From where to read a database; one that nobody uses stays unused meanwhile, or a start could move what is being read."""
    try:
        lock = take_lock(database, read_only=not writable(database.parent))
    except DatabaseLocked:
        yield f"{database.as_uri()}?mode=ro"
        return
    try:
        yield reading_uri(database)
    finally:
        if lock is not None:
            lock.release()


def _copy(address: str, source: Path, draft: Path) -> None:
    """Copy what the database is at this moment; raises DatabaseDamaged, DatabaseUnusable."""
    try:
        with closing(sqlite3.connect(address, uri=True, isolation_level=None)) as reader, closing(sqlite3.connect(draft)) as writer:
            writer.execute("PRAGMA synchronous=OFF")  # it is written through at the end
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM identity").fetchone()  # the moment
            reader.backup(writer, pages=PAGES_AT_ONCE, progress=lambda *_: None, sleep=0)  # between two steps the user may end it
    except SqliteFailure as error:
        if tells_damage(error):
            raise refusal(error, source) from error
        raise DatabaseUnusable(
            f"{source} could not be copied to {draft.parent} ({error}): make room there, or name another file"
        ) from error


def _read_log(connection: sqlite3.Connection, log: str, path: Path) -> LogCopy:
    end = EMPTY
    at = 0
    for record in verified((Record(*row) for row in connection.execute(_EVENTS, [log])), EMPTY, log, str(path)):
        end, at = Head(record.seq, record.epoch, record.hash), record.at
    return LogCopy(log, end.epoch, end.seq, at)


def _become(draft: Path, identity: Identity) -> None:
    with closing(sqlite3.connect(draft)) as connection:
        connection.execute("UPDATE identity SET node = ?, log = ?, checksum = ?", [identity.node, identity.log, identity.checksum])
        connection.commit()


def _take_over(draft: Path) -> None:
    """Own every log as its only voter, as a forced takeover does."""
    store = open_sqlite(draft, "")
    try:
        promised = store.promises()
        writes, promises = [], {}
        for log in store.logs():
            head = store.head(log)
            generation = max(Epoch.parse(text).generation for text in (head.epoch, promised.get(log)) if text) + 1
            epoch = str(Epoch(generation, 1, store.node))
            records: list[Record] = []
            last = head.hash
            for seq, event in enumerate((as_event(founding(store.node)), OwnershipTaken(store.node, REASON)), head.seq + 1):
                name, version, data = CODEC.encode(event)
                at = time.time_ns() // 1_000_000
                records.append(sealed(last, Record(log, seq, epoch, stream_of(event), name, version, at, data)))
                last = records[-1].hash
            writes.append(Write(log, head.seq + 1, records))
            promises[log] = epoch
        store.write(writes, promises)
    finally:
        store.close()


def _is_there(database: Path) -> bool:
    return (database.exists() and database.stat().st_size > 0) or has_write_ahead_log(database)


def _put_aside(database: Path) -> Path:
    """Rename a database, with what belongs to it. Wherever this is cut short, what is left is refused at a start, or founds a new node."""
    number, kept = 1, database.with_name(f"{database.name}.replaced-1")
    while kept.exists() or has_write_ahead_log(kept):
        number += 1
        kept = database.with_name(f"{database.name}.replaced-{number}")
    for end in ("", "-wal"):
        if (part := database.with_name(database.name + end)).exists():
            part.rename(kept.with_name(kept.name + end))
    database.with_name(database.name + "-shm").unlink(missing_ok=True)
    return kept

"""Opens an SQLite database for the event store, prepares every connection, and closes it.

Readers take connections from a pool; each of their statements is a short transaction of its own, so nobody keeps the write-ahead log from
being moved into the file. All writing goes through one connection, by turns.
"""

import logging
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import ClauseElement

from skyclaw.errors import DatabaseUnusable, StorageFailed, StorageReadOnly
from skyclaw.store.failures import SqliteFailure, read_failure, writable, write_failure
from skyclaw.store.founding import found, placed
from skyclaw.store.inspection import Identity, check_header, has_write_ahead_log, inspect, reading_uri, refusal
from skyclaw.store.locking import take_lock

_log = logging.getLogger(__name__)

BUSY_MS = 5_000
WAL_PAGES = 16_000  # 64 MiB: the index by stream is written all over, so it pays to move its pages seldom
WAL_BYTES = 64 * 1024 * 1024  # what is left of the write-ahead log's file after a burst
IDLE_READERS = 16


class Database:
    """An open database: many readers, one writer at a time."""

    def __init__(
        self, path: Path, identity: Identity, read_only: bool, engine: Engine, writer: sqlite3.Connection, held: ExitStack
    ) -> None:
        self.path, self.identity, self.read_only = path, identity, read_only
        self._engine, self._writer, self._held = engine, writer, held
        self._turn, self._closed = threading.Lock(), False

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for reading; raises DatabaseDamaged, StorageFailed."""
        if self._closed:
            raise StorageFailed(f"{self.path} is closed")
        try:
            with self._engine.connect() as connection:
                yield connection
        except SqliteFailure as error:
            raise read_failure(error, self.path) from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection that writes, for this thread alone; each statement is a transaction unless one is begun.

        What is not committed at the end is rolled back. Raises StorageReadOnly, StorageFull, StorageFailed.
        """
        if self.read_only:
            raise StorageReadOnly(f"{self.path} was opened read-only; nothing was written")
        with self._turn:
            if self._closed:
                raise StorageFailed(f"{self.path} is closed; nothing was written")
            try:
                try:
                    yield self._writer
                finally:
                    if self._writer.in_transaction:
                        self._writer.rollback()
            except SqliteFailure as error:
                raise write_failure(error, self.path) from error

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file while others read and write; raises as `writing`."""
        if self._closed:
            raise StorageFailed(f"{self.path} is closed")
        try:
            with self._engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")
        except SqliteFailure as error:
            raise write_failure(error, self.path) from error

    def close(self) -> None:
        """Move the write-ahead log into the file and release the lock; calling it again does nothing."""
        with self._turn:
            if not self._closed:
                self._closed = True
                self._held.close()
                _log.info("database_closed path=%s", self.path)


def open_database(path: Path, label: str) -> Database:
    """Open the database at `path`, or found it for a replica called `label`; read-only where nothing can be written.

    Raises DatabaseUnusable or one of its kinds: DatabaseDamaged, DatabaseForeign, DatabaseNewer, DatabaseLocked.
    """
    path = placed(path)
    with ExitStack() as held:
        read_only = path.exists() and not (writable(path.parent) and writable(path))
        if lock := take_lock(path, read_only):
            held.callback(lock.release)
        if not path.exists() or not path.stat().st_size:
            found(path, label)
        check_header(path)
        source = held.enter_context(_with_readable_log(path)) if read_only else path
        identity = inspect(source)
        engine = _engine(source, read_only)
        held.callback(engine.dispose)
        writer = held.enter_context(_writer(engine, path, read_only))
        database = Database(path, identity, read_only, engine, writer, held.pop_all())
    level = logging.WARNING if read_only else logging.INFO
    _log.log(level, "database_opened path=%s node=%s log=%s read_only=%s", path, identity.node, identity.log, read_only)
    return database


def _engine(path: Path, read_only: bool) -> Engine:
    address = reading_uri(path) if read_only else f"file:{quote(str(path))}?mode=rw"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False, cached_statements=256)

    def prepare(connection: sqlite3.Connection, _pool_entry: object) -> None:
        for pragma in _pragmas(read_only):
            connection.execute(f"PRAGMA {pragma}")

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=IDLE_READERS, max_overflow=-1)
    event.listen(engine, "connect", prepare)
    return engine


def _pragmas(read_only: bool) -> list[str]:
    """What every connection is told first; SQLite may have been built with other defaults."""
    always = [f"busy_timeout={BUSY_MS}", "foreign_keys=ON", "trusted_schema=OFF", "cell_size_check=ON", "temp_store=MEMORY"]
    if read_only:
        return [*always, "query_only=ON"]
    return [*always, "journal_mode=WAL", "synchronous=FULL", f"wal_autocheckpoint={WAL_PAGES}", f"journal_size_limit={WAL_BYTES}"]


@contextmanager
def _writer(engine: Engine, path: Path, read_only: bool) -> Iterator[sqlite3.Connection]:
    """A connection that stays out of the pool; raises as `open_database`."""
    try:
        pooled = engine.raw_connection()
    except SqliteFailure as error:
        raise refusal(error, path) from error
    with closing(pooled):
        connection = cast(sqlite3.Connection, pooled.driver_connection)
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        if mode != "wal" and not read_only:
            raise DatabaseUnusable(f"{path} is on a file system without shared memory (journal mode {mode}): name a file on a local disk")
        yield connection


@contextmanager
def _with_readable_log(path: Path) -> Iterator[Path]:
    """The database, or a private copy when there is content beside it that SQLite cannot read for want of an index it may not make."""
    if writable(path.parent) or not has_write_ahead_log(path) or path.with_name(path.name + "-shm").exists():
        yield path
        return
    with TemporaryDirectory(prefix="skyclaw-") as directory:
        copy = Path(directory, path.name)
        for end in ("", "-wal"):
            shutil.copyfile(path.with_name(path.name + end), copy.with_name(copy.name + end))
        _log.warning("database_copied path=%s copy=%s", path, copy)
        yield copy


def text_of(statement: ClauseElement) -> str:
    """The SQL of a statement for `Database.writing`, its values by name."""
    return str(statement.compile(dialect=sqlite.dialect(paramstyle="named")))

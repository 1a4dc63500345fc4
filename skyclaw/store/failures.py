"""What SQLite's errors mean to us."""

import os
import sqlite3
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from skyclaw.errors import DatabaseDamaged, SkyclawError, StorageFailed, StorageFull, StorageReadOnly, Unavailable
from skyclaw.store.event_log import CURE

# As the driver raises it, or wrapped by SQLAlchemy; the driver also stumbles over messages that quote damaged text.
SqliteFailure = (sqlite3.Error, DBAPIError, UnicodeDecodeError)

_DAMAGE = {
    sqlite3.SQLITE_ERROR,  # the tables are not what they were when the database was opened
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_MISMATCH,
}
_UNREADABLE = {  # of the family IOERR, those that tell what is on the disk, not of locks, memory or space
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    sqlite3.SQLITE_IOERR_FSTAT,
    sqlite3.SQLITE_IOERR_CORRUPTFS,
    sqlite3.SQLITE_IOERR_DATA,
}
_NO_ROOM = {sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE}  # quotas and file size limits; ENOSPC is SQLITE_FULL


def driver_error(error: Exception) -> BaseException:
    """What the driver said, without SQLAlchemy's wrapping."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _code(error: BaseException) -> int | None:
    """SQLite's extended result code; None when the driver itself complains."""
    return getattr(error, "sqlite_errorcode", None)


def tells_damage(error: Exception) -> bool:
    """Whether an error met while reading says that the file's content is wrong."""
    cause = driver_error(error)
    code = _code(cause)
    if code is None:
        return isinstance(cause, sqlite3.OperationalError | UnicodeDecodeError)  # text that is not UTF-8
    return code & 0xFF in _DAMAGE or code in _UNREADABLE


def read_failure(error: Exception, path: Path) -> SkyclawError:
    """The error to raise when reading failed."""
    cause = driver_error(error)
    if tells_damage(error):
        return DatabaseDamaged(f"database is damaged: {path} cannot be read ({cause}); {CURE}")
    return StorageFailed(f"reading {path} failed ({cause})")


def write_failure(error: Exception, path: Path) -> Unavailable:
    """The error to raise when writing failed and was rolled back."""
    cause = driver_error(error)
    code = _code(cause) or 0
    if code & 0xFF == sqlite3.SQLITE_READONLY or (code in _NO_ROOM and not writable(path)):
        return StorageReadOnly(f"{path} is read-only; nothing was written")
    if code & 0xFF == sqlite3.SQLITE_FULL or code in _NO_ROOM:
        return StorageFull(f"the storage of {path} is full ({cause}); nothing was written")
    # A batch whose bytes were written but not confirmed by the disk comes back if the process dies before the next append.
    doubt = {"written": "unknown"} if code == sqlite3.SQLITE_IOERR_FSYNC else {}
    return StorageFailed(f"writing {path} failed ({cause}); nothing was acknowledged", doubt)


def writable(path: Path) -> bool:
    """Whether this process may write the file or directory; false on a read-only mount even for root."""
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)

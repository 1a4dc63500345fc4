"""Makes a new database, and the place for it.

A database appears whole or not at all: it is founded under another name, written through to the disk and then renamed, so a crash at any
moment leaves something that the next start accepts. Directories are made 0700 and files 0600, whatever the umask; SQLite gives the files
that it keeps beside a database the mode of the database.
"""

import logging
import os
import sqlite3
import stat
from contextlib import ExitStack
from errno import ENOTDIR
from pathlib import Path

from sqlalchemy import create_engine, insert

from skyclaw.errors import DatabaseDamaged, DatabaseUnusable
from skyclaw.ids import new_log_tag, new_node_id
from skyclaw.store.drafts import clear, write_through
from skyclaw.store.event_log import CURE, NO_PROMISES
from skyclaw.store.failures import SqliteFailure, driver_error
from skyclaw.store.inspection import APPLICATION_ID, SCHEMA_VERSION, Identity, has_write_ahead_log
from skyclaw.store.promises import checksum_of
from skyclaw.store.tables import IDENTITY, METADATA

_log = logging.getLogger(__name__)


def placed(path: Path) -> Path:
    """The file that `path` means, links followed as SQLite follows them, in a directory that exists; raises DatabaseUnusable."""
    path = Path(os.path.realpath(path))
    try:
        _make_directory(path.parent)
        mode = path.stat().st_mode if path.exists() else stat.S_IFREG
    except OSError as error:
        raise DatabaseUnusable(f"{path} cannot be used ({error.strerror}): name a file in a directory that you may use") from error
    if stat.S_ISDIR(mode):
        raise DatabaseUnusable(f"{path} is a directory: name a file in it instead")
    if not stat.S_ISREG(mode):
        raise DatabaseUnusable(f"{path} is not a regular file: name another file")
    return path


def found(path: Path, label: str) -> None:
    """Make the database of a new replica called `label`, and its log; an empty file counts as no file.

    Raises DatabaseUnusable, and DatabaseDamaged when events of a lost database lie beside it.
    """
    if has_write_ahead_log(path):
        raise DatabaseDamaged(f"database is damaged: {path} is empty or gone, but {path.name}-wal beside it is not; {CURE}")
    identity, was_empty = Identity(new_node_id(label), new_log_tag()), path.exists()
    draft = path.with_name(path.name + ".founding")
    try:
        with ExitStack() as cleared:
            clear(draft)
            cleared.callback(clear, draft)
            _make_file(draft)
            _fill(draft, identity)
            draft.replace(path)
            write_through(path.parent)
    except (OSError, *SqliteFailure) as error:
        raise DatabaseUnusable(f"{path} cannot be created ({_reason(error)}): make room for it, or name another file") from error
    _log.info("database_founded path=%s node=%s log=%s was_empty_file=%s", path, identity.node, identity.log, was_empty)


def _make_directory(path: Path) -> None:
    if path.is_dir():
        return
    _make_directory(path.parent)
    try:
        path.mkdir(0o700)
    except FileExistsError:
        if not path.is_dir():
            raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR)) from None
    else:  # otherwise another process was quicker, and sees to its mode
        path.chmod(0o700)


def _make_file(path: Path) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)
    os.close(descriptor)


def _fill(path: Path, identity: Identity) -> None:
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(path))
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            connection.exec_driver_sql("PRAGMA synchronous=OFF")  # nobody knows it yet; it is written through at the end
            METADATA.create_all(connection)
            promised = checksum_of(NO_PROMISES)
            values = {"node": identity.node, "log": identity.log, "checksum": identity.checksum, "promised": promised}
            connection.execute(insert(IDENTITY).values(values))
            connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
            connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")
            connection.commit()
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        engine.dispose()
    write_through(path)


def _reason(error: Exception) -> object:
    return error.strerror if isinstance(error, OSError) else driver_error(error)

"""Keeps the epochs that this replica promised: a vote that was forgotten could be cast twice.

A checksum of all promises stands in the row of the identity, of which there is always one: it misses a lost row as well as a changed one.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from skyclaw.errors import DatabaseDamaged, StorageFailed
from skyclaw.store.event_log import CURE

# One statement, so that checksum and promises are of one moment; the last column tells whether there is a promise in the row.
PROMISES = "SELECT i.promised, CAST(p.log AS TEXT), CAST(p.epoch AS TEXT), p.log IS NOT NULL FROM identity i LEFT JOIN promise p"
_KEEP = "INSERT INTO promise (log, epoch) VALUES (?, ?) ON CONFLICT (log) DO UPDATE SET epoch = excluded.epoch"


def checksum_of(promises: Mapping[str, str]) -> bytes:
    """Guards all promises together."""
    return hashlib.sha256(repr(sorted(promises.items())).encode()).digest()


def sound_promises(rows: Iterable[Any], path: Path) -> dict[str, str]:
    """The promises in what `PROMISES` found; raises DatabaseDamaged when they are not those that were stored."""
    found = [tuple(row) for row in rows]
    promises = {log: epoch for _, log, epoch, there in found if there}
    if {checksum for checksum, *_ in found} != {checksum_of(promises)}:
        raise DatabaseDamaged(f"database is damaged: {path} does not have the promises that it gave; {CURE}")
    return promises


def keep(promises: Mapping[str, str], connection: sqlite3.Connection, path: Path) -> None:
    """Add to or replace the stored promises, in the transaction that was begun; raises StorageFailed when those are damaged."""
    try:
        former = sound_promises(connection.execute(PROMISES), path)
    except DatabaseDamaged as error:
        raise StorageFailed(f"{error}; nothing was written") from error
    connection.executemany(_KEEP, promises.items())
    connection.execute("UPDATE identity SET promised = ?", [checksum_of({**former, **promises})])

"""Saves and loads snapshots in an SQLite database, a bounded piece at a time.

The parts of a snapshot are written one after the other, each ended by a record separator (which no JSON text contains, RFC 7464), and
that text is cut into rows. Each row is a transaction of its own and the header follows the last, so events are appended in between, and
what a crash leaves half-written is never used. A row's checksum covers the head and the rows before it, as in the chain of events.
"""

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sqlalchemy import BigInteger, cast, func, insert, select

from skyclaw.errors import DatabaseDamaged, StorageFailed
from skyclaw.store.database import Database, text_of
from skyclaw.store.event_log import EMPTY, Head
from skyclaw.store.tables import EVENT, SNAPSHOT, SNAPSHOT_PART

_log = logging.getLogger(__name__)

KEPT = 2
ROW_CHARACTERS = 256 * 1024
PAUSE = 0.001  # seconds after each write: without it, the appends beside are half as many
ROWS_AT_ONCE = 8
ROWS_PER_CHECKPOINT = 16
_END = "\x1e"

_PART, _HEADER = SNAPSHOT_PART.c, SNAPSHOT.c
_ADD_PART, _ADD_HEADER = text_of(insert(SNAPSHOT_PART)), text_of(insert(SNAPSHOT))
_DROP_HEADERS = (
    "DELETE FROM snapshot WHERE log = :log AND number NOT IN"
    " (SELECT number FROM snapshot WHERE log = :log ORDER BY number DESC LIMIT :kept)"
)
_DROP_PARTS = (  # those without a header
    "DELETE FROM snapshot_part WHERE rowid IN (SELECT rowid FROM snapshot_part WHERE log = :log AND number NOT IN"
    " (SELECT number FROM snapshot WHERE log = :log) LIMIT :rows)"
)


class _Header(NamedTuple):
    """A row of the table `snapshot`."""

    log: str
    number: int
    seq: int
    epoch: str
    hash: bytes
    checksum: bytes

    @property
    def head(self) -> Head:
        return Head(self.seq, self.epoch, self.hash)


class Snapshots:
    """The snapshots of all logs in one database."""

    def __init__(self, database: Database) -> None:
        self._database, self._saving = database, threading.Lock()

    def save(self, log: str, at: Head, parts: Iterable[str]) -> None:
        """As `EventLog.save_snapshot`."""
        with self._saving:
            self._forget(log)  # what a crash left half-written
            number = self._next_number(log)
            rows, checksum = 0, _seed(log, at)
            for rows, data in enumerate(_cut(parts), 1):
                checksum = _checksum(checksum, data)
                self._write(_ADD_PART, log=log, number=number, position=rows, data=data, checksum=checksum)
                if rows % ROWS_PER_CHECKPOINT == 0:
                    self._database.checkpoint()  # here, so that no append has to
            self._write(_ADD_HEADER, log=log, number=number, seq=at.seq, epoch=at.epoch, hash=at.hash, checksum=checksum)
            self._forget(log)
        _log.info("snapshot_saved log=%s seq=%d number=%d rows=%d", log, at.seq, number, rows)

    def newest(self, log: str) -> tuple[Head, Iterator[str]] | None:
        """As `EventLog.snapshot`: reads a snapshot once to judge it, and again to hand it out."""
        for header in self._headers(log):
            if not (fault := self._fault(header)):
                return header.head, _joined(self._usable_rows(header))
            _log.warning("snapshot_unusable log=%s seq=%s number=%s fault=%r", log, header.seq, header.number, fault)
        return None

    def _headers(self, log: str) -> list[_Header]:
        """Newest first; none when the table is damaged, since the events alone suffice."""
        try:
            with self._database.reading() as connection:
                found = connection.execute(select(SNAPSHOT).where(_HEADER.log == log).order_by(_HEADER.number.desc()))
                return [_Header(*row) for row in found]
        except DatabaseDamaged as error:
            _log.warning("snapshot_unusable log=%s fault=%r", log, str(error))
            return []

    def _next_number(self, log: str) -> int:
        newest = select(func.max(cast(_HEADER.number, BigInteger))).where(_HEADER.log == log)
        try:
            with self._database.reading() as connection:
                return (connection.execute(newest).scalar() or 0) + 1
        except DatabaseDamaged as error:
            raise StorageFailed(f"{error}; the snapshot was not saved") from error

    def _fault(self, header: _Header) -> str:
        """What is wrong with a snapshot; empty when nothing is."""
        try:
            if not self._in_log(header):
                return "its head is not in the log"
            deque(self._rows(header), maxlen=0)
        except DatabaseDamaged as error:
            return str(error)
        return ""

    def _in_log(self, header: _Header) -> bool:
        if header.seq == 0:
            return header.head == EMPTY
        with self._database.reading() as connection:
            place = select(EVENT.c.seq, EVENT.c.epoch, EVENT.c.hash).where(EVENT.c.log == header.log, EVENT.c.seq == header.seq)
            return [Head(*row) for row in connection.execute(place)] == [header.head]

    def _rows(self, header: _Header) -> Iterator[str]:
        """The texts of the rows, each verified; raises DatabaseDamaged at the first that is not as it was written."""
        position, checksum = 0, _seed(header.log, header.head)
        while page := self._page(header, position):
            for position, data, stored in page:
                checksum = _checksum(checksum, data)
                if checksum != stored:
                    raise DatabaseDamaged(f"row {position} of the snapshot was changed")
                yield data
        if checksum != header.checksum:
            raise DatabaseDamaged(f"the snapshot ends behind row {position}")

    def _page(self, header: _Header, after: int) -> list[tuple[int, str, bytes]]:
        page = select(_PART.position, _PART.data, _PART.checksum).order_by(_PART.position).limit(ROWS_AT_ONCE)
        with self._database.reading() as connection:
            found = connection.execute(page.where(_PART.log == header.log, _PART.number == header.number, _PART.position > after))
            return [(position, data, checksum) for position, data, checksum in found]

    def _usable_rows(self, header: _Header) -> Iterator[str]:
        try:
            yield from self._rows(header)
        except DatabaseDamaged as error:
            raise StorageFailed(f"the snapshot was replaced while it was read ({error}); ask for the newest one") from error

    def _forget(self, log: str) -> None:
        """Drop all but the newest snapshots, headers first, and the rows that have no header."""
        self._write(_DROP_HEADERS, log=log, kept=KEPT)
        while self._write(_DROP_PARTS, log=log, rows=ROWS_AT_ONCE):
            pass

    def _write(self, statement: str, **values: object) -> int:
        """Run a statement as a transaction of its own; says how many rows it changed."""
        with self._database.writing() as connection:
            rows = connection.execute(statement, values).rowcount
        time.sleep(PAUSE)
        return rows


def _seed(log: str, at: Head) -> bytes:
    return hashlib.sha256(repr((log, at.seq, at.epoch, at.hash)).encode()).digest()


def _checksum(previous: bytes, data: object) -> bytes:
    """Of a row that follows one with the checksum `previous`; damaged data can be of any type."""
    return hashlib.sha256(previous + str(data).encode()).digest()


def _cut(parts: Iterable[str]) -> Iterator[str]:
    """The parts, joined by their ends, in pieces of the size of a row."""
    held: list[str] = []
    size = 0
    for part in parts:
        if _END in part:
            raise ValueError("a part of a snapshot is not a JSON text: it contains a control character")
        held += (part, _END)
        size += len(part) + 1
        if size >= ROW_CHARACTERS:
            text = "".join(held)
            whole = size - size % ROW_CHARACTERS
            yield from (text[start : start + ROW_CHARACTERS] for start in range(0, whole, ROW_CHARACTERS))
            held, size = [text[whole:]], size - whole
    if size:
        yield "".join(held)


def _joined(pieces: Iterable[str]) -> Iterator[str]:
    """The parts again."""
    begun: list[str] = []
    for piece in pieces:
        first, *others = piece.split(_END)
        begun.append(first)
        for other in others:
            yield "".join(begun)
            begun = [other]

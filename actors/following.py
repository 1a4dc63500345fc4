"""How the queue's books follow what is in the store: committed records of logs that others own, and what an owner finds when it begins."""

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice

from skyclaw.codec import CODEC, Codec, UnsupportedEvent
from skyclaw.errors import DatabaseNewer
from skyclaw.events import Event
from skyclaw.records import Record
from skyclaw.scheduling.jobs import Stamp
from skyclaw.scheduling.queue import Queue
from skyclaw.scheduling.turn import Turn
from skyclaw.scheduling.turns import Turns
from skyclaw.store.event_log import EventLog
from skyclaw.store.rebuild import rebuild

logger = logging.getLogger(__name__)

CHUNK = 1000  # records that are learned at once


class Follower:
    """An event that this version does not know is never skipped: its log is stuck there, and all others go on."""

    def __init__(self, queue: Queue, store: EventLog, clock: Callable[[], int], codec: Codec = CODEC) -> None:
        self._queue, self._store, self._clock, self._codec = queue, store, clock, codec

    def follow(self, log: str, records: Sequence[Record]) -> Iterator[Turns]:
        """Take in committed records that may overlap what is known, or leave a gap before them, which is read from the store."""
        end = self._queue.books.book(log).state.end
        new = [record for record in records if record.seq > end]
        if new and new[0].seq > end + 1:
            return self._learn(log, chain(self._stored(log, end, new[0].seq - 1), new))
        return self._learn(log, iter(new))

    def catch_up(self, log: str, committed: int) -> Iterator[Turns]:
        """Take in what the store has up to a position, all of which is committed."""
        return self._learn(log, self._stored(log, self._queue.books.book(log).state.end, committed))

    def adopt(self, log: str, end: int) -> Turn | None:
        """Build on what stands in the store up to a position, committed or not; None when there is nothing new."""
        try:
            events = [self._event(record) for record in self._stored(log, self._queue.books.book(log).state.end, end)]
        except UnsupportedEvent as unknown:
            self._stop(log, unknown)
            return None
        return self._queue.adopt(log, events, self._clock()) if events else None

    def rebuild(self, log: str, committed: int) -> int:
        """Know the log as the store has it up to a position; returns the position of the snapshot that this began from."""
        self._queue.stuck.pop(log, None)
        try:
            state, snapshot_at = rebuild(self._store, log, committed, self._codec)
        except DatabaseNewer as unknown:
            self._stop(log, unknown)
            return 0
        self._queue.replace(log, state)
        return snapshot_at

    def _learn(self, log: str, records: Iterator[Record]) -> Iterator[Turns]:
        """Learn records as they come, so many at a time."""
        while log not in self._queue.stuck and (some := list(islice(records, CHUNK))):
            events: list[tuple[Event, Stamp]] = []
            try:
                events.extend(map(self._event, some))
            except UnsupportedEvent as unknown:
                self._stop(log, unknown)
            yield self._queue.learn(log, events, self._clock())

    def _event(self, record: Record) -> tuple[Event, Stamp]:
        return self._codec.decode(record.type, record.version, record.data), Stamp(record.seq, record.epoch, record.at)

    def _stored(self, log: str, after: int, until: int) -> Iterator[Record]:
        if log in self._queue.stuck or after >= until:
            return iter(())
        return islice(self._store.tail(log, after), until - after)

    def _stop(self, log: str, cause: Exception) -> None:
        self._queue.stuck[log] = f"log {log} cannot be followed: {cause}; upgrade skyclaw"
        logger.critical("log_stuck log=%s cause=%s", log, cause)

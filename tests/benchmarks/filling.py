"""Databases with a past, written through the store itself: much faster than through HTTP, and with every hash in its place.

Runs in a child process, which takes the memory with it that this needs.
"""

import time
from collections.abc import Iterator
from itertools import chain, islice, repeat
from pathlib import Path

from skyclaw import events as ev
from skyclaw.cluster.configuration import as_event, founding
from skyclaw.codec import CODEC
from skyclaw.events import Event, stream_of
from skyclaw.ids import new_job_id
from skyclaw.records import GENESIS_EPOCH, GENESIS_HASH, Epoch, Record, sealed
from skyclaw.scheduling.jobs import Stamp
from skyclaw.scheduling.snapshots import Picture
from skyclaw.scheduling.state import State
from skyclaw.store.event_log import Head
from skyclaw.store.sqlite import SqliteEventLog, open_sqlite
from tests.benchmarks.loads import CAPABILITY

AT_ONCE = 10_000  # events in a transaction
HOST = "host-of-the-past"
EVENTS_OF_FINISHED = 3


def fill(path: Path, live: int, finished: int, unsnapped: int) -> float:
    """A log of so many queued and finished jobs, mixed, its snapshot `unsnapped` events before its end; returns the seconds it took."""
    began = time.monotonic()
    log = open_sqlite(path, "bench")
    try:
        _write(log, live, finished, unsnapped)
    finally:
        log.close()
    return time.monotonic() - began


def _write(log: SqliteEventLog, live: int, finished: int, unsnapped: int) -> None:
    epoch = Epoch(GENESIS_EPOCH.generation, GENESIS_EPOCH.counter + 1, log.node)
    first: list[Event] = [
        as_event(founding(log.node)),
        ev.OwnershipTaken(log.node, "founded"),
        ev.HostRegistered(HOST, HOST, (CAPABILITY,), 1),
    ]
    snapped_at = len(first) + live + finished * EVENTS_OF_FINISHED - unsnapped
    head, state = Head(0, "", GENESIS_HASH), State()
    events = chain(first, _past(log.log, live, finished))
    while some := list(islice(events, AT_ONCE)):
        records: list[Record] = []
        for event in some:
            head, record = _seal(log.log, head, str(epoch if head.seq else GENESIS_EPOCH), event)
            records.append(record)
            if head.seq <= snapped_at:
                state.apply(event, Stamp(head.seq, head.epoch, record.at))
                snapped = head
        log.append(records)
    log.save_snapshot(log.log, snapped, Picture(state).parts())


def _seal(log: str, last: Head, epoch: str, event: Event) -> tuple[Head, Record]:
    name, version, data = CODEC.encode(event)
    record = sealed(last.hash, Record(log, last.seq + 1, epoch, stream_of(event), name, version, int(time.time() * 1000), data))
    return Head(record.seq, epoch, record.hash), record


def _past(log: str, live: int, finished: int) -> Iterator[Event]:
    """The events of all jobs, the live ones strewn evenly among the finished ones."""
    left = 0
    for number in range(1, live + 1):
        until = finished * number // live
        yield from chain.from_iterable(_finished(new_job_id(log)) for _ in repeat(None, until - left))
        left = until
        yield _enqueued(new_job_id(log))


def _enqueued(job_id: str) -> Event:
    return ev.JobEnqueued(job_id, "shell", '{"kind":"shell","command":"true"}', (CAPABILITY,))


def _finished(job_id: str) -> Iterator[Event]:
    yield _enqueued(job_id)
    yield ev.JobLeased(job_id, HOST, 60_000)
    yield ev.JobCompleted(job_id, HOST, 12, 0, "done\n", "")

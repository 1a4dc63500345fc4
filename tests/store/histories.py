"""Records as a coordinator would seal them."""

from collections.abc import Sequence

from skyclaw.records import Record, sealed
from skyclaw.store.event_log import EMPTY, EventLog, Head

TYPES = ("JobEnqueued", "JobLeased", "JobCompleted")
STREAMS = ("job_a", "job_b", "host_c", "job_d")


def grown(log: str, count: int, head: Head = EMPTY, data: str = '{"kind":"shell"}', streams: Sequence[str] = STREAMS) -> list[Record]:
    """The next records of a log that ends at `head`."""
    records: list[Record] = []
    last = head.hash
    for seq in range(head.seq + 1, head.seq + count + 1):
        stream, kind = streams[seq % len(streams)], TYPES[seq % len(TYPES)]
        records.append(sealed(last, Record(log, seq, "0.1.node#1", stream, kind, 1, 1_700_000_000_000 + seq, data)))
        last = records[-1].hash
    return records


def head_of(records: Sequence[Record]) -> Head:
    """Where a log with these records ends."""
    return Head(records[-1].seq, records[-1].epoch, records[-1].hash) if records else EMPTY


def fill(event_log: EventLog, count: int, data: str = '{"kind":"shell"}', at_once: int = 10) -> list[Record]:
    """Append so many records to the store's own log, in batches; returns them."""
    records = grown(event_log.log, count, event_log.head(event_log.log), data)
    for start in range(0, count, at_once):
        event_log.append(records[start : start + at_once])
    return records


def everything(event_log: EventLog) -> list[Record]:
    """The store's own log."""
    return list(event_log.tail(event_log.log, 0))

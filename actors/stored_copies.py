"""This node's copies of the logs as the store has them."""

import logging
from collections.abc import Iterable, Sequence

from skyclaw.cluster.replica import TURNING_POINTS, Restored, parse_epoch, restored
from skyclaw.cluster.replication import Orphans
from skyclaw.codec import CODEC, Codec
from skyclaw.events import PeerEvicted
from skyclaw.records import GENESIS_EPOCH, Record
from skyclaw.store.event_log import EventLog

logger = logging.getLogger(__name__)

PAGE = 500  # records at a time
PAGE_CHARACTERS = 4 * 1024 * 1024


class StoredPast:
    """The durable records, as the node reads them."""

    def __init__(self, store: EventLog) -> None:
        self._store = store

    def records(self, log: str, after: int, limit: int) -> Sequence[Record]:
        """As `Past.records`."""
        return self._store.records(log, after, limit, PAGE_CHARACTERS)

    def hash_at(self, log: str, seq: int) -> bytes:
        """As `Past.hash_at`."""
        return self._store.head_at(log, seq).hash


def durable_copy(store: EventLog, log: str, committed: int) -> Restored:
    """What the store has of a log, of which everything up to `committed` is known to be committed."""
    head, promised = store.head(log), store.promises().get(log)
    epoch = parse_epoch(promised) if promised else GENESIS_EPOCH
    return restored(log, epoch, head.seq, head.hash, store.of_types(log, TURNING_POINTS), min(committed, head.seq))


def evicted(records: Iterable[Record], codec: Codec = CODEC) -> frozenset[str]:
    """The nodes that these events turned out."""
    said = (codec.decode(record.type, record.version, record.data) for record in records)
    return frozenset(event.node for event in said if isinstance(event, PeerEvicted))


def stored_records(store: EventLog, log: str, after: int, until: int) -> list[Record]:
    """The records behind `after` up to `until`, as far as they were ever stored."""
    found: list[Record] = []
    while after < until and (page := store.records(log, after, PAGE, PAGE_CHARACTERS)):
        found += [record for record in page if record.seq <= until]
        after = page[-1].seq
    return found


def report_orphans(orphans: Orphans, records: Sequence[Record]) -> None:
    """Say what a forced takeover has cost, one line for each event: what was in it can be asked for again, with the same keys."""
    logger.critical("orphans log=%s first=%d last=%d", orphans.log, orphans.first, orphans.last)
    for record in records:
        logger.critical("orphan log=%s seq=%d stream=%s type=%s data=%s", record.log, record.seq, record.stream, record.type, record.data)

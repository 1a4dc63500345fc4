"""The state of a log after a restart: the newest snapshot and the events after it."""

import logging
from itertools import islice

from skyclaw.codec import CODEC, Codec, UnsupportedEvent
from skyclaw.errors import DatabaseNewer
from skyclaw.scheduling.jobs import Stamp
from skyclaw.scheduling.snapshots import SnapshotUnreadable, restore
from skyclaw.scheduling.state import State
from skyclaw.store.event_log import EventLog

logger = logging.getLogger(__name__)


def rebuild(store: EventLog, log: str | None = None, upto: int | None = None, codec: Codec = CODEC) -> tuple[State, int]:
    """Fold a log (the store's own, when None) up to position `upto` (its end, when None); also says from which snapshot's position.

    Nothing behind `upto` is read. Raises DatabaseDamaged, or DatabaseNewer for an event this version does not know.
    """
    log = store.log if log is None else log
    state = _from_snapshot(store, log, upto)
    begun = state.end
    for r in islice(store.tail(log, begun), None if upto is None else upto - begun):
        try:
            event = codec.decode(r.type, r.version, r.data)
        except UnsupportedEvent as unknown:
            raise DatabaseNewer(f"event {r.log}/{r.seq}: {unknown}; upgrade skyclaw") from unknown
        state.apply(event, Stamp(r.seq, r.epoch, r.at))
    live, hosts = len(state.jobs), len(state.hosts)
    level = logging.INFO if state.end else logging.DEBUG
    logger.log(level, "state_rebuilt log=%s snapshot=%d end=%d live_jobs=%d hosts=%d", log, begun, state.end, live, hosts)
    return state, begun


def _from_snapshot(store: EventLog, log: str, upto: int | None) -> State:
    snapshot = store.snapshot(log)
    if snapshot is None:
        return State()
    head, parts = snapshot
    if upto is not None and head.seq > upto:
        return State()
    try:
        return restore(parts, head.seq)
    except SnapshotUnreadable:
        logger.warning("snapshot_of_another_version end=%d", head.seq)
        return State()

"""Keeps the state of a log as a snapshot, in a thread of its own, so that commits go on meanwhile."""

import logging
import threading
from collections.abc import Iterator

from skyclaw.errors import Unavailable
from skyclaw.scheduling.snapshots import Picture
from skyclaw.store.event_log import EventLog, Head

logger = logging.getLogger(__name__)


class SnapshotSaver:
    """Saves one snapshot at a time; one that comes while another is being saved waits, unless a newer one takes its place."""

    def __init__(self, store: EventLog) -> None:
        self._store = store
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._noted: dict[str, tuple[Picture, Head]] = {}  # by log, not known to be committed yet

    def note(self, log: str, picture: Picture, head: Head) -> None:
        """Keep what a log said at `head` until it is committed."""
        self._noted[log] = picture, head

    def forget(self, log: str) -> None:
        """What was noted of a log may never be committed."""
        self._noted.pop(log, None)

    def committed(self, log: str, end: int) -> None:
        """The log is committed up to `end`: begin to save what was noted of it, if that is, and nothing else is being saved."""
        noted = self._noted.get(log)
        busy = self._thread is not None and self._thread.is_alive()
        if noted is not None and noted[1].seq <= end and not busy:
            del self._noted[log]
            self._thread = threading.Thread(target=self._save, args=(log, *noted), name="Snapshot", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Give up what is being saved."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _save(self, log: str, picture: Picture, head: Head) -> None:
        try:
            self._store.save_snapshot(log, head, self._until_stopped(picture.parts()))
        except Unavailable as failure:
            logger.warning("snapshot_failed log=%s end=%d cause=%s", log, head.seq, failure)

    def _until_stopped(self, parts: Iterator[str]) -> Iterator[str]:
        for part in parts:
            if self._stopping.is_set():
                raise Unavailable("the coordinator stops")
            yield part

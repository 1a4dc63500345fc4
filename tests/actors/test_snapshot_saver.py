"""What is noted is saved once it is committed, one at a time."""

import threading
from collections.abc import Iterable

from actors.snapshot_saver import SnapshotSaver
from skyclaw.scheduling.snapshots import Picture
from skyclaw.scheduling.state import State
from skyclaw.store.event_log import Head
from skyclaw.store.memory import MemoryEventLog
from tests.support.real_processes import wait_until

PATIENCE_S = 20.0


class SlowStore(MemoryEventLog):
    """Saves when it is told to."""

    def __init__(self) -> None:
        super().__init__("test")
        self.gate, self.saved = threading.Semaphore(0), list[int]()

    def save_snapshot(self, _log: str, at: Head, parts: Iterable[str]) -> None:
        assert self.gate.acquire(timeout=PATIENCE_S)
        list(parts)
        self.saved.append(at.seq)


def head(seq: int) -> Head:
    return Head(seq, "0.1.n", bytes(32))


def test_only_what_is_committed_is_saved() -> None:
    store = SlowStore()
    saver = SnapshotSaver(store)
    store.gate.release()
    saver.note("a", Picture(State()), head(5))
    saver.committed("a", 4)
    assert saver._thread is None
    saver.committed("a", 5)
    wait_until(lambda: store.saved == [5], "it is saved")
    saver.stop()


def test_what_comes_while_another_is_saved_waits_and_the_newest_is_saved() -> None:
    store = SlowStore()
    saver = SnapshotSaver(store)
    saver.note("a", Picture(State()), head(5))
    saver.committed("a", 5)
    for seq in (6, 7):
        saver.note("b", Picture(State()), head(seq))
        saver.committed("b", seq)
    store.gate.release(2)
    wait_until(lambda: store.saved == [5] and not saver._thread.is_alive(), "the first is saved")  # type: ignore[union-attr]
    saver.committed("b", 8)
    wait_until(lambda: store.saved == [5, 7], "the newest is saved")
    saver.stop()


def test_what_may_never_be_committed_is_forgotten() -> None:
    store = SlowStore()
    saver = SnapshotSaver(store)
    saver.note("a", Picture(State()), head(5))
    saver.forget("a")
    saver.committed("a", 9)
    assert saver._thread is None

"""One process at a time has a database open."""

import errno
import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from skyclaw.errors import DatabaseDamaged, DatabaseLocked, DatabaseUnusable, StorageFailed
from skyclaw.store import database, locking
from skyclaw.store.locking import take_lock
from skyclaw.store.sqlite import SqliteEventLog, open_sqlite
from tests.store.children import forked, in_child, killed
from tests.store.histories import everything, fill

OpenAt = Callable[[Path], SqliteEventLog]


def test_a_second_opener_in_the_same_process_is_refused(path: Path, open_at: OpenAt) -> None:
    first = open_at(path)
    with pytest.raises(DatabaseLocked, match=f"{path} is locked by pid {os.getpid()}: stop that process or name another file"):
        open_sqlite(path, "here")
    records = fill(first, 3)
    assert everything(first) == records


def test_a_second_process_is_refused_and_told_who_holds_the_lock(path: Path, open_at: OpenAt) -> None:
    open_at(path)
    with pytest.raises(DatabaseLocked, match=f"locked by pid {os.getpid()}"):
        in_child(lambda: open_sqlite(path, "there").close())


def test_another_name_for_the_same_file_does_not_get_around_the_lock(path: Path, open_at: OpenAt) -> None:
    open_at(path)
    alias = path.with_name("alias.db")
    alias.symlink_to(path)
    with pytest.raises(DatabaseLocked, match=f"{path} is locked by pid"):
        open_sqlite(alias, "here")


def test_the_lock_ends_with_the_life_of_its_holder(path: Path, open_at: OpenAt) -> None:
    read, write = os.pipe()

    def hold() -> None:
        store = open_sqlite(path, "there")
        fill(store, 7)
        os.write(write, f"{store.log} ".encode())
        signal.pause()

    pid = forked(hold)
    log = os.read(read, 100).decode().strip()
    with pytest.raises(DatabaseLocked, match=f"locked by pid {pid}:"):
        open_at(path)
    assert killed(pid)
    store = open_at(path)
    assert store.log == log
    assert len(everything(store)) == 7


def test_of_many_openers_at_once_exactly_one_gets_in(path: Path) -> None:
    """Threads, which share everything that a process has."""
    together, got_in, refused = threading.Barrier(8), list[SqliteEventLog](), list[DatabaseLocked]()

    def enter() -> None:
        together.wait()
        try:
            got_in.append(open_sqlite(path, "here"))
        except DatabaseLocked as error:
            refused.append(error)

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got_in), len(refused)) == (1, 7)
    got_in[0].close()


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The former holder removes the file after our opening and before our locking it."""
    opened: list[int] = []
    original = locking._open

    def open_late(lock_path: Path, read_only: bool) -> int:
        opened.append(original(lock_path, read_only))
        if len(opened) == 1:
            lock_path.unlink()
        return opened[-1]

    monkeypatch.setattr(locking, "_open", open_late)
    lock = locking.take_lock(path, read_only=False)
    assert len(opened) == 2
    with pytest.raises(DatabaseLocked):
        locking.take_lock(path, read_only=False)
    assert lock
    lock.release()


def test_a_refused_start_lets_go_of_the_lock(path: Path, open_at: OpenAt) -> None:
    path.write_text("no database at all")
    with pytest.raises(DatabaseDamaged):
        open_sqlite(path, "here")
    path.unlink()
    open_at(path)


def test_another_writer_is_waited_for_and_then_reported(path: Path, open_at: OpenAt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_MS", 20)
    store = open_at(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageFailed, match="locked"):
            fill(store, 3)
        assert everything(store) == []
        stranger.execute("COMMIT")
    records = fill(store, 3)
    assert everything(store) == records


def test_a_full_disk_is_no_reason_not_to_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    lock = take_lock(tmp_path / "x.db", read_only=False)
    monkeypatch.undo()
    assert lock is not None
    with pytest.raises(DatabaseLocked, match="locked by pid unknown"):
        take_lock(tmp_path / "x.db", read_only=False)
    lock.release()


def test_where_there_is_no_room_for_the_lock_the_cure_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(DatabaseUnusable, match="make room"):
        take_lock(tmp_path / "x.db", read_only=False)

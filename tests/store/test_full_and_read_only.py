"""Storage that takes nothing more: what was there stays readable, a refused batch leaves no trace, and it goes on when there is room."""

import os
import re
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from skyclaw.errors import DatabaseLocked, DatabaseUnusable, StorageFailed, StorageFull, StorageReadOnly, Unavailable
from skyclaw.records import Record
from skyclaw.store import database
from skyclaw.store.event_log import EMPTY, Write
from skyclaw.store.failures import write_failure
from skyclaw.store.memory import MemoryEventLog
from skyclaw.store.sqlite import SqliteEventLog, open_sqlite
from tests.store.children import ORDINARY_USER, dies_after, in_child, needs_root
from tests.store.histories import everything, fill, grown, head_of

OpenAt = Callable[[Path], SqliteEventLog]
UNFIT: dict[str, dict[str, object]] = {"a number too large": {"at": 2**63}, "no text": {"data": "\ud800"}, "nothing": {"data": None}}
BULK = f'{{"stdout":"{"x" * 2000}"}}'


def _seen_from_outside(path: Path) -> int:
    """How many events another program finds."""
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM event").fetchone()[0])


def _fill_up(store: SqliteEventLog, path: Path, at_once: int = 5) -> list[Record]:
    """Append until the storage is full; returns what was accepted, and makes sure that nothing else is there."""
    accepted = everything(store)

    def append() -> None:
        while len(accepted) < 5000:
            accepted.extend(fill(store, at_once, BULK, at_once))

    with pytest.raises(StorageFull, match=f"the storage of {path} is full .*; nothing was written") as caught:
        append()
    assert caught.value.details == {"written": False}
    for _ in range(2):
        with pytest.raises(StorageFull):
            fill(store, at_once, BULK, at_once)
    assert everything(store) == accepted
    assert store.head(store.log) == head_of(accepted)
    assert _seen_from_outside(path) == len(accepted)
    return accepted


def _goes_on(store: SqliteEventLog, accepted: list[Record]) -> None:
    """The same object takes events again; a later start finds them all."""
    accepted = accepted + fill(store, 20, BULK)
    assert everything(store) == accepted
    store.close()
    again = open_sqlite(store._database.path, "here")
    assert everything(again) == accepted
    again.close()


# A batch is stored whole or not at all


@pytest.mark.parametrize("count", [5, 250], ids=["one statement", "several statements"])
@pytest.mark.parametrize("unfit", UNFIT.values(), ids=UNFIT)
def test_a_replaced_end_with_a_record_that_cannot_be_stored_is_not_replaced(
    path: Path, open_at: OpenAt, count: int, unfit: dict[str, object]
) -> None:
    store = open_at(path)
    before = fill(store, 300, at_once=300)
    end = grown(store.log, count, head_of(before[:150]), BULK)
    with pytest.raises((OverflowError, UnicodeEncodeError, StorageFailed)):
        store.write([Write(store.log, 151, [*end[:-1], replace(end[-1], **unfit)])], {store.log: "0.1.x"})  # type: ignore[arg-type]
    assert everything(store) == before
    assert store.promises() == {}
    store.write([Write(store.log, 151, end)], {store.log: "0.1.x"})
    assert everything(store) == before[:150] + end


@pytest.mark.parametrize("count", [5, 250], ids=["one statement", "several statements"])
@pytest.mark.parametrize("unfit", UNFIT.values(), ids=UNFIT)
def test_a_batch_with_a_record_that_cannot_be_stored_leaves_no_trace(
    path: Path, open_at: OpenAt, count: int, unfit: dict[str, object]
) -> None:
    store = open_at(path)
    before = fill(store, 3)
    records = grown(store.log, count, head_of(before))
    with pytest.raises((OverflowError, UnicodeEncodeError, StorageFailed)):
        store.append([*records[:-1], replace(records[-1], **unfit)])  # type: ignore[arg-type]
    assert everything(store) == before
    assert _seen_from_outside(path) == 3
    store.append(records)
    assert everything(store) == before + records


# Full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted: {mounted.stderr.decode().strip()}")
    yield directory
    subprocess.run(["umount", "--lazy", directory], check=True)


def _occupy(directory: Path, spare: int) -> Path:
    """Leave so many bytes free; the file that is returned holds the rest."""
    filler = directory / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(directory).free - spare))
    return filler


@needs_root
@pytest.mark.parametrize("at_once", [1, 5, 150], ids=lambda count: f"{count} at once")
@pytest.mark.parametrize("wal_pages", [4, 16_000], ids=["many checkpoints", "no checkpoint"])
def test_a_full_disk_is_reported_and_survived(
    small_disk: Path, open_at: OpenAt, monkeypatch: pytest.MonkeyPatch, wal_pages: int, at_once: int
) -> None:
    """With many checkpoints, what fails is also the copying into the file, after a commit that succeeded."""
    monkeypatch.setattr(database, "WAL_PAGES", wal_pages)
    path = small_disk / "skyclaw.db"
    store = open_at(path)
    accepted = fill(store, 3)
    filler = _occupy(small_disk, spare=200_000)
    accepted = _fill_up(store, path, at_once)
    filler.unlink()
    _goes_on(store, accepted)


@needs_root
def test_a_disk_without_a_byte_left_is_reported_and_survived(small_disk: Path, open_at: OpenAt) -> None:
    path = small_disk / "skyclaw.db"
    store = open_at(path)
    accepted = fill(store, 3)
    filler = _occupy(small_disk, spare=0)
    assert _fill_up(store, path)[:3] == accepted
    filler.unlink()
    _goes_on(store, everything(store))


@needs_root
def test_what_a_full_disk_held_is_there_after_a_crash(small_disk: Path, open_at: OpenAt) -> None:
    path = small_disk / "skyclaw.db"

    def work() -> SqliteEventLog:
        store = open_sqlite(path, "there")
        _occupy(small_disk, spare=100_000)
        (small_disk / "accepted").write_text(str(len(_fill_up(store, path))))
        return store

    (small_disk / "accepted").write_text("     ")
    dies_after(work)
    (small_disk / "filler").unlink()
    store = open_at(path)
    assert len(everything(store)) == int((small_disk / "accepted").read_text())


@needs_root
def test_a_database_is_founded_whole_or_not_at_all_however_little_room_there_is(small_disk: Path) -> None:
    path, founded = small_disk / "skyclaw.db", set[bool]()
    for spare in range(0, 200_000, 4096):
        filler = _occupy(small_disk, spare)
        try:
            open_sqlite(path, "here").close()
        except DatabaseUnusable as error:
            assert re.search(rf"{path} cannot be (created|locked|opened) .*: ", str(error))  # noqa: PT017 - or there is none
        filler.unlink()
        founded.add(path.exists())
        assert {file.name for file in small_disk.iterdir()} <= {"skyclaw.db"}
        open_sqlite(path, "here").close()
        path.unlink()
    assert founded == {False, True}


@needs_root
def test_a_database_on_a_full_disk_is_refused_or_opened_but_not_harmed(small_disk: Path) -> None:
    path = small_disk / "skyclaw.db"
    with closing(open_sqlite(path, "here")) as store:
        records = fill(store, 5)
    filler = _occupy(small_disk, spare=0)
    with pytest.raises(DatabaseUnusable, match=r"skyclaw.db cannot be (opened|locked) .*: "):
        open_sqlite(path, "here").close()
    filler.unlink()
    with closing(open_sqlite(path, "here")) as store:
        assert everything(store) == records


def test_a_limit_on_the_size_of_files_is_reported_and_survived(path: Path) -> None:
    """As a quota does, it shows as an error of writing, not as a full disk."""

    def work() -> None:
        store = open_sqlite(path, "here")
        fill(store, 3)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
        accepted = _fill_up(store, path)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        _goes_on(store, accepted)

    in_child(work)


def test_no_database_is_founded_where_files_may_not_be_large_enough(path: Path) -> None:
    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        open_sqlite(path, "here")

    with pytest.raises(DatabaseUnusable, match=r"skyclaw.db cannot be created .*: make room for it"):
        in_child(work)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("at_once", [5, 150], ids=["one statement", "several statements"])
def test_a_database_that_may_not_grow_is_reported_and_survived(path: Path, open_at: OpenAt, at_once: int) -> None:
    store = open_at(path)
    store._database._writer.execute("PRAGMA max_page_count = 400")
    accepted = _fill_up(store, path, at_once)
    store._database._writer.execute("PRAGMA max_page_count = 4000")
    _goes_on(store, accepted)


def test_an_end_for_which_there_is_no_room_leaves_the_old_one_and_the_promises(path: Path, open_at: OpenAt) -> None:
    """The old end makes room, but not enough."""
    store = open_at(path)
    before = fill(store, 60, BULK)
    store.save_snapshot(store.log, head_of(before), ["[1]"])
    store.write([], {store.log: "0.1.x"})
    store._database._writer.execute("PRAGMA max_page_count = 100")
    end = grown(store.log, 250, head_of(before[:20]), BULK)
    for count in (250, 90):
        with pytest.raises(StorageFull, match="nothing was written"):
            store.write([Write(store.log, 21, end[:count]), Write("0therlog", 1, grown("0therlog", 2))], {store.log: "0.2.y"})
        assert everything(store) == before
        assert store.promises() == {store.log: "0.1.x"}
        assert store.logs() == [store.log]
        assert store.snapshot(store.log)
    store._database._writer.execute("PRAGMA max_page_count = 4000")
    store.write([Write(store.log, 21, end)], {store.log: "0.2.y"})
    assert store.promises() == {store.log: "0.2.y"}
    _goes_on(store, before[:20] + end)


def test_a_snapshot_for_which_there_is_no_room_leaves_the_older_one_in_force(path: Path, open_at: OpenAt) -> None:
    store = open_at(path)
    fill(store, 3)
    head = store.head(store.log)
    store.save_snapshot(store.log, head, ["[1]"])
    store._database._writer.execute("PRAGMA max_page_count = 200")
    with pytest.raises(StorageFull):
        store.save_snapshot(store.log, head, ["x" * 600_000] * 3)
    found = store.snapshot(store.log)
    assert found
    assert (found[0], list(found[1])) == (head, ["[1]"])
    store._database._writer.execute("PRAGMA max_page_count = 4000")
    store.save_snapshot(store.log, head, ["x" * 600_000] * 3)
    found = store.snapshot(store.log)
    assert found
    assert [len(part) for part in found[1]] == [600_000] * 3


# Read-only


def _told(path: Path) -> tuple[bool, list[Record], list[type[Exception]]]:
    """What a reader gets from a database in which it may not write, and how its attempts to write are refused."""
    store = open_sqlite(path, "nobody")
    records = everything(store)
    assert store.head(store.log) == head_of(records)
    assert store.stream("job_a") == [record for record in records if record.stream == "job_a"]
    refusals: list[type[Exception]] = []
    for write in (
        lambda: store.append(grown(store.log, 1, head_of(records))),
        lambda: store.write([Write(store.log, 5, grown(store.log, 1, head_of(records[:4])))], {store.log: "0.1.x"}),
        lambda: store.save_snapshot(store.log, EMPTY, ["[]"]),
    ):
        with pytest.raises(Unavailable) as caught:
            write()
        assert caught.value.details == {"written": False}
        refusals.append(caught.type)
    assert everything(store) == records
    assert store.promises() == {}
    read_only = store.read_only
    store.close()
    return read_only, records, refusals


def _of_others(path: Path, left_open: bool = False) -> list[Record]:
    """A database whose events everybody may read and nobody write; left open, most are still beside the file."""

    def work() -> SqliteEventLog:
        store = open_sqlite(path, "here")
        fill(store, 9)
        return store

    dies_after(work)
    if not left_open:
        open_sqlite(path, "here").close()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        records = [Record(*row) for row in connection.execute("SELECT * FROM event ORDER BY seq")]
    for file in path.parent.iterdir():
        file.chmod(0o444)
    assert len(records) == 9
    return records


@pytest.mark.parametrize("case", ["closed", "left open", "left open, without its index", "a file that may not be written", "a directory"])
def test_a_database_of_others_is_read_and_not_written(open_directory: Path, case: str) -> None:
    path = open_directory / "skyclaw.db"
    records = _of_others(path, left_open=case.startswith("left open"))
    if "without" in case:
        path.with_name("skyclaw.db-shm").unlink()
    if case == "a directory":
        path.chmod(0o666)
    open_directory.chmod(0o777 if case == "a file that may not be written" else 0o555)
    before = {file.name: file.read_bytes() for file in open_directory.iterdir()}
    assert in_child(lambda: _told(path), ORDINARY_USER) == (True, records, [StorageReadOnly] * 3)
    assert {file.name: file.read_bytes() for file in open_directory.iterdir()} == before


def test_a_copy_that_was_needed_for_reading_is_removed(open_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = open_directory / "skyclaw.db"
    _of_others(path, left_open=True)
    path.with_name("skyclaw.db-shm").unlink()
    copies = open_directory / "copies"
    copies.mkdir()
    copies.chmod(0o777)
    open_directory.chmod(0o555)
    monkeypatch.setattr("tempfile.tempdir", str(copies))

    def work() -> list[str]:
        store = open_sqlite(path, "nobody")
        during = [file.name for file in copies.rglob("*.db")]
        store.close()
        return during

    assert in_child(work, ORDINARY_USER) == ["skyclaw.db"]
    assert list(copies.iterdir()) == []


@pytest.fixture
def read_only_view(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Mounts a directory a second time, for reading."""
    view = tmp_path / "view"
    mounted = False

    def mount(directory: Path) -> Path:
        nonlocal mounted
        view.mkdir()
        for command in (["mount", "--bind", directory, view], ["mount", "-o", "remount,ro,bind", view]):
            done = subprocess.run(command, capture_output=True, check=False)
            if done.returncode:
                pytest.skip(f"no read-only mount can be made: {done.stderr.decode().strip()}")
            mounted = True
        return view

    yield mount
    if mounted:
        subprocess.run(["umount", "--lazy", view], check=True)


@needs_root
@pytest.mark.parametrize("left_open", [False, True], ids=["closed", "left open"])
def test_a_database_on_a_read_only_mount_is_read(
    tmp_path: Path, read_only_view: Callable[[Path], Path], left_open: bool, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "there").mkdir()
    records = _of_others(tmp_path / "there" / "skyclaw.db", left_open)
    view = read_only_view(tmp_path / "there")
    assert _told(view / "skyclaw.db") == (True, records, [StorageReadOnly] * 3)
    assert any(
        message.startswith(f"database_opened path={view}/skyclaw.db ") and "read_only=True" in message for message in caplog.messages
    )


@needs_root
def test_a_database_in_use_is_not_read_through_a_read_only_mount(
    tmp_path: Path, read_only_view: Callable[[Path], Path], open_at: OpenAt
) -> None:
    store = open_at(tmp_path / "there" / "skyclaw.db")
    view = read_only_view(tmp_path / "there")
    with pytest.raises(DatabaseLocked, match=f"locked by pid {os.getpid()}"):
        open_sqlite(view / "skyclaw.db", "here")
    fill(store, 3)


@needs_root
def test_nothing_is_founded_on_a_read_only_mount(tmp_path: Path, read_only_view: Callable[[Path], Path]) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "empty.db").touch()
    view = read_only_view(tmp_path / "there")
    for name in ("skyclaw.db", "empty.db"):
        with pytest.raises(DatabaseUnusable, match=rf"{name} cannot be .* \(Read-only file system\): "):
            open_sqlite(view / name, "here")


def _become_immutable(probe: Path) -> bool:
    """Whether a file that is open for writing can be made so that nothing more may be written."""
    with probe.open("wb", buffering=0) as file:
        if subprocess.run(["chattr", "+i", probe], capture_output=True, check=False).returncode:
            return False
        try:
            file.write(b"x")
        except PermissionError:
            return True
        else:
            return False
        finally:
            subprocess.run(["chattr", "-i", probe], check=True)


@needs_root
def test_files_that_become_read_only_while_they_are_open(path: Path, open_at: OpenAt) -> None:
    store = open_at(path)
    accepted = fill(store, 3)
    files = [path, path.with_name("skyclaw.db-wal")]
    if not _become_immutable(path.with_name("probe")):
        pytest.skip("the file system knows no files that become immutable while they are open")
    subprocess.run(["chattr", "+i", *files], check=True)
    try:
        for _ in range(2):
            with pytest.raises(StorageReadOnly, match=f"{path} is read-only; nothing was written"):
                fill(store, 3)
        assert everything(store) == accepted
    finally:
        subprocess.run(["chattr", "-i", *files], check=True)
    _goes_on(store, accepted)


def test_a_database_that_becomes_read_only_while_it_is_open(path: Path, open_at: OpenAt) -> None:
    store = open_at(path)
    accepted = fill(store, 3)
    store._database._writer.execute("PRAGMA query_only = ON")
    for count in (1, 3, 250):
        with pytest.raises(StorageReadOnly):
            fill(store, count, at_once=count)
        with pytest.raises(StorageReadOnly):
            store.write([Write(store.log, 2, grown(store.log, count, head_of(accepted[:1])))], {store.log: "0.1.x"})
    assert store.promises() == {}
    assert everything(store) == accepted
    store._database._writer.execute("PRAGMA query_only = OFF")
    _goes_on(store, accepted)


@pytest.mark.parametrize(("state", "refusal"), [("read_only", StorageReadOnly), ("full", StorageFull)])
def test_the_store_in_memory_can_be_told_to_refuse(state: str, refusal: type[Unavailable]) -> None:
    store = MemoryEventLog("here")
    accepted = fill(store, 3)
    setattr(store, state, True)
    with pytest.raises(refusal):
        fill(store, 1)
    with pytest.raises(refusal):
        store.save_snapshot(store.log, EMPTY, [])
    with pytest.raises(refusal):
        store.write([Write(store.log, 2, [])], {store.log: "0.1.x"})
    assert store.promises() == {}
    assert everything(store) == accepted
    setattr(store, state, False)
    accepted += fill(store, 2)
    assert everything(store) == accepted


# What SQLite's codes mean


def _failure(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "refusal", "written"),
    [
        (sqlite3.SQLITE_FULL, StorageFull, False),
        (sqlite3.SQLITE_IOERR_WRITE, StorageFull, False),  # EDQUOT, EFBIG
        (sqlite3.SQLITE_IOERR_SHMSIZE, StorageFull, False),
        (sqlite3.SQLITE_READONLY, StorageReadOnly, False),
        (sqlite3.SQLITE_READONLY_DBMOVED, StorageReadOnly, False),
        (sqlite3.SQLITE_BUSY, StorageFailed, False),
        (sqlite3.SQLITE_CORRUPT, StorageFailed, False),
        (sqlite3.SQLITE_IOERR_FSYNC, StorageFailed, "unknown"),
    ],
)
def test_what_a_failed_write_means(path: Path, code: int, refusal: type[Unavailable], written: object) -> None:
    path.touch()
    failure = write_failure(_failure(code), path)
    assert type(failure) is refusal
    assert failure.details == {"written": written}

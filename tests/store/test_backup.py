"""Backups: of one moment whatever is written meanwhile, believed only when sound, and never brought back as the replica they were of."""

import os
import resource
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from actors.stored_copies import StoredPast, durable_copy
from skyclaw.cluster.configuration import as_event, founding
from skyclaw.cluster.messages import Message
from skyclaw.cluster.replication import Node, Pace
from skyclaw.codec import CODEC
from skyclaw.errors import DatabaseDamaged, DatabaseForeign, DatabaseLocked, DatabaseUnusable
from skyclaw.events import ConfigurationChanged, Event, OwnershipTaken, stream_of
from skyclaw.records import GENESIS_HASH, Epoch, Record, sealed
from skyclaw.store.backup import REASON, BackupThere, back_up, restore, verify
from skyclaw.store.event_log import EventLog, Write
from skyclaw.store.sqlite import SqliteEventLog, open_sqlite
from tests.store.children import dies_after, in_child
from tests.store.histories import everything, fill, grown

OpenAt = Callable[[Path], SqliteEventLog]
OTHER = "0the0log"
BULK = f'{{"stdout":"{"x" * 4000}"}}'
LONG_MS = 600_000


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where the backup is to be."""
    return tmp_path / "elsewhere" / "copy.db"


@pytest.fixture(autouse=True)
def folder(target: Path) -> Path:
    target.parent.mkdir()
    return target.parent


@pytest.fixture
def running(path: Path, open_at: OpenAt) -> SqliteEventLog:
    """An open database with two logs, a promise for each, and most of it not yet moved into the file."""
    store = open_at(path)
    fill(store, 40)
    store.write([Write(OTHER, 1, grown(OTHER, 25))], {OTHER: "0.7.b#2", store.log: "2.1.here#1"})
    return store


def left_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


# Making one


def test_a_backup_of_a_running_database_has_everything_and_says_so(running: SqliteEventLog, path: Path, target: Path) -> None:
    old_mask = os.umask(0)
    try:
        contents = back_up(path, target)
    finally:
        os.umask(old_mask)
    assert (contents.node, contents.log) == (running.node, running.log)
    assert {log.log: (log.end, log.epoch) for log in contents.logs} == {OTHER: (25, "0.1.node#1"), running.log: (40, "0.1.node#1")}
    assert {log.at for log in contents.logs} == {1_700_000_000_025, 1_700_000_000_040}
    assert target.stat().st_mode & 0o777 == 0o600
    assert left_in(target.parent) == ["copy.db"]
    fill(running, 5)
    assert running.head(running.log).seq == 45


def test_a_backup_is_of_one_moment_while_somebody_writes(
    running: SqliteEventLog, path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skyclaw.store.backup.PAGES_AT_ONCE", 3)
    enough, stop = threading.Event(), threading.Event()

    def write() -> None:
        while not stop.is_set():
            fill(running, 10, BULK, at_once=3)
            if running.head(running.log).seq > 400:
                enough.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert enough.wait(60)
        ends = [back_up(path, target, replace=True).logs[-1].end for _ in range(3)]
        stop.set()
    finally:
        stop.set()
        writer.join()
    assert ends == sorted(ends)
    assert ends[0] > 40
    with closing(sqlite3.connect(target)) as copy:
        assert copy.execute("SELECT max(seq), count(*) FROM event WHERE log = ?", [running.log]).fetchone() == (ends[-1], ends[-1])


def test_a_process_of_its_own_makes_it(running: SqliteEventLog, path: Path, target: Path) -> None:
    assert in_child(lambda: back_up(path, target)) == verify(target)


def test_what_a_killed_process_left_beside_the_file_is_in_the_backup(path: Path, target: Path) -> None:
    def work() -> SqliteEventLog:
        store = open_sqlite(path, "here")
        fill(store, 30)
        return store

    dies_after(work)
    assert path.with_name(path.name + "-wal").stat().st_size > 0
    assert [log.end for log in back_up(path, target).logs] == [30]


def test_a_backup_of_an_idle_database_leaves_it_as_it_was(path: Path, target: Path) -> None:
    with closing(open_sqlite(path, "here")) as store:
        fill(store, 30)
    before = path.read_bytes()
    assert [log.end for log in back_up(path, target).logs] == [30]
    assert path.read_bytes() == before
    assert left_in(path.parent) == [target.parent.name, path.name]


def test_a_file_that_is_there_is_not_replaced_unasked(running: SqliteEventLog, path: Path, target: Path) -> None:
    target.write_text("precious")
    with pytest.raises(BackupThere, match="is there already"):
        back_up(path, target)
    assert target.read_text() == "precious"
    assert back_up(path, target, replace=True) == verify(target)


@pytest.mark.parametrize("ending", ["", "-wal", "-shm", ".lock"])
def test_the_database_does_not_become_its_own_backup(running: SqliteEventLog, path: Path, target: Path, ending: str) -> None:
    target.symlink_to(path.with_name(path.name + ending))
    with pytest.raises(BackupThere, match="belongs to the database itself"):
        back_up(path, target, replace=True)
    assert len(everything(running)) == 40


def test_where_there_is_nothing_to_copy_or_nowhere_to_put_it_is_said(running: SqliteEventLog, path: Path, target: Path) -> None:
    with pytest.raises(DatabaseUnusable, match="is not there: SKYCLAW_DB_PATH names"):
        back_up(path.with_name("other.db"), target)
    with pytest.raises(DatabaseUnusable, match="cannot be written"):
        back_up(path, target.parent / "nowhere" / "copy.db")
    with pytest.raises(DatabaseUnusable, match="is a directory"):
        back_up(path, target.parent)
    foreign = path.with_name("foreign.db")
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.commit()
    with pytest.raises(DatabaseForeign):
        back_up(foreign, target)
    assert left_in(target.parent) == []


def test_no_room_leaves_nothing_but_the_former_backup(running: SqliteEventLog, path: Path, target: Path) -> None:
    back_up(path, target)
    former = target.read_bytes()
    fill(running, 100, BULK)

    def with_little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        back_up(path, target, replace=True)

    with pytest.raises(DatabaseUnusable, match="make room there"):
        in_child(with_little_room)
    assert target.read_bytes() == former
    assert left_in(target.parent) == ["copy.db"]


def test_a_damaged_database_does_not_become_a_backup(path: Path, target: Path) -> None:
    with closing(open_sqlite(path, "here")) as store:
        fill(store, 40)
    back_up(path, target)
    former = target.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE event SET data = '{}' WHERE seq = 17")
        connection.commit()
    with pytest.raises(DatabaseDamaged, match="/17 "):
        back_up(path, target, replace=True)
    assert target.read_bytes() == former
    assert left_in(target.parent) == ["copy.db"]


def test_an_interrupted_backup_leaves_nothing(running: SqliteEventLog, path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("skyclaw.store.backup.verify", interrupted)
    with pytest.raises(KeyboardInterrupt):
        back_up(path, target)
    assert left_in(target.parent) == []


# Bringing one back

SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "a changed letter in an event": lambda content: content.replace(b'"shell"', b'"shelf"', 1),
    "garbage in the middle": lambda content: content[: 3 * 4096] + os.urandom(4096) + content[4 * 4096 :],
    "half of it": lambda content: content[: len(content) // 8192 * 4096],
    "another program's": lambda content: content[:68] + b"\0\0\0\1" + content[72:],
    "no database at all": lambda _content: b"a letter to somebody" * 99,
    "nothing": lambda _content: b"",
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("alone", [False, True])
def test_a_backup_that_is_not_sound_replaces_nothing(
    running: SqliteEventLog, path: Path, target: Path, spoil: Callable[[bytes], bytes], alone: bool
) -> None:
    back_up(path, target)
    running.close()
    target.write_bytes(spoil(target.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(DatabaseUnusable):
        restore(target, path, alone=alone, replace=True)
    assert path.read_bytes() == before
    assert left_in(path.parent) == [target.parent.name, path.name]


def test_who_comes_back_is_somebody_else_with_a_log_of_its_own(
    running: SqliteEventLog, path: Path, target: Path, open_at: OpenAt, tmp_path: Path
) -> None:
    back_up(path, target)
    returned = restore(target, tmp_path / "new" / "place.db")
    store = open_at(tmp_path / "new" / "place.db")
    assert (store.node, store.log) == (returned.node, returned.log)
    assert store.node != running.node
    assert store.node.startswith("here#")
    assert store.log not in (running.log, OTHER)
    assert store.logs() == sorted([running.log, OTHER])
    for log in store.logs():
        assert list(store.tail(log, 0)) == list(running.tail(log, 0))
    assert store.promises() == running.promises()
    assert left_in(tmp_path / "new") == ["place.db", "place.db-shm", "place.db-wal", "place.db.lock"]


def test_each_return_is_another_node(running: SqliteEventLog, path: Path, target: Path, tmp_path: Path) -> None:
    back_up(path, target)
    returned = [restore(target, tmp_path / f"{number}.db", "label") for number in range(3)]
    assert len({one.node for one in returned} | {running.node}) == 4
    assert len({one.log for one in returned} | {running.log}) == 4
    assert all(one.node.startswith("label#") for one in returned)


def test_a_database_that_is_there_is_replaced_only_on_request_and_kept(
    running: SqliteEventLog, path: Path, target: Path, open_at: OpenAt
) -> None:
    back_up(path, target)
    fill(running, 10)
    running.close()
    before = path.read_bytes()
    with pytest.raises(BackupThere, match="--replace puts it aside"):
        restore(target, path)
    assert path.read_bytes() == before
    kept = [restore(target, path, replace=True).kept for _ in range(2)]
    assert kept == [path.with_name(f"{path.name}.replaced-{number}") for number in (1, 2)]
    assert kept[0] is not None
    old, new = open_at(kept[0]), open_at(path)
    assert (old.node, old.head(old.log).seq) == (running.node, 50)
    assert new.head(running.log).seq == 40


def test_what_a_killed_process_left_is_kept_together(path: Path, target: Path, open_at: OpenAt) -> None:
    def work() -> SqliteEventLog:
        store = open_sqlite(path, "here")
        fill(store, 30)
        return store

    dies_after(work)
    back_up(path, target)
    with pytest.raises(BackupThere):
        restore(target, path)
    kept = restore(target, path, replace=True).kept
    assert kept is not None
    assert len(everything(open_at(kept))) == 30
    assert not kept.with_name(f"{path.name}-wal").exists()


def test_a_database_in_use_is_not_replaced(running: SqliteEventLog, path: Path, target: Path) -> None:
    back_up(path, target)
    with pytest.raises(DatabaseLocked, match=f"is locked by pid {os.getpid()}"):
        restore(target, path, replace=True)
    assert len(everything(running)) == 40


def test_a_database_is_not_restored_from_itself(path: Path) -> None:
    open_sqlite(path, "here").close()
    with pytest.raises(BackupThere, match="is the database itself"):
        restore(path, path, replace=True)


# What a restored node is in the protocol


def history(store: EventLog, *voters: str) -> None:
    """Found the store's own log as a node does, and let more nodes vote in it, if there are any."""
    epoch = str(Epoch(0, 1, store.node))
    events: list[tuple[str, Event]] = [("0.0.", as_event(founding(store.node))), (epoch, OwnershipTaken(store.node, "founded"))]
    if voters:
        events.append((epoch, ConfigurationChanged(((tuple(sorted((store.node, *voters))), 2),))))
    records: list[Record] = []
    for seq, (under, event) in enumerate(events, 1):
        name, version, data = CODEC.encode(event)
        before = records[-1].hash if records else GENESIS_HASH
        records.append(sealed(before, Record(store.log, seq, under, stream_of(event), name, version, 1_700_000_000_000, data)))
    store.write([Write(store.log, 1, records)], {store.log: epoch})


class Driven:
    """A node of the protocol over a store, as a process would drive it."""

    def __init__(self, store: EventLog) -> None:
        self.store = store
        copies = [durable_copy(store, log, 0) for log in store.logs()]
        self.node = Node(store.node, copies, StoredPast(store), Pace(), lambda: 0.5)
        self.sent: list[tuple[str, Message]] = []

    def settle(self) -> None:
        """Make everything durable and take in what it sends to itself, until there is no more."""
        while True:
            effects = self.node.effects()
            if not (effects.promises or effects.writes or effects.sends):
                return
            writes = [Write(log, one.start, one.records) for log, one in effects.writes.items()]
            self.store.write(writes, {log: str(epoch) for log, epoch in effects.promises.items()})
            for to, message in effects.sends:
                if to == self.node.name:
                    self.node.receive(to, message, self.node._now)
                else:
                    self.sent.append((to, message))

    def live(self, until_ms: int) -> None:
        """Let time pass."""
        for now in range(0, until_ms, 500):
            self.node.tick(now)
            self.settle()


def test_a_node_restored_among_others_wants_none_of_the_old_logs(path: Path, target: Path, open_at: OpenAt, tmp_path: Path) -> None:
    store = open_at(path)
    history(store)
    back_up(path, target)
    restore(target, tmp_path / "new.db")
    restored = Driven(open_at(tmp_path / "new.db"))
    restored.live(LONG_MS)
    assert restored.sent == []
    assert not restored.node.owns(store.log)
    assert restored.store.promises() == store.promises()
    original = Driven(store)
    original.live(LONG_MS)
    assert original.node.owns(store.log), "the one that was copied goes on"


def test_a_node_restored_alone_owns_all_its_logs_at_once(path: Path, target: Path, open_at: OpenAt, tmp_path: Path) -> None:
    store = open_at(path)
    history(store, "b#2", "c#3")
    store.write([Write(OTHER, 1, grown(OTHER, 3))])
    back_up(path, target)
    returned = restore(target, tmp_path / "new.db", alone=True)
    assert returned.log == store.log
    new = open_at(tmp_path / "new.db")
    assert list(new.tail(store.log, 0))[:3] == list(store.tail(store.log, 0))
    taken = [CODEC.decode(r.type, r.version, r.data) for r in new.tail(store.log, 3)]
    assert taken == [as_event(founding(new.node)), OwnershipTaken(new.node, REASON)]
    assert new.head(OTHER).epoch == new.head(store.log).epoch == f"1.1.{new.node}" == new.promises()[OTHER]
    restored = Driven(new)
    restored.live(1_000)
    assert all(restored.node.owns(log) for log in (store.log, OTHER))


def test_the_generation_rises_above_every_promise(path: Path, target: Path, open_at: OpenAt, tmp_path: Path) -> None:
    store = open_at(path)
    history(store)
    store.write([], {store.log: "4.2.somebody#7"})
    back_up(path, target)
    restore(target, tmp_path / "new.db", alone=True)
    assert open_at(tmp_path / "new.db").head(store.log).epoch.startswith("5.1.here#")


def test_the_one_that_was_copied_has_to_follow_when_it_turns_up_again(path: Path, target: Path, open_at: OpenAt, tmp_path: Path) -> None:
    store = open_at(path)
    history(store)
    back_up(path, target)
    restore(target, tmp_path / "new.db", alone=True)
    stale, restored = Driven(store), Driven(open_at(tmp_path / "new.db"))
    stale.live(10_000)
    restored.live(10_000)
    assert stale.node.owns(store.log)
    assert restored.node.owns(store.log)
    for _ in range(3):
        pull = stale.node.pull(LONG_MS)
        stale.node.receive(restored.node.name, restored.node.answer(pull), LONG_MS)
        stale.settle()
    assert not stale.node.owns(store.log)
    assert restored.node.owns(store.log)
    assert list(store.tail(store.log, 0)) == list(restored.store.tail(store.log, 0))

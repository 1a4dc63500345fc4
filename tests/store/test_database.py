"""What happens when a database is opened: founding, refusals, the lock, crashes."""

import logging
import os
import sqlite3
import stat
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool

from skyclaw.errors import (
    DatabaseDamaged,
    DatabaseForeign,
    DatabaseNewer,
    DatabaseUnusable,
    StartRefused,
)
from skyclaw.store import database
from skyclaw.store.event_log import Write
from skyclaw.store.sqlite import SqliteEventLog, open_sqlite
from skyclaw.store.tables import METADATA
from tests.store.children import ORDINARY_USER, dies_after, in_child
from tests.store.histories import everything, fill, grown, head_of

_connect = sqlite3.connect
OpenAt = Callable[[Path], SqliteEventLog]


def _founded(path: Path, events: int = 5) -> Path:
    """A closed database with some events."""
    store = open_sqlite(path, "here")
    fill(store, events)
    store.close()
    return path


def _contents(directory: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def _execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def _left_open(path: Path, *statements: str) -> None:
    """As `_execute`, by a process that is killed, so that what it wrote stays in the write-ahead log."""

    def work() -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None)
        for statement in statements:
            connection.execute(statement)
        return connection

    dies_after(work)


# Founding


@pytest.fixture(params=[0o000, 0o022, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_directories_and_files_are_for_their_owner_alone_whatever_the_umask(tmp_path: Path, umask: int, open_at: OpenAt) -> None:
    path = tmp_path / "new" / "newer" / "skyclaw.db"
    fill(open_at(path), 3)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "new").rglob("*")}
    assert modes.pop("newer") == stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert modes == dict.fromkeys(["skyclaw.db", "skyclaw.db-wal", "skyclaw.db-shm", "skyclaw.db.lock"], 0o600)


def test_an_existing_directory_keeps_its_mode(tmp_path: Path, open_at: OpenAt) -> None:
    tmp_path.chmod(0o750)
    open_at(tmp_path / "skyclaw.db")
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


def test_a_database_is_the_same_replica_whenever_it_is_opened(path: Path, open_at: OpenAt) -> None:
    first = open_at(path)
    records = fill(first, 30)
    first.close()
    again = open_at(path)
    assert (again.node, again.log) == (first.node, first.log)
    assert everything(again) == records
    records += fill(again, 5)
    assert everything(again) == records


def test_promises_and_replaced_ends_outlive_the_process(path: Path) -> None:
    def work() -> SqliteEventLog:
        store = open_sqlite(path, "here")
        first = fill(store, 9)
        store.write([Write(store.log, 5, grown(store.log, 2, head_of(first[:4]), '{"kind":"other"}'))], {store.log: "0.1.x", "b": "0.2.y"})
        store.write([], {store.log: "0.3.z"})
        return store

    dies_after(work)
    for _ in range(2):  # beside the file, then in it
        with closing(open_sqlite(path, "here")) as store:
            records = everything(store)
            assert store.promises() == {store.log: "0.3.z", "b": "0.2.y"}
            assert [record.data for record in records] == ['{"kind":"shell"}'] * 4 + ['{"kind":"other"}'] * 2
            assert store.logs() == [store.log]


@pytest.mark.parametrize("name", ["with blanks.db", "odd?mode=ro#%41.db", "\u00fc\u2603.db", "no-suffix"])
def test_a_database_may_have_any_name(tmp_path: Path, name: str) -> None:
    _founded(tmp_path / name)
    _founded(tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    with closing(open_sqlite(tmp_path / name, "here")) as store:
        assert len(everything(store)) == 10


def test_a_closed_database_is_one_file(path: Path) -> None:
    _founded(path)
    assert [file.name for file in path.parent.iterdir()] == ["skyclaw.db"]


def test_founding_and_opening_are_logged(path: Path, open_at: OpenAt, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    store = open_at(path)
    assert f"database_founded path={path} node={store.node} log={store.log} was_empty_file=False" in caplog.messages
    assert f"database_opened path={path} node={store.node} log={store.log} read_only=False" in caplog.messages


def test_an_empty_file_becomes_a_database(path: Path, open_at: OpenAt, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path.touch()
    store = open_at(path)
    records = fill(store, 3)
    assert everything(store) == records
    assert any(message.startswith(f"database_founded path={path} ") and "was_empty_file=True" in message for message in caplog.messages)


def test_an_empty_file_beside_the_events_of_a_lost_one_is_refused(path: Path, open_at: OpenAt) -> None:
    """SQLite would take the old write-ahead log for the new database's own."""
    path.with_name("skyclaw.db-wal").write_bytes(b"x" * 5000)
    path.touch()
    before = _contents(path.parent)
    with pytest.raises(DatabaseDamaged, match=r"skyclaw.db is empty or gone, but skyclaw.db-wal .*; restore a backup"):
        open_at(path)
    path.unlink()
    with pytest.raises(DatabaseDamaged):
        open_at(path)
    assert before.items() > _contents(path.parent).items()


def test_the_tables_are_those_that_every_version_has_written(path: Path) -> None:
    """Whoever changes them must raise the schema's version; a newer SQLAlchemy that writes other ones would refuse every database."""
    _founded(path)
    with closing(sqlite3.connect(path)) as connection:
        shape = {
            name: [tuple(row) for row in connection.execute('SELECT name, type, "notnull", pk FROM pragma_table_info(?)', [name])]
            for name in METADATA.tables
        }
        indexes = dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"))
        pragmas = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version", "journal_mode")]
    text, number, blob = "TEXT", "BIGINT", "BLOB"
    assert shape == {
        "event": [
            ("log", text, 1, 1),
            ("seq", number, 1, 2),
            ("epoch", text, 1, 0),
            ("stream", text, 1, 0),
            ("type", text, 1, 0),
            ("version", "INTEGER", 1, 0),
            ("at", number, 1, 0),
            ("data", text, 1, 0),
            ("hash", blob, 1, 0),
        ],
        "snapshot": [
            ("log", text, 1, 1),
            ("number", number, 1, 2),
            ("seq", number, 1, 0),
            ("epoch", text, 1, 0),
            ("hash", blob, 1, 0),
            ("checksum", blob, 1, 0),
        ],
        "snapshot_part": [
            ("log", text, 1, 1),
            ("number", number, 1, 2),
            ("position", "INTEGER", 1, 3),
            ("data", text, 1, 0),
            ("checksum", blob, 1, 0),
        ],
        "progress": [("log", text, 1, 1), ("seq", number, 1, 0), ("hash", blob, 1, 0)],
        "promise": [("log", text, 1, 1), ("epoch", text, 1, 0)],
        "identity": [("node", text, 1, 1), ("log", text, 1, 0), ("checksum", blob, 1, 0), ("promised", blob, 1, 0)],
    }
    assert indexes == {
        "event_by_stream": "CREATE INDEX event_by_stream ON event (stream, seq)",
        "event_by_type": "CREATE INDEX event_by_type ON event (log, type, seq)",
    }
    assert pragmas == [0x536B7963, 1, "wal"]


# Statements


def _statements(store: SqliteEventLog, work: Callable[[], object]) -> list[str]:
    """The first words of what the writer is told."""
    said: list[str] = []
    store._database._writer.set_trace_callback(said.append)
    work()
    store._database._writer.set_trace_callback(None)
    return [" ".join(statement.split()[:2]) for statement in said]


def test_a_plain_append_is_one_statement(path: Path, open_at: OpenAt) -> None:
    """In autocommit: the hot path of the whole system."""
    store = open_at(path)
    records, other = grown(store.log, 300), grown("0therlog", 50)
    assert _statements(store, lambda: store.append(records[:100])) == ["INSERT INTO"]
    assert _statements(store, lambda: store.write([Write(store.log, 101, records[100:200])])) == ["INSERT INTO"]
    both = [Write(store.log, 201, records[200:250]), Write("0therlog", 1, other)]
    assert _statements(store, lambda: store.write(both, {})) == ["INSERT INTO"]
    assert _statements(store, lambda: store.write([])) == []
    assert everything(store) == records[:250]


def test_everything_else_is_one_transaction(path: Path, open_at: OpenAt) -> None:
    store = open_at(path)
    records = grown(store.log, 500)
    many = _statements(store, lambda: store.write([Write(store.log, 1, records[:101])]))
    assert many == ["BEGIN IMMEDIATE", *["INSERT INTO"] * 2, "COMMIT"]
    replacing = _statements(store, lambda: store.write([Write(store.log, 50, records[49:])]))
    assert replacing == ["BEGIN IMMEDIATE", *["DELETE FROM"] * 2, *["INSERT INTO"] * 5, "COMMIT"]
    promising = _statements(store, lambda: store.write([], {store.log: "0.1.x"}))
    assert (promising[0], promising[-1]) == ("BEGIN IMMEDIATE", "COMMIT")
    assert everything(store) == records


# Connections


def _careless_connect(*args: object, **options: object) -> sqlite3.Connection:
    """SQLite as somebody may have built it, with other defaults."""
    connection = _connect(*args, **options)  # type: ignore[call-overload]
    for pragma in ("synchronous=OFF", "foreign_keys=OFF", "cell_size_check=OFF", "trusted_schema=ON", "busy_timeout=0"):
        connection.execute(f"PRAGMA {pragma}")
    return connection  # type: ignore[no-any-return]


def test_every_connection_is_durable_and_patient(path: Path, open_at: OpenAt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at each connection that leaves a pool, the writer's and those of more readers at a time than the pool keeps."""
    _founded(path)
    monkeypatch.setattr(sqlite3, "connect", _careless_connect)
    wanted = {"synchronous": 2, "journal_mode": "wal", "busy_timeout": 5000, "foreign_keys": 1, "cell_size_check": 1, "trusted_schema": 0}
    seen: list[dict[str, object]] = []
    together = threading.Barrier(database.IDLE_READERS + 4, timeout=10)

    def look(connection: sqlite3.Connection, *_: object) -> None:
        seen.append({name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in wanted})
        if len(seen) > 1:
            together.wait()

    event.listen(Pool, "checkout", look)
    try:
        store = open_at(path)
        assert len(seen) == 1
        readers = [threading.Thread(target=store.head, args=(store.log,)) for _ in range(together.parties)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    finally:
        event.remove(Pool, "checkout", look)
    assert seen == [wanted] * (1 + together.parties)


def test_what_is_rare_is_not_sought_in_the_whole_log(path: Path, open_at: OpenAt) -> None:
    """Counts SQLite's steps, a thousand at a time."""
    store, thousands = open_at(path), list[int]()
    records = fill(store, 2000, at_once=1000)
    store.append(grown("0therlog", 3))

    def count(connection: sqlite3.Connection, *_: object) -> None:
        connection.set_progress_handler(lambda: thousands.append(1), 1000)

    event.listen(Pool, "checkout", count)
    try:
        assert store.newest(store.log, ["JobFailed", "JobCancelled"], None, 100) == []
        assert store.logs() == [store.log, "0therlog"]
        assert store.records(store.log, 1990, 5, 99_999) == records[1990:1995]
        assert store.head_at(store.log, 1000) == head_of(records[:1000])
        assert thousands == []
        assert len(everything(store)) == 2000
        assert len(thousands) > 10
    finally:
        event.remove(Pool, "checkout", count)


def test_a_long_log_of_large_events_is_read_in_a_few_megabytes(path: Path, open_at: OpenAt) -> None:
    store = open_at(path)
    fill(store, 60, data=f'"{"x" * 500_000}"')
    tracemalloc.start()
    try:
        assert sum(1 for _ in store.tail(store.log, 0)) == 60
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


# Refusals: each with one sentence, the file and its surroundings as they were


def _of_another_program(path: Path) -> None:
    _execute(path, "PRAGMA application_id = 1196444487", "CREATE TABLE t(x)")


def _of_nobody(path: Path) -> None:
    _execute(path, "CREATE TABLE t(x)")


def _of_another_program_that_died(path: Path) -> None:
    _left_open(path, "PRAGMA journal_mode=WAL", "CREATE TABLE t(x)", "INSERT INTO t VALUES (1)")
    assert path.with_name("skyclaw.db-wal").stat().st_size


def _newer(path: Path) -> None:
    _execute(_founded(path), "PRAGMA user_version = 2")


def _cut_short(path: Path) -> None:
    os.truncate(_founded(path), path.stat().st_size - 5000)


def _almost_nothing(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0")


def _page_lost(path: Path) -> None:
    content = bytearray(_founded(path).read_bytes())
    content[4096:8192] = bytes(4096)
    path.write_bytes(content)


def _schema_lost(path: Path) -> None:
    content = bytearray(_founded(path).read_bytes())
    content[100:4096] = bytes(3996)
    path.write_bytes(content)


def _table_lost(path: Path) -> None:
    _execute(_founded(path), "DROP TABLE snapshot_part")


def _identity_lost(path: Path) -> None:
    _execute(_founded(path), "DELETE FROM identity")


def _identity_doubled(path: Path) -> None:
    _execute(_founded(path), "INSERT INTO identity SELECT 'x', log, checksum, promised FROM identity")


def _identity_changed(path: Path) -> None:
    _execute(_founded(path), "UPDATE identity SET log = 'abcdabcd'")


def _promised(path: Path) -> Path:
    """A closed database with promises of two logs."""
    store = open_sqlite(path, "here")
    store.write([], {"aaaaaaaa": "0.1.x", "bbbbbbbb": "0.2.y"})
    store.close()
    return path


def _promise_lost(path: Path) -> None:
    _execute(_promised(path), "DELETE FROM promise WHERE log = 'bbbbbbbb'")


def _promises_lost(path: Path) -> None:
    _execute(_promised(path), "DELETE FROM promise")


def _promise_added(path: Path) -> None:
    _execute(_founded(path), "INSERT INTO promise VALUES ('aaaaaaaa', '0.9.x')")


def _promise_of_nothing_added(path: Path) -> None:
    _execute(_founded(path), "INSERT INTO promise VALUES ('', '')")


def _promise_changed(path: Path) -> None:
    _execute(_promised(path), "UPDATE promise SET epoch = '0.1.y' WHERE log = 'bbbbbbbb'")


def _promises_exchanged(path: Path) -> None:
    _execute(_promised(path), "UPDATE promise SET epoch = CASE epoch WHEN '0.1.x' THEN '0.2.y' ELSE '0.1.x' END")


def _promise_of_another_log(path: Path) -> None:
    _execute(_promised(path), "UPDATE promise SET log = 'cccccccc' WHERE log = 'bbbbbbbb'")


def _promise_that_is_no_text(path: Path) -> None:
    _execute(_promised(path), "UPDATE promise SET epoch = CAST(x'ff80' AS TEXT) WHERE log = 'bbbbbbbb'")


@pytest.mark.parametrize(
    ("make", "refusal", "sentence"),
    [
        (Path.mkdir, DatabaseUnusable, "is a directory: name a file in it instead"),
        (os.mkfifo, DatabaseUnusable, "is not a regular file: name another file"),
        (
            lambda path: path.write_text("hello\n" * 100),
            DatabaseDamaged,
            "is not an SQLite file.*; restore a backup, or start with an empty",
        ),
        (_almost_nothing, DatabaseDamaged, "truncated.*; restore a backup, or start with an empty database beside living peers"),
        (_cut_short, DatabaseDamaged, "database is damaged: .*malformed.*; restore a backup, or start with an empty"),
        (_page_lost, DatabaseDamaged, "database is damaged: .*malformed.*; restore a backup, or start with an empty"),
        (_schema_lost, DatabaseDamaged, "database is damaged: .*; restore a backup, or start with an empty"),
        (_table_lost, DatabaseDamaged, "does not have the tables it should have; restore a backup, or start with an empty"),
        (_identity_lost, DatabaseDamaged, "does not say whose it is; restore a backup, or start with an empty"),
        (_identity_doubled, DatabaseDamaged, "does not say whose it is; restore a backup, or start with an empty"),
        (_identity_changed, DatabaseDamaged, "does not say whose it is; restore a backup, or start with an empty"),
        (_promise_lost, DatabaseDamaged, "does not have the promises that it gave; restore a backup, or start with an empty"),
        (_promises_lost, DatabaseDamaged, "does not have the promises that it gave"),
        (_promise_added, DatabaseDamaged, "does not have the promises that it gave"),
        (_promise_of_nothing_added, DatabaseDamaged, "does not have the promises that it gave"),
        (_promise_changed, DatabaseDamaged, "does not have the promises that it gave"),
        (_promises_exchanged, DatabaseDamaged, "does not have the promises that it gave"),
        (_promise_of_another_log, DatabaseDamaged, "does not have the promises that it gave"),
        (_promise_that_is_no_text, DatabaseDamaged, "database is damaged: .*; restore a backup, or start with an empty"),
        (_of_another_program, DatabaseForeign, "is a database of another program: name another file"),
        (_of_another_program_that_died, DatabaseForeign, "is a database of another program: name another file"),
        (_of_nobody, DatabaseForeign, "is a database of another program: name another file"),
        (_newer, DatabaseNewer, r"was written by a newer Skyclaw \(schema 2, here 1\): upgrade this one"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_used_is_refused_and_left_alone(
    path: Path, make: Callable[[Path], object], refusal: type[StartRefused], sentence: str
) -> None:
    make(path)
    before = _contents(path.parent)
    with pytest.raises(StartRefused, match=sentence) as caught:
        open_sqlite(path, "here")
    assert caught.type is refusal
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert _contents(path.parent) == before


def test_a_newer_version_is_noticed_before_it_has_reached_the_file(path: Path) -> None:
    _left_open(_founded(path), "PRAGMA user_version = 2")
    before = path.read_bytes()
    with pytest.raises(DatabaseNewer):
        open_sqlite(path, "here")
    assert path.read_bytes() == before


def test_the_end_of_a_log_is_told_by_two_witnesses(path: Path) -> None:
    """Nothing follows the last event of a chain, so only the index can tell that it is gone."""
    _founded(path)
    with closing(sqlite3.connect(path)) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'event'").fetchone()[0]
    content = bytearray(path.read_bytes())
    cells = 4096 * (root - 1) + 4
    assert content[cells] == 5
    content[cells] = 4
    path.write_bytes(content)
    with pytest.raises(DatabaseDamaged, match="does not have the end of log"):
        open_sqlite(path, "here")


@pytest.mark.parametrize("parent", ["a file/skyclaw.db", "a file/deeper/skyclaw.db"])
def test_a_file_in_the_place_of_a_directory_is_refused(tmp_path: Path, parent: str) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(DatabaseUnusable, match=r"cannot be used \(Not a directory\): name a file in a directory that you may use"):
        open_sqlite(tmp_path / parent, "here")


def test_a_directory_in_which_nothing_may_be_made_is_refused(open_directory: Path) -> None:
    open_directory.chmod(0o555)
    for name in ("skyclaw.db", "new/skyclaw.db"):
        with pytest.raises(DatabaseUnusable, match=rf"{open_directory}/{name} cannot be .* \(Permission denied\): "):
            in_child(lambda name=name: open_sqlite(open_directory / name, "here"), ORDINARY_USER)
    assert list(open_directory.iterdir()) == []


def test_a_database_that_may_not_be_read_is_refused(open_directory: Path) -> None:
    _founded(open_directory / "skyclaw.db").chmod(0o000)
    with pytest.raises(DatabaseUnusable, match=r"skyclaw.db cannot be read \(Permission denied\): make it readable"):
        in_child(lambda: open_sqlite(open_directory / "skyclaw.db", "here"), ORDINARY_USER)


def test_a_file_system_without_write_ahead_log_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _founded(path)
    monkeypatch.setattr(database, "_pragmas", lambda _read_only: ["journal_mode=DELETE"])
    with pytest.raises(DatabaseUnusable, match=r"journal mode delete\): name a file on a local disk"):
        open_sqlite(path, "here")

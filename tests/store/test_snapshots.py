"""How an SQLite database keeps snapshots: beside the events, in bounded pieces, judged before they are used."""

import itertools
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyclaw.errors import StorageFailed
from skyclaw.store import snapshots
from skyclaw.store.event_log import EMPTY, Head
from skyclaw.store.sqlite import SqliteEventLog, open_sqlite
from tests.store.children import dies_after
from tests.store.histories import everything, fill

OpenAt = Callable[[Path], SqliteEventLog]


@pytest.fixture(autouse=True)
def _small_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a short snapshot has many rows."""
    monkeypatch.setattr(snapshots, "ROW_CHARACTERS", 100)


def _save(store: SqliteEventLog, *parts: str) -> Head:
    """A snapshot behind three more events."""
    fill(store, 3)
    head = store.head(store.log)
    store.save_snapshot(store.log, head, parts)
    return head


def _saved(store: SqliteEventLog) -> tuple[Head, list[str]] | None:
    found = store.snapshot(store.log)
    return (found[0], list(found[1])) if found else None


def _query(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


@settings(max_examples=200, deadline=None)
@given(
    parts=st.lists(st.text(st.characters(exclude_characters="\x1e"), max_size=30) | st.integers(0, 700).map("x".__mul__), max_size=12),
)
def test_parts_are_cut_into_rows_of_one_size_and_joined_again(parts: list[str]) -> None:
    rows = list(snapshots._cut(parts))
    assert [len(row) for row in rows[:-1]] == [snapshots.ROW_CHARACTERS] * (len(rows) - 1)
    assert all(0 < len(row) <= snapshots.ROW_CHARACTERS for row in rows)
    assert list(snapshots._joined(rows)) == parts


def test_a_part_that_is_no_json_text_is_refused(path: Path, open_at: OpenAt) -> None:
    store = open_at(path)
    with pytest.raises(ValueError, match="not a JSON text"):
        _save(store, '"\x1e"')
    assert _saved(store) is None


def test_the_two_newest_snapshots_are_kept_and_nothing_else(path: Path, open_at: OpenAt) -> None:
    store = open_at(path)
    heads = [_save(store, "x" * 250) for _ in range(5)]
    store.save_snapshot("0therlog", EMPTY, ["[]"])
    kept = [("0therlog", 1, 0), (store.log, 4, heads[3].seq), (store.log, 5, heads[4].seq)]
    assert _query(path, "SELECT log, number, seq FROM snapshot ORDER BY log, number") == sorted(kept)
    assert sorted(_query(path, "SELECT log, number, count(*) FROM snapshot_part GROUP BY log, number")) == sorted(
        [("0therlog", 1, 1), (store.log, 4, 3), (store.log, 5, 3)]
    )


def test_a_snapshot_outlives_the_process(path: Path, open_at: OpenAt) -> None:
    store = open_at(path)
    head = _save(store, "[1]", "[2]")
    store.close()
    assert _saved(open_at(path)) == (head, ["[1]", "[2]"])


# Unusable ones


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE snapshot_part SET data = replace(data, 'b', 'c') WHERE number = 2 AND position = 2",
        "UPDATE snapshot_part SET data = x'00' WHERE number = 2 AND position = 2",
        "UPDATE snapshot_part SET checksum = zeroblob(32) WHERE number = 2 AND position = 1",
        "DELETE FROM snapshot_part WHERE number = 2 AND position = 3",
        "DELETE FROM snapshot_part WHERE number = 2 AND position = 2",
        "DELETE FROM snapshot_part WHERE number = 2",
        "UPDATE snapshot SET checksum = zeroblob(32) WHERE number = 2",
        "UPDATE snapshot SET seq = 5 WHERE number = 2",
        "UPDATE snapshot SET seq = 'five' WHERE number = 2",
        "UPDATE snapshot SET epoch = '9.9.x' WHERE number = 2",
        "UPDATE snapshot SET hash = zeroblob(32) WHERE number = 2",
        "UPDATE snapshot_part SET data = CAST(x'ff80' AS TEXT) WHERE number = 2 AND position = 2",
        "UPDATE event SET hash = zeroblob(32) WHERE seq = 6",
        "DELETE FROM event WHERE seq = 6",
    ],
)
def test_an_unusable_snapshot_gives_way_to_the_older_one_and_that_is_logged(
    path: Path, open_at: OpenAt, caplog: pytest.LogCaptureFixture, spoil: str
) -> None:
    with closing(open_sqlite(path, "here")) as store:
        older = _save(store, "a" * 250)
        newer = _save(store, "b" * 250)
        assert _saved(store) == (newer, ["b" * 250])
    _query(path, spoil)
    store = open_at(path)
    assert _saved(store) == (older, ["a" * 250])
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage().split()[0] for record in warnings] == ["snapshot_unusable"]
    assert f"log={store.log} " in warnings[0].getMessage()


def test_without_a_usable_snapshot_there_is_the_whole_log(path: Path, open_at: OpenAt, caplog: pytest.LogCaptureFixture) -> None:
    with closing(open_sqlite(path, "here")) as store:
        _save(store, "a" * 250)
        _save(store, "b" * 250)
        records = everything(store)
    _query(path, "DELETE FROM snapshot_part WHERE position = 2")
    store = open_at(path)
    assert store.snapshot(store.log) is None
    assert everything(store) == records
    assert sum("snapshot_unusable" in message for message in caplog.messages) == 2
    head = _save(store, "[3]")
    assert _saved(store) == (head, ["[3]"])


def test_a_ruined_table_of_snapshots_does_not_keep_the_events_back(path: Path, open_at: OpenAt, caplog: pytest.LogCaptureFixture) -> None:
    with closing(open_sqlite(path, "here")) as store:
        _save(store, "[1]")
        records = everything(store)
    root = _query(path, "SELECT rootpage FROM sqlite_schema WHERE name = 'snapshot'")[0][0]
    assert isinstance(root, int)
    with path.open("r+b") as file:
        file.seek(4096 * (root - 1))
        file.write(bytes(4096))
    store = open_at(path)
    assert store.snapshot(store.log) is None
    assert everything(store) == records
    assert any(message.startswith(f"snapshot_unusable log={store.log} ") for message in caplog.messages)
    with pytest.raises(StorageFailed):
        store.save_snapshot(store.log, store.head(store.log), ["[2]"])


def test_what_a_crash_left_half_written_is_never_used_and_cleared_away_later(path: Path, open_at: OpenAt) -> None:
    with closing(open_sqlite(path, "here")) as store:
        head = _save(store, "[1]")

    def work() -> None:
        def parts() -> Iterator[str]:
            for number in itertools.count():
                if number == 20:
                    os.kill(os.getpid(), 9)
                yield "y" * 250

        store = open_sqlite(path, "there")
        store.save_snapshot(store.log, store.head(store.log), parts())

    dies_after(work)
    store = open_at(path)
    assert _query(path, "SELECT count(*) FROM snapshot_part WHERE number = 2")[0][0] == 50
    assert _saved(store) == (head, ["[1]"])
    head = _save(store, "[2]")
    assert _saved(store) == (head, ["[2]"])
    assert _query(path, "SELECT number, data FROM snapshot_part ORDER BY number") == [(1, "[1]\x1e"), (2, "[2]\x1e")]


def test_a_snapshot_that_is_replaced_while_it_is_read_says_so(path: Path, open_at: OpenAt) -> None:
    store = open_at(path)
    _save(store, *["x" * 100] * 50)
    found = store.snapshot(store.log)
    assert found
    assert next(found[1]) == "x" * 100
    for _ in range(snapshots.KEPT):
        _save(store, "[]")
    with pytest.raises(StorageFailed, match="replaced while it was read"):
        list(found[1])


# Beside the appends


def test_events_are_appended_while_a_snapshot_is_saved(path: Path, open_at: OpenAt) -> None:
    """The snapshot's own maker waits, between two parts, for an append that another thread makes: neither can hold the other up."""
    store = open_at(path)
    head = _save(store, "[0]")
    asked, appended = threading.Semaphore(0), threading.Semaphore(0)

    def parts() -> Iterator[str]:
        for number in range(30):
            asked.release()
            assert appended.acquire(timeout=10)
            yield f"{number}{'x' * 300}"

    saver = threading.Thread(target=store.save_snapshot, args=(store.log, head, parts()))
    saver.start()
    for _ in range(30):
        assert asked.acquire(timeout=10)
        fill(store, 2)
        appended.release()
    saver.join(10)
    assert _saved(store) == (head, [f"{number}{'x' * 300}" for number in range(30)])
    assert len(everything(store)) == 63


def test_a_large_snapshot_lets_many_appends_through(path: Path, open_at: OpenAt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Appends, one after the other, all the while that twenty megabytes are saved."""
    monkeypatch.setattr(snapshots, "ROW_CHARACTERS", 256 * 1024)
    store = open_at(path)
    saver = threading.Thread(target=store.save_snapshot, args=(store.log, _save(store, "[0]"), ["x" * 1_000_000] * 20))
    saver.start()
    appends = 0
    while saver.is_alive():
        fill(store, 1)
        appends += 1
    assert appends > 20
    assert len(everything(store)) == 3 + appends


def test_a_large_snapshot_is_moved_into_the_file_bit_by_bit(path: Path, open_at: OpenAt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would all lie in the write-ahead log, for an append to move."""
    monkeypatch.setattr(snapshots, "ROW_CHARACTERS", 256 * 1024)
    store = open_at(path)
    _save(store, *["x" * 1_000_000] * 20)
    assert path.stat().st_size > 15_000_000
    assert path.with_name("skyclaw.db-wal").stat().st_size < 10_000_000

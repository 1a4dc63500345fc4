"""A damaged database is refused or named, and never read as if nothing had happened."""

import random
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from skyclaw.errors import DatabaseDamaged, DatabaseUnusable, StorageFailed
from skyclaw.records import Record
from skyclaw.store.event_log import Write
from skyclaw.store.sqlite import SqliteEventLog, open_sqlite
from tests.store.children import dies_after
from tests.store.histories import TYPES, everything, fill, grown, head_of

OpenAt = Callable[[Path], SqliteEventLog]
PAGE = 4096  # bytes
SNAPSHOT = ['{"jobs":[]}', "[]"]
PROMISES = {"aaaaaaaa": "0.1.node-a#01234567", "bbbbbbbb": "0.2.node-b#89abcdef"}


@dataclass(frozen=True)
class Original:
    """A sound database, and what must be read from it or not at all, as must `PROMISES`."""

    content: bytes
    node: str
    log: str
    records: list[Record]
    promises: dict[str, str]


@pytest.fixture
def original(path: Path) -> Original:
    """Forty events on several pages, a snapshot and promises."""
    store = open_sqlite(path, "here")
    records = fill(store, 40)
    store.write([], PROMISES)
    store.save_snapshot(store.log, store.head(store.log), SNAPSHOT)
    store.close()
    return Original(path.read_bytes(), store.node, store.log, records, PROMISES)


def _read(path: Path, original: Original) -> list[Record] | None:
    """All that the database tells; None when it is refused, or named as damaged while it is read."""
    try:
        store = open_sqlite(path, "here")
    except DatabaseUnusable:
        return None
    try:
        records = list(store.tail(original.log, 0))
        assert (store.node, store.log) == (original.node, original.log)
        assert store.promises() == original.promises
        found = store.snapshot(original.log)
        assert found is None or (found[0], list(found[1])) == (head_of(original.records), SNAPSHOT)
    except DatabaseUnusable:
        return None
    else:
        return records
    finally:
        store.close()


def _flips(content: bytes) -> Iterable[tuple[int, int]]:
    """Places and changes: where SQLite keeps its books, every byte; elsewhere, some."""
    chance = random.Random(3)  # noqa: S311
    books = [*range(100), *(page + byte for page in range(0, len(content), PAGE) for byte in range(12))]
    for place in books + chance.sample(range(len(content)), 150):
        yield place, chance.randrange(1, 256)


def test_no_flipped_byte_is_read_as_something_else(path: Path, original: Original) -> None:
    sound = 0
    for place, change in _flips(original.content):
        content = bytearray(original.content)
        content[place] ^= change
        path.write_bytes(content)
        records = _read(path, original)
        assert records in (None, original.records), f"byte {place} changed by {change}: {len(records or [])} events were read"
        sound += records is not None
    assert sound > 0  # what lies between the rows may change without harm


@pytest.mark.parametrize("length", [1, 99, 100, 512, 4095, 4096, 5000, 8192, 12288, 20480, -4096, -1])
def test_a_truncated_file_is_not_read_as_if_it_were_whole(path: Path, original: Original, length: int) -> None:
    path.write_bytes(original.content[:length])
    assert _read(path, original) is None


def test_no_page_may_be_lost(path: Path, original: Original) -> None:
    for start in range(0, len(original.content), PAGE):
        for filling in (bytes(PAGE), b"\xff" * PAGE, original.content[PAGE : 2 * PAGE]):
            path.write_bytes(original.content[:start] + filling + original.content[start + PAGE :])
            assert _read(path, original) in (None, original.records)


def test_a_flip_in_what_a_crash_left_beside_the_file_shortens_the_log_at_worst(path: Path) -> None:
    """SQLite takes a write-ahead log up to the first frame that is not whole, as it must after a power cut."""

    def work() -> SqliteEventLog:
        store = open_sqlite(path, "there")
        fill(store, 30)
        return store

    dies_after(work)
    beside = path.with_name("skyclaw.db-wal")
    main, content, chance = path.read_bytes(), beside.read_bytes(), random.Random(5)  # noqa: S311
    with closing(open_sqlite(path, "here")) as store:
        log, records = store.log, everything(store)
    assert len(records) == 30
    for place in [*range(32), *chance.sample(range(len(content)), 40)]:
        path.write_bytes(main)
        beside.write_bytes(content[:place] + bytes([content[place] ^ chance.randrange(1, 256)]) + content[place + 1 :])
        with closing(open_sqlite(path, "here")) as store:
            read = list(store.tail(log, 0))
        assert read == records[: len(read)]
        assert len(read) % 10 == 0


def test_a_row_that_seems_to_belong_to_another_log_is_missed(path: Path) -> None:
    """A walk through the rows of one log ends where the next log seems to begin; the last row is still where it should be."""
    with closing(open_sqlite(path, "here")) as store:
        records = fill(store, 10)
    with closing(sqlite3.connect(path)) as connection:
        start = PAGE * (connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'event'").fetchone()[0] - 1)
    whole = path.read_bytes()
    original = Original(whole, store.node, store.log, records, {})
    places = [match.start() for match in re.finditer(store.log.encode(), whole) if start <= match.start() < start + PAGE]
    assert len(places) == len(records)
    for place in places:
        path.write_bytes(whole[:place] + b"~" + whole[place + 1 :])
        assert _read(path, original) is None


def test_no_byte_of_the_promises_may_change(path: Path, original: Original) -> None:
    with closing(sqlite3.connect(path)) as connection:
        start = PAGE * (connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'promise'").fetchone()[0] - 1)
    content, chance = original.content, random.Random(9)  # noqa: S311
    cells = content.index(b"bbbbbbbb", start) - 8
    refused = 0
    for place in [*range(start, start + 16), *range(cells, start + PAGE)]:
        path.write_bytes(content[:place] + bytes([content[place] ^ chance.randrange(1, 256)]) + content[place + 1 :])
        records = _read(path, original)
        assert records in (None, original.records)
        refused += records is None
    assert refused > len(PROMISES) * len("aaaaaaaa0.1.node-a#01234567")


def test_no_record_of_a_rare_type_is_missed_because_of_its_index(path: Path, original: Original) -> None:
    """Nothing else would miss it: the chain is whole without the index."""
    with closing(sqlite3.connect(path)) as connection:
        start = PAGE * (connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'event_by_type'").fetchone()[0] - 1)
    content, chance = original.content, random.Random(17)  # noqa: S311
    first = start + int.from_bytes(content[start + 5 : start + 7], "big")
    wanted = [record for record in original.records if record.type == TYPES[2]]
    outcomes = Counter[str]()
    for place in chance.sample([*range(start, start + 80), *range(first, start + PAGE)], 200):
        path.write_bytes(content[:place] + bytes([content[place] ^ chance.randrange(1, 256)]) + content[place + 1 :])
        try:
            with closing(open_sqlite(path, "here")) as store:
                assert store.of_types(original.log, TYPES[2:]) == wanted, f"byte {place - start} of the page"
                outcomes.update(["right"])
        except DatabaseUnusable as refused:
            outcomes.update(["named" if "index of types" in str(refused) else "refused"])
    assert min(outcomes["named"], outcomes["refused"]) > 20


def test_damage_that_sqlite_cannot_even_quote_is_damage(path: Path, original: Original) -> None:
    path.write_bytes(original.content.replace(b"CREATE TABLE identity", b"CRE\xc1TE TABLE identity"))
    with pytest.raises(DatabaseDamaged, match="database is damaged: "):
        open_sqlite(path, "here")


# Rows that somebody changed: SQLite sees nothing wrong with them


CHANGES = {
    "a changed letter": ("UPDATE event SET data = replace(data, 'shell', 'shelf') WHERE seq = 17", 17),
    "a lost row": ("DELETE FROM event WHERE seq = 17", 17),
    "a lost first row": ("DELETE FROM event WHERE seq = 1", 1),
    "a row of another log": ("UPDATE event SET log = 'zzzzzzzz' WHERE seq = 17", 17),
    "another stream": ("UPDATE event SET stream = 'job_b' WHERE seq = 16", 16),
    "another time": ("UPDATE event SET at = at + 1 WHERE seq = 17", 17),
    "another epoch": ("UPDATE event SET epoch = '0.2.node#1' WHERE seq = 40", 40),
    "another hash": ("UPDATE event SET hash = zeroblob(32) WHERE seq = 17", 17),
    "a hash that is text": ("UPDATE event SET hash = 'hash' WHERE seq = 17", 17),
    "data that is a blob": ("UPDATE event SET data = x'00' WHERE seq = 17", 17),
    "a time that is a blob": ("UPDATE event SET at = x'00' WHERE seq = 17", 17),
    "text that is not UTF-8": ("UPDATE event SET data = CAST(x'ff80' AS TEXT) WHERE seq = 17", None),
}


@pytest.mark.parametrize(("statement", "seq"), CHANGES.values(), ids=CHANGES)
def test_a_row_that_was_changed_behind_our_back_is_named(
    path: Path, original: Original, open_at: OpenAt, statement: str, seq: int | None
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute(statement).rowcount == 1
    store = open_at(path)
    read: list[Record] = []
    with pytest.raises(DatabaseDamaged, match=r"database is damaged: .*; restore a backup, or start with an empty database") as caught:
        read.extend(store.tail(original.log, 0))
    assert str(path) in str(caught.value)
    if seq is not None:
        assert caught.value.details == {"log": original.log, "seq": seq}
        assert f"event {original.log}/{seq} " in str(caught.value)


def test_two_rows_that_changed_places_are_found(path: Path, original: Original, open_at: OpenAt) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for old, new in ((17, -1), (20, 17), (-1, 20)):
            connection.execute("UPDATE event SET seq = ? WHERE seq = ?", (new, old))
        connection.commit()
    with pytest.raises(DatabaseDamaged, match=f"event {original.log}/17 "):
        everything(open_at(path))


def test_a_stream_with_a_changed_event_is_not_told(path: Path, original: Original, open_at: OpenAt) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE event SET data = '{}' WHERE seq = 16")
    store = open_at(path)
    assert original.records[15].stream == "job_a"
    with pytest.raises(DatabaseDamaged, match=f"event {original.log}/16 "):
        store.stream("job_a")
    assert store.stream("job_a", 15) == [record for record in original.records[:15] if record.stream == "job_a"]


# Damage that comes while the database is open


def test_promises_that_were_changed_are_neither_told_nor_added_to(path: Path, original: Original, open_at: OpenAt) -> None:
    """A new checksum would make the damage look sound."""
    store = open_at(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM promise WHERE log = 'bbbbbbbb'")
    with pytest.raises(DatabaseDamaged, match="does not have the promises that it gave"):
        store.promises()
    with pytest.raises(StorageFailed, match=r"does not have the promises that it gave.*; nothing was written"):
        store.write([Write(store.log, 41, grown(store.log, 1, head_of(original.records)))], {"cccccccc": "0.1.x"})
    assert everything(store) == original.records
    store.close()
    with pytest.raises(DatabaseDamaged, match="does not have the promises that it gave"):
        open_sqlite(path, "here")


def test_a_page_that_ends_where_a_row_was_lost_is_damage(path: Path, original: Original, open_at: OpenAt) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM event WHERE seq = 17")
    store = open_at(path)
    for after in (10, 15):
        with pytest.raises(DatabaseDamaged, match=f"event {original.log}/17 "):
            store.records(original.log, after, 9, 99_999)
    assert store.records(original.log, 10, 6, 99_999) == original.records[10:16]
    with pytest.raises(DatabaseDamaged, match=f"event {original.log}/17 "):
        store.head_at(original.log, 17)


def _emptied_of_cached_pages(store: SqliteEventLog) -> SqliteEventLog:
    """Readers keep pages in memory; new ones have to look at the file."""
    store._database._engine.dispose()
    return store


@pytest.mark.parametrize("spoil", [lambda content: b"\xff" * len(content), lambda content: content[: 2 * PAGE]], ids=["garbage", "shorter"])
def test_a_file_that_is_spoilt_while_it_is_open_is_named(
    path: Path, original: Original, open_at: OpenAt, spoil: Callable[[bytes], bytes]
) -> None:
    store = open_at(path)
    path.write_bytes(spoil(original.content))
    _emptied_of_cached_pages(store)
    for read in (lambda: everything(store), lambda: store.head(store.log), lambda: store.stream("job_a")):
        with pytest.raises(DatabaseDamaged, match=f"database is damaged: {path} cannot be read .*; restore a backup"):
            read()
    with pytest.raises(StorageFailed):
        store.append(grown(store.log, 1, head_of(original.records)))
    path.write_bytes(original.content)

"""What every event store promises, whatever it is made of."""

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skyclaw.errors import DatabaseDamaged, StorageFailed
from skyclaw.records import GENESIS_HASH, Record, sealed
from skyclaw.store.event_log import EMPTY, EventLog, Head
from tests.store.histories import STREAMS, TYPES, everything, fill, grown, head_of

NewStore = Callable[[Path], EventLog]

few = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


# Founding


def test_a_new_store_has_a_name_a_log_and_no_events(event_log: EventLog) -> None:
    assert re.fullmatch(r"here#[0-9a-f]{8}", event_log.node)
    assert re.fullmatch(r"[0-9a-f]{8}", event_log.log)
    assert event_log.head(event_log.log) == EMPTY == Head(0, "", GENESIS_HASH)
    assert everything(event_log) == []
    assert event_log.newest(event_log.log, TYPES, None, 10) == []
    assert event_log.snapshot(event_log.log) is None
    assert not event_log.read_only


def test_no_two_stores_are_the_same_replica(new_store: NewStore, tmp_path: Path) -> None:
    stores = [new_store(tmp_path / name) for name in ("one", "other")]
    for store in stores:
        store.close()
    assert len({store.node for store in stores}) == len({store.log for store in stores}) == 2


# Appending


@few
@given(
    texts=st.lists(st.tuples(texts, texts, texts, texts), max_size=12),
    numbers=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=12, max_size=12),
    at_once=st.integers(1, 5),
)
def test_what_is_appended_is_read_back_to_the_letter(
    new_store: NewStore, texts: list[tuple[str, str, str, str]], numbers: list[int], at_once: int
) -> None:
    with TemporaryDirectory() as directory:
        store = new_store(Path(directory))
        records: list[Record] = []
        for seq, ((epoch, stream, kind, data), at) in enumerate(zip(texts, numbers, strict=False), 1):
            records.append(sealed(head_of(records).hash, Record(store.log, seq, epoch, stream, kind, 1, at, data)))
        for start in range(0, len(records), at_once):
            store.append(records[start : start + at_once])
        assert everything(store) == records
        assert store.head(store.log) == head_of(records)
        for stream in {record.stream for record in records}:
            assert store.stream(stream) == [record for record in records if record.stream == stream]
        store.close()


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250, 1000])
def test_a_batch_may_have_any_size(event_log: EventLog, count: int) -> None:
    records = fill(event_log, count, at_once=count)
    assert everything(event_log) == records
    assert event_log.head(event_log.log) == head_of(records)


def test_large_records_are_read_back_whole_and_in_order(event_log: EventLog) -> None:
    records = fill(event_log, 12, data=f'{{"stdout":"{"x" * 1_000_000}"}}', at_once=3)
    assert everything(event_log) == records


def test_an_empty_batch_changes_nothing(event_log: EventLog) -> None:
    event_log.append([])
    assert event_log.head(event_log.log) == EMPTY


def test_one_batch_may_serve_several_logs(event_log: EventLog) -> None:
    mine, other = grown(event_log.log, 3), grown("0therlog", 2, streams=["job_x"])
    event_log.append([mine[0], other[0], mine[1], other[1], mine[2]])
    assert everything(event_log) == mine
    assert list(event_log.tail("0therlog", 0)) == other
    assert event_log.head("0therlog") == head_of(other)
    assert event_log.stream("job_x") == other


def test_a_stream_that_occurs_in_two_logs_is_told_log_by_log(event_log: EventLog) -> None:
    logs = {name: grown(name, 4, streams=["host_c"]) for name in ("aaaaaaaa", "bbbbbbbb")}
    for record, other in zip(logs["bbbbbbbb"], logs["aaaaaaaa"], strict=True):
        event_log.append([record, other])
    assert event_log.stream("host_c") == logs["aaaaaaaa"] + logs["bbbbbbbb"]


@pytest.mark.parametrize("keep", [[1, 2], [0, 2], [0, 0], [0, 2, 1]], ids=["late start", "gap", "repetition", "exchange"])
def test_a_batch_that_does_not_follow_the_head_is_refused_whole(event_log: EventLog, keep: list[int]) -> None:
    before = fill(event_log, 7)
    records = grown(event_log.log, 3, head_of(before))
    with pytest.raises(ValueError, match=r"does not follow position"):
        event_log.append([records[index] for index in keep])
    assert everything(event_log) == before
    event_log.append(records)
    assert everything(event_log) == before + records


def test_readers_beside_a_writer_see_whole_batches_only(event_log: EventLog) -> None:
    """Three threads read all the while; nobody waits for anybody."""
    records = grown(event_log.log, 300)
    done, torn = threading.Event(), list[str]()

    def read() -> None:
        seen = 0
        while seen < len(records) and not torn:
            ended = done.is_set()
            head, tail, stream = event_log.head(event_log.log).seq, everything(event_log), event_log.stream(STREAMS[0])
            if head % 5 or len(tail) % 5 or not seen <= head <= len(tail) or tail != records[: len(tail)]:
                torn.append(f"head {head}, tail {len(tail)}, seen {seen}")
            if ended and (len(tail) != len(records) or len(stream) != len(records) // len(STREAMS)):
                torn.append(f"at the end: tail {len(tail)}, stream {len(stream)}")
            seen = len(tail)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for start in range(0, len(records), 5):
        event_log.append(records[start : start + 5])
    done.set()
    for reader in readers:
        reader.join(30)
    assert not torn
    assert not any(reader.is_alive() for reader in readers)


# The tail


@pytest.mark.parametrize("after", [0, 1, 6, 7])
def test_the_tail_begins_behind_the_given_position(event_log: EventLog, after: int) -> None:
    records = fill(event_log, 7)
    assert list(event_log.tail(event_log.log, after)) == records[after:]


def test_the_tail_catches_up_with_what_is_appended_meanwhile(event_log: EventLog) -> None:
    first = fill(event_log, 3)
    tail = event_log.tail(event_log.log, 3)
    second = fill(event_log, 4)
    assert list(tail) == second
    assert everything(event_log) == first + second


def test_a_tail_behind_the_end_of_the_log_is_damage(event_log: EventLog) -> None:
    fill(event_log, 3)
    with pytest.raises(DatabaseDamaged, match=f"event {event_log.log}/9 ") as caught:
        list(event_log.tail(event_log.log, 9))
    assert caught.value.details == {"log": event_log.log, "seq": 9}


@pytest.mark.parametrize(
    "changes",
    [
        {"data": "{}"},
        {"epoch": "9.9.x"},
        {"stream": "job_b!"},
        {"type": "X"},
        {"version": 2},
        {"at": 0},
        {"hash": bytes(32)},
        {"hash": b""},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_record_that_does_not_fit_its_hash_is_named_and_not_handed_out(event_log: EventLog, changes: dict[str, object]) -> None:
    records = grown(event_log.log, 9)
    records[4] = replace(records[4], **changes)  # type: ignore[arg-type]
    event_log.append(records)
    tail = event_log.tail(event_log.log, 0)
    assert [next(tail) for _ in range(4)] == records[:4]
    with pytest.raises(DatabaseDamaged, match=f"event {event_log.log}/5 .*restore a backup") as caught:
        next(tail)
    assert caught.value.details == {"log": event_log.log, "seq": 5}
    with pytest.raises(DatabaseDamaged, match=f"event {event_log.log}/5 "):
        event_log.stream(records[4].stream)


def test_a_record_that_was_sealed_to_another_predecessor_is_named(event_log: EventLog) -> None:
    records = grown(event_log.log, 5)
    records[2] = sealed(b"another", records[2])
    event_log.append(records)
    with pytest.raises(DatabaseDamaged, match=f"event {event_log.log}/3 "):
        list(event_log.tail(event_log.log, 1))
    with pytest.raises(DatabaseDamaged, match=f"event {event_log.log}/4 "):
        list(event_log.tail(event_log.log, 3))


# Streams


def test_a_stream_is_told_in_order_and_up_to_a_position(event_log: EventLog) -> None:
    records = fill(event_log, 20)
    of_a = [record for record in records if record.stream == "job_a"]
    assert event_log.stream("job_a") == of_a
    for until in range(22):
        assert event_log.stream("job_a", until) == [record for record in of_a if record.seq <= until]
    assert event_log.stream("job_nobody") == []


def test_a_stream_is_told_piece_by_piece(event_log: EventLog) -> None:
    of_a = [record for record in fill(event_log, 20) if record.stream == "job_a"]
    for after in range(22):
        later = [record for record in of_a if record.seq > after]
        assert event_log.stream("job_a", after=after) == later
        for limit in range(4):
            assert event_log.stream("job_a", 15, after, limit) == [record for record in later if record.seq <= 15][:limit]


# The newest


@few
@given(
    kinds=st.lists(st.sampled_from("ABC"), max_size=30),
    types=st.lists(st.sampled_from("ABCD"), unique=True),
    before=st.none() | st.integers(0, 32),
    limit=st.integers(1, 10),
)
def test_the_newest_events_of_some_types(new_store: NewStore, kinds: list[str], types: list[str], before: int | None, limit: int) -> None:
    with TemporaryDirectory() as directory:
        store = new_store(Path(directory))
        records = [Record(store.log, seq, "e", f"job_{seq % 4}", kind, 1, 0, "{}") for seq, kind in enumerate(kinds, 1)]
        other = [Record("0therlog", seq, "e", "job_x", kind, 1, 0, "{}") for seq, kind in enumerate(kinds, 1)]
        store.append(records + other)
        fitting = [(r.seq, r.stream) for r in reversed(records) if r.type in types and (before is None or r.seq < before)]
        assert store.newest(store.log, types, before, limit) == fitting[:limit]
        store.close()


def test_a_rare_type_is_found_page_by_page(event_log: EventLog) -> None:
    records = fill(event_log, 40)
    found: list[tuple[int, str]] = []
    while page := event_log.newest(event_log.log, ["JobCompleted"], found[-1][0] if found else None, 4):
        found += page
    assert found == [(record.seq, record.stream) for record in reversed(records) if record.type == "JobCompleted"]
    assert all(newer > older for (newer, _), (older, _) in pairwise(found))


# The last


@few
@given(kinds=st.lists(st.integers(0, 5), max_size=30), asked=st.lists(st.integers(0, 7), max_size=8))
def test_the_last_position_of_some_streams(new_store: NewStore, kinds: list[int], asked: list[int]) -> None:
    with TemporaryDirectory() as directory:
        store = new_store(Path(directory))
        records = [Record(store.log, seq, "e", f"job_{kind}", "A", 1, 0, "{}") for seq, kind in enumerate(kinds, 1)]
        other = [Record("0therlog", seq, "e", f"job_{seq % 7}", "A", 1, 0, "{}") for seq in range(1, 40)]
        store.append(records + other)
        streams = [f"job_{kind}" for kind in asked]
        assert store.last(store.log, streams) == {record.stream: record.seq for record in records if record.stream in streams}
        store.close()


# Snapshots


def _saved(event_log: EventLog) -> tuple[Head, list[str]] | None:
    found = event_log.snapshot(event_log.log)
    return (found[0], list(found[1])) if found else None


@few
@given(parts=st.lists(texts.map(lambda text: text.replace("\x1e", "")) | st.just("x" * 300_000), max_size=5))
def test_a_snapshot_gives_back_its_parts(event_log: EventLog, parts: list[str]) -> None:
    fill(event_log, 2)
    head = event_log.head(event_log.log)
    event_log.save_snapshot(event_log.log, head, iter(parts))
    assert _saved(event_log) == (head, parts)


def test_the_newest_snapshot_is_the_one_that_counts(event_log: EventLog) -> None:
    for number in range(4):
        fill(event_log, 3)
        event_log.save_snapshot(event_log.log, event_log.head(event_log.log), [f"[{number}]"])
        fill(event_log, 1)
        assert _saved(event_log) == (head_of(everything(event_log)[:-1]), [f"[{number}]"])


def test_the_tail_behind_a_snapshot_is_what_it_lacks(event_log: EventLog) -> None:
    fill(event_log, 5)
    event_log.save_snapshot(event_log.log, event_log.head(event_log.log), ["{}"])
    later = fill(event_log, 3)
    found = event_log.snapshot(event_log.log)
    assert found
    assert list(event_log.tail(event_log.log, found[0].seq)) == later


@pytest.mark.parametrize(
    "stray", [Head(2, "0.1.node#1", b"x" * 32), Head(9, "0.1.node#1", b"x" * 32)], ids=["other hash", "behind the end"]
)
def test_a_snapshot_whose_head_is_not_in_the_log_gives_way_to_the_older_one(event_log: EventLog, stray: Head) -> None:
    fill(event_log, 2)
    head = event_log.head(event_log.log)
    event_log.save_snapshot(event_log.log, head, ["[1]"])
    event_log.save_snapshot(event_log.log, stray, ["[2]"])
    assert _saved(event_log) == (head, ["[1]"])


def test_the_snapshots_of_two_logs_are_apart(event_log: EventLog) -> None:
    event_log.save_snapshot("0therlog", EMPTY, ["[2]"])
    assert _saved(event_log) is None
    event_log.save_snapshot(event_log.log, EMPTY, ["[1]"])
    assert _saved(event_log) == (EMPTY, ["[1]"])


def test_a_snapshot_that_fails_while_its_parts_are_made_does_not_count(event_log: EventLog) -> None:
    event_log.save_snapshot(event_log.log, EMPTY, ["[1]"])

    def parts() -> Iterator[str]:
        yield "x" * 600_000
        raise KeyError("no more")

    with pytest.raises(KeyError):
        event_log.save_snapshot(event_log.log, EMPTY, parts())
    assert _saved(event_log) == (EMPTY, ["[1]"])
    event_log.save_snapshot(event_log.log, EMPTY, ["[3]"])
    assert _saved(event_log) == (EMPTY, ["[3]"])


# The end


def test_a_closed_store_serves_nobody_and_may_be_closed_again(event_log: EventLog) -> None:
    records = fill(event_log, 2)
    event_log.close()
    event_log.close()
    for use in (
        lambda: event_log.head(event_log.log),
        lambda: everything(event_log),
        lambda: event_log.stream("job_a"),
        lambda: event_log.newest(event_log.log, TYPES, None, 1),
        lambda: event_log.snapshot(event_log.log),
        lambda: event_log.append(grown(event_log.log, 1, head_of(records))),
        lambda: event_log.save_snapshot(event_log.log, EMPTY, []),
    ):
        with pytest.raises(StorageFailed, match="closed"):
            use()

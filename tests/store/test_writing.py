"""What every event store promises about writes that replace the end of a log, serve several logs, or come with promises."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skyclaw.errors import DatabaseDamaged, StorageFailed
from skyclaw.records import Record
from skyclaw.store.event_log import EMPTY, EventLog, Head, Write
from tests.store.histories import STREAMS, TYPES, everything, fill, grown, head_of

NewStore = Callable[[Path], EventLog]

OTHER = '{"kind":"other"}'
NEW_STREAMS = ("job_b", "job_e", "job_f")


def _other_end(log: str, kept: list[Record], count: int) -> list[Record]:
    """Other records behind those that stay."""
    return grown(log, count, head_of(kept), OTHER, NEW_STREAMS)


def _state(store: EventLog, logs: list[str]) -> object:
    """All that a store tells of these logs."""
    streams = (*STREAMS, *NEW_STREAMS)
    found = {log: store.snapshot(log) for log in logs}
    return (
        store.logs(),
        store.promises(),
        [(store.head(log), list(store.tail(log, 0)), store.newest(log, TYPES, None, 9999), store.last(log, streams)) for log in logs],
        [store.stream(stream) for stream in streams],
        [store.of_types(log, TYPES) for log in logs],
        {log: (snapshot[0], list(snapshot[1])) for log, snapshot in found.items() if snapshot},
    )


def _expect(store: EventLog, logs: dict[str, list[Record]]) -> None:
    """The store tells these logs and nothing else, however it is asked."""
    assert store.logs() == sorted((log for log, records in logs.items() if records), key=lambda log: (log != store.log, log))
    for log, records in logs.items():
        assert store.head(log) == head_of(records)
        assert list(store.tail(log, 0)) == records
        assert store.newest(log, TYPES, None, 9999) == [(record.seq, record.stream) for record in reversed(records)]
        assert store.of_types(log, TYPES) == records
        assert store.last(log, (*STREAMS, *NEW_STREAMS)) == {record.stream: record.seq for record in records}
        assert [store.head_at(log, seq).hash for seq in range(1, len(records) + 1)] == [record.hash for record in records]
        with pytest.raises(DatabaseDamaged, match=f"event {log}/{len(records) + 1} .* is missing"):
            store.head_at(log, len(records) + 1)
    for stream in (*STREAMS, *NEW_STREAMS):
        assert store.stream(stream) == [r for log in sorted(logs) for r in logs[log] if r.stream == stream]


@pytest.mark.parametrize("count", [1, 100, 101, 250])
def test_a_write_behind_the_end_appends(event_log: EventLog, count: int) -> None:
    records = grown(event_log.log, count + 3)
    event_log.write([Write(event_log.log, 1, records[:3])])
    event_log.write([Write(event_log.log, 4, records[3:])])
    _expect(event_log, {event_log.log: records})


@pytest.mark.parametrize(
    ("before", "kept", "count"), [(7, 3, 4), (7, 0, 1), (7, 6, 5), (7, 3, 0), (7, 0, 0), (350, 120, 230), (350, 20, 99)]
)
def test_of_a_replaced_end_there_is_no_trace(event_log: EventLog, before: int, kept: int, count: int) -> None:
    stays = fill(event_log, before, at_once=before)[:kept]
    bystander = grown("0therlog", 5)
    event_log.append(bystander)
    end = _other_end(event_log.log, stays, count)
    event_log.write([Write(event_log.log, kept + 1, end)])
    _expect(event_log, {event_log.log: stays + end, "0therlog": bystander})
    more = _other_end(event_log.log, stays + end, 3)
    event_log.append(more)
    _expect(event_log, {event_log.log: stays + end + more, "0therlog": bystander})


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 8), st.integers(0, 6)), max_size=8))
def test_a_store_tells_what_a_list_would_tell(new_store: NewStore, steps: list[tuple[str, int, int]]) -> None:
    with TemporaryDirectory() as directory:
        store = new_store(Path(directory))
        logs: dict[str, list[Record]] = {"a": [], "b": []}
        for log, kept, count in steps:
            kept = min(kept, len(logs[log]))
            stays = logs[log][:kept]
            end = _other_end(log, stays, count)
            store.write([Write(log, kept + 1, end)])
            logs[log] = stays + end
        _expect(store, logs)
        store.close()


def test_one_write_serves_several_logs_and_keeps_promises(event_log: EventLog) -> None:
    mine, theirs = fill(event_log, 9), grown("0therlog", 4)
    event_log.append(theirs)
    end, third = _other_end(event_log.log, mine[:5], 150), grown("thirdlog", 120)
    more = grown("0therlog", 2, head_of(theirs))
    writes = [Write(event_log.log, 6, end), Write("0therlog", 5, more), Write("thirdlog", 1, third)]
    event_log.write(writes, {event_log.log: "0.2.x", "thirdlog": "0.1.y"})
    _expect(event_log, {event_log.log: mine[:5] + end, "0therlog": theirs + more, "thirdlog": third})
    assert event_log.promises() == {event_log.log: "0.2.x", "thirdlog": "0.1.y"}


def test_a_promise_is_kept_until_another_takes_its_place(event_log: EventLog) -> None:
    assert event_log.promises() == {}
    event_log.write([], {"aaaaaaaa": "0.1.x#1"})
    event_log.write([], {"bbbbbbbb": "0.1.y#2"})
    assert event_log.promises() == {"aaaaaaaa": "0.1.x#1", "bbbbbbbb": "0.1.y#2"}
    event_log.write([], {"cccccccc": "0.4.x#1", "aaaaaaaa": "0.2.z\n\u00fc#3"})
    kept = {"aaaaaaaa": "0.2.z\n\u00fc#3", "bbbbbbbb": "0.1.y#2", "cccccccc": "0.4.x#1"}
    assert event_log.promises() == kept
    event_log.write([Write("aaaaaaaa", 1, grown("aaaaaaaa", 3))])
    event_log.write([], {})
    assert event_log.promises() == kept
    assert event_log.logs() == ["aaaaaaaa"]


def test_how_far_a_log_is_committed_is_known_until_its_end_is_replaced_below_that(event_log: EventLog) -> None:
    kept = fill(event_log, 5)
    assert event_log.committed(event_log.log) == 0
    event_log.note_committed({event_log.log: 3})
    event_log.note_committed({event_log.log: 4})
    assert event_log.committed(event_log.log) == 4
    event_log.write([Write(event_log.log, 5, _other_end(event_log.log, kept[:4], 2))])
    assert event_log.committed(event_log.log) == 4
    event_log.write([Write(event_log.log, 4, _other_end(event_log.log, kept[:3], 3))])
    assert event_log.committed(event_log.log) == 0


def test_the_promises_that_are_told_are_a_copy(event_log: EventLog) -> None:
    event_log.promises()["aaaaaaaa"] = "0.9.x"
    assert event_log.promises() == {}


def _unfit(log: str, mine: list[Record]) -> dict[str, list[Write]]:
    """Writes that do not fit a log with seven records, each beside one that does."""
    end, good = _other_end(log, mine[:3], 3), Write("0therlog", 1, grown("0therlog", 2))
    return {
        "behind a gap": [good, Write(log, 9, grown(log, 10)[8:])],
        "before the first": [good, Write(log, 0, [])],
        "another start": [good, Write(log, 5, end)],
        "a gap": [good, Write(log, 4, [end[0], end[2]])],
        "a repetition": [good, Write(log, 4, [end[0], end[0]])],
        "another log": [good, Write(log, 4, [*end[:2], replace(end[2], log="0therlog")])],
        "twice": [good, Write(log, 4, end), Write(log, 7, [])],
    }


@pytest.mark.parametrize("what", _unfit("x", grown("x", 7)))
def test_a_write_that_does_not_fit_changes_nothing(event_log: EventLog, what: str) -> None:
    mine = fill(event_log, 7)
    event_log.save_snapshot(event_log.log, head_of(mine), ["[1]"])
    event_log.write([], {event_log.log: "0.1.x"})
    before = _state(event_log, [event_log.log, "0therlog"])
    with pytest.raises(ValueError, match=r"does not follow position|is written twice"):
        event_log.write(_unfit(event_log.log, mine)[what], {event_log.log: "0.2.x"})
    assert _state(event_log, [event_log.log, "0therlog"]) == before
    event_log.write([Write(event_log.log, 4, end := _other_end(event_log.log, mine[:3], 3))])
    _expect(event_log, {event_log.log: mine[:3] + end})


def test_a_snapshot_of_what_was_replaced_is_never_used_again(event_log: EventLog) -> None:
    mine, saved = fill(event_log, 9), ["[4]", "[8]"]
    for at, part in zip((4, 8), saved, strict=True):
        event_log.save_snapshot(event_log.log, head_of(mine[:at]), [part])
    event_log.save_snapshot("0therlog", EMPTY, ["[0]"])
    event_log.write([Write(event_log.log, 9, grown(event_log.log, 1, head_of(mine[:8]), OTHER))])
    assert _snapshot(event_log) == (head_of(mine[:8]), ["[8]"])
    event_log.write([Write(event_log.log, 6, mine[5:])])  # the same records again
    assert _snapshot(event_log) == (head_of(mine[:4]), ["[4]"])
    event_log.write([Write(event_log.log, 4, _other_end(event_log.log, mine[:3], 20))])
    assert _snapshot(event_log) is None
    assert event_log.snapshot("0therlog")
    event_log.save_snapshot(event_log.log, head := event_log.head(event_log.log), ["[23]"])
    assert _snapshot(event_log) == (head, ["[23]"])


def _snapshot(store: EventLog) -> tuple[Head, list[str]] | None:
    found = store.snapshot(store.log)
    return (found[0], list(found[1])) if found else None


def test_readers_beside_a_writer_see_one_end_or_the_other(event_log: EventLog) -> None:
    """Two ends take turns behind ten records that stay; whoever is reading meanwhile gets either of them, or is told."""
    stays = fill(event_log, 10)
    ends = [_other_end(event_log.log, stays, 7), grown(event_log.log, 12, head_of(stays))]
    event_log.append(ends[0])
    whole = [stays + end for end in ends]
    streams = [[record for record in one if record.stream == "job_b"] for one in whole]
    done, faults, reads = threading.Event(), list[str](), list[int]()

    def read() -> None:
        while not done.is_set() and not faults:
            try:
                tail, page = everything(event_log), event_log.records(event_log.log, 8, 99, 9999)
            except StorageFailed:  # what was read last had been replaced
                continue
            except DatabaseDamaged as error:
                faults.append(str(error))
                return
            told = [tail in whole, page in (whole[0][8:], whole[1][8:]), event_log.stream("job_b") in streams]
            told += [event_log.of_types(event_log.log, TYPES) in whole, event_log.logs() == [event_log.log]]
            reads.append(len(tail))
            if not all(told):
                faults.append(f"{told}")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    turns = 0
    while turns < 60 or (len(reads) < 20 and not faults and any(reader.is_alive() for reader in readers)):
        turns += 1
        event_log.write([Write(event_log.log, 11, ends[turns % 2])], {event_log.log: f"0.{turns}.x"})
    done.set()
    for reader in readers:
        reader.join(30)
    assert not faults
    assert not any(reader.is_alive() for reader in readers)
    assert len(reads) >= 20


def test_a_tail_that_had_come_to_a_replaced_position_never_joins_the_two_ends(event_log: EventLog) -> None:
    """It tells the end that it began to read, or that it cannot."""
    first = fill(event_log, 600, at_once=600)
    tail = event_log.tail(event_log.log, 0)
    read = [next(tail) for _ in range(500)]
    event_log.write([Write(event_log.log, 400, _other_end(event_log.log, first[:399], 300))])
    try:
        read += tail
    except StorageFailed as told:
        assert "replaced" in str(told)  # noqa: PT017 - or the store had the whole end in memory
    else:
        assert len(read) == 600
    assert read == first[: len(read)]


# Positions and pages


def test_the_head_at_a_position_is_what_the_log_ended_with_then(event_log: EventLog) -> None:
    records = fill(event_log, 7)
    assert event_log.head_at(event_log.log, 0) == event_log.head_at("0therlog", 0) == EMPTY
    assert [event_log.head_at(event_log.log, seq) for seq in range(1, 8)] == [head_of(records[:seq]) for seq in range(1, 8)]
    for log, seq in ((event_log.log, 8), (event_log.log, -1), ("0therlog", 1)):
        with pytest.raises(DatabaseDamaged, match=f"event {log}/{seq} .* is missing") as caught:
            event_log.head_at(log, seq)
        assert caught.value.details == {"log": log, "seq": seq}


@pytest.mark.parametrize("data", ['"{}"', '"{}\u00fc"'], ids=["letters", "others too"])
def test_a_page_holds_no_more_than_it_may_and_one_record_at_least(event_log: EventLog, data: str) -> None:
    text = data.format("x" * 96)  # of 98 or 100 bytes
    size = len(text.encode())
    records = fill(event_log, 30, text, at_once=30)

    def page(after: int, limit_records: int, limit_bytes: int) -> list[Record]:
        return event_log.records(event_log.log, after, limit_records, limit_bytes)

    assert page(0, 1000, 10_000) == records
    assert page(0, 30, 30 * size) == records
    assert page(0, 30, 30 * size - 1) == records[:29]
    assert page(3, 7, 10_000) == records[3:10]
    assert page(3, 7, 4 * size) == records[3:7]
    assert page(3, 7, 1) == records[3:4]
    assert page(29, 7, 10_000) == records[29:]
    assert page(30, 7, 10_000) == []
    assert event_log.records("0therlog", 0, 7, 10_000) == []
    with pytest.raises(DatabaseDamaged, match=f"event {event_log.log}/31 .* is missing"):
        page(31, 7, 10_000)


def test_a_page_with_a_record_that_does_not_follow_is_not_handed_out(event_log: EventLog) -> None:
    records = grown(event_log.log, 9)
    records[4] = replace(records[4], data="{}")
    event_log.append(records)
    assert event_log.records(event_log.log, 0, 4, 10_000) == records[:4]
    assert event_log.records(event_log.log, 5, 9, 10_000) == records[5:]
    for after in (0, 4):
        with pytest.raises(DatabaseDamaged, match=f"event {event_log.log}/5 "):
            event_log.records(event_log.log, after, 9, 10_000)


def test_the_records_of_some_types_are_told_in_order_and_verified(event_log: EventLog) -> None:
    records = grown(event_log.log, 20)
    records[9] = replace(records[9], data="{}")
    event_log.append(records)
    event_log.append(grown("0therlog", 9))
    spoilt = records[9].type
    sound = [kind for kind in TYPES if kind != spoilt]
    assert event_log.of_types(event_log.log, sound) == [record for record in records if record.type != spoilt]
    assert event_log.of_types(event_log.log, [sound[1]]) == [record for record in records if record.type == sound[1]]
    assert event_log.of_types(event_log.log, []) == event_log.of_types(event_log.log, ["Nothing"]) == []
    with pytest.raises(DatabaseDamaged, match=f"event {event_log.log}/10 "):
        event_log.of_types(event_log.log, [sound[0], spoilt])


def test_the_logs_are_told_with_the_own_one_first(event_log: EventLog) -> None:
    assert event_log.logs() == []
    for log in ("ffffffff~", "~~~", "", "00000000"):
        event_log.append(grown(log, 3))
    assert event_log.logs() == ["", "00000000", "ffffffff~", "~~~"]
    fill(event_log, 1)
    assert event_log.logs() == [event_log.log, "", "00000000", "ffffffff~", "~~~"]


def test_a_closed_store_tells_and_takes_nothing(event_log: EventLog) -> None:
    event_log.close()
    for use in (
        event_log.logs,
        event_log.promises,
        lambda: event_log.head_at(event_log.log, 1),
        lambda: event_log.records(event_log.log, 0, 1, 1),
        lambda: event_log.of_types(event_log.log, TYPES),
        lambda: event_log.write([Write(event_log.log, 1, grown(event_log.log, 1))]),
        lambda: event_log.write([], {"aaaaaaaa": "0.1.x"}),
    ):
        with pytest.raises(StorageFailed, match="closed"):
            use()

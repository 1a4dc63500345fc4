"""The state of any log in a store, at its end or earlier."""

import pytest

from skyclaw import events as ev
from skyclaw.codec import CODEC
from skyclaw.errors import DatabaseDamaged, DatabaseNewer
from skyclaw.events import stream_of
from skyclaw.records import Record, sealed
from skyclaw.scheduling.snapshots import Picture
from skyclaw.store.event_log import EventLog, Head, Write
from skyclaw.store.rebuild import rebuild


def _job(number: int) -> str:
    return f"job_{number}"


def _past(log: str, count: int, last: Head, kind: str = "shell") -> list[Record]:
    """Jobs that were accepted, one with each event."""
    records: list[Record] = []
    before = last.hash
    for seq in range(last.seq + 1, last.seq + count + 1):
        event = ev.JobEnqueued(_job(seq), kind, '{"kind":"shell"}', ())
        name, version, data = CODEC.encode(event)
        records.append(sealed(before, Record(log, seq, "0.1.n", stream_of(event), name, version, seq, data)))
        before = records[-1].hash
    return records


def _fill(store: EventLog, log: str, count: int) -> list[Record]:
    records = _past(log, count, store.head(log))
    store.append(records)
    return records


def _snapshot(store: EventLog, log: str, at: int) -> None:
    state, _ = rebuild(store, log, at)
    store.save_snapshot(log, store.head_at(log, at), Picture(state).parts())


def test_the_own_log_is_meant_unless_another_is_named(event_log: EventLog) -> None:
    _fill(event_log, event_log.log, 3)
    _fill(event_log, "0therlog", 5)
    assert [rebuild(event_log)[0].end, rebuild(event_log, "0therlog")[0].end, rebuild(event_log, "nobodys")[0].end] == [3, 5, 0]


@pytest.mark.parametrize("upto", [0, 1, 4, 7])
def test_a_log_is_folded_up_to_a_position(event_log: EventLog, upto: int) -> None:
    _fill(event_log, "0therlog", 7)
    state, begun = rebuild(event_log, "0therlog", upto)
    assert (state.end, begun) == (upto, 0)
    assert list(state.jobs) == [_job(seq) for seq in range(1, upto + 1)]


@pytest.mark.parametrize(("upto", "begun"), [(None, 5), (8, 5), (5, 5), (4, 0)])
def test_a_snapshot_is_used_that_is_not_behind_the_position(event_log: EventLog, upto: int | None, begun: int) -> None:
    for log in (event_log.log, "0therlog"):
        _fill(event_log, log, 9)
    _snapshot(event_log, "0therlog", 5)
    _snapshot(event_log, event_log.log, 3)
    state, found = rebuild(event_log, "0therlog", upto)
    assert (state.end, found) == (9 if upto is None else upto, begun)
    assert sorted(state.jobs) == [_job(seq) for seq in range(1, state.end + 1)]


def test_what_is_behind_the_position_is_not_even_looked_at(event_log: EventLog) -> None:
    records = _past("0therlog", 4, Head(0, "", bytes(32)))
    event_log.append([*records[:3], Record("0therlog", 4, "0.1.n", "log", "FromTheFuture", 1, 4, "{}")])
    assert rebuild(event_log, "0therlog", 3)[0].end == 3
    with pytest.raises(DatabaseDamaged, match="event 0therlog/4 "):
        rebuild(event_log, "0therlog")


def test_an_event_of_a_newer_version_is_named_with_its_log(event_log: EventLog) -> None:
    _fill(event_log, "0therlog", 1)
    unknown = Record("0therlog", 2, "0.1.n", "log", "FromTheFuture", 1, 4, "{}")
    event_log.append([sealed(event_log.head("0therlog").hash, unknown)])
    with pytest.raises(DatabaseNewer, match=r"event 0therlog/2: .*; upgrade skyclaw"):
        rebuild(event_log, "0therlog")


def test_a_replaced_end_is_folded_as_it_is_now(event_log: EventLog) -> None:
    _fill(event_log, "0therlog", 9)
    _snapshot(event_log, "0therlog", 3)
    _snapshot(event_log, "0therlog", 8)
    event_log.write([Write("0therlog", 6, _past("0therlog", 2, event_log.head_at("0therlog", 5), "other"))])
    state, begun = rebuild(event_log, "0therlog")
    assert (state.end, begun) == (7, 3)
    assert [job.asked.kind for job in state.jobs.values()] == ["shell"] * 5 + ["other"] * 2

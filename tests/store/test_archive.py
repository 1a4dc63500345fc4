"""Jobs read back from the log, and how much of the log is read for them."""

from collections import Counter
from collections.abc import Iterable, Sequence

import pytest

from skyclaw import events as ev
from skyclaw.codec import CODEC, Codec
from skyclaw.errors import NotUnderstood
from skyclaw.events import stream_of
from skyclaw.ids import new_job_id, new_service_id
from skyclaw.records import Record, sealed
from skyclaw.store.archive import CHUNK, Archive
from skyclaw.store.event_log import EventLog
from skyclaw.store.memory import MemoryEventLog

FAILURES = 9


class CountedLog(MemoryEventLog):
    """Counts what is read of it: pages and ends once each, streams by their records."""

    def __init__(self) -> None:
        super().__init__("here")
        self.reads: Counter[str] = Counter()

    def newest(self, log: str, types: Sequence[str], before: int | None, limit: int) -> list[tuple[int, str]]:
        page = super().newest(log, types, before, limit)
        self.reads.update(pages=1, positions=len(page))
        return page

    def last(self, log: str, streams: Sequence[str]) -> dict[str, int]:
        self.reads.update(ends=1)
        return super().last(log, streams)

    def stream(self, stream: str, until: int | None = None, after: int = 0, limit: int | None = None) -> list[Record]:
        self.reads.update(streams=1)
        return super().stream(stream, until, after, limit)


@pytest.fixture
def log() -> CountedLog:
    return CountedLog()


def write(log: CountedLog, events: Iterable[ev.Event], tag: str | None = None) -> None:
    """Append to the log with that tag, the store's own when None."""
    tag = tag or log.log
    head = log.head(tag)
    records, before = [], head.hash
    for seq, event in enumerate(events, head.seq + 1):
        name, version, data = CODEC.encode(event)
        records.append(sealed(before, Record(tag, seq, "0.1.n", stream_of(event), name, version, seq, data)))
        before = records[-1].hash
    log.append(records)


def failed(job_id: str) -> ev.JobFailed:
    return ev.JobFailed(job_id, "h", 1, 1, "out", "err", "it broke")


def completed(job_id: str) -> ev.JobCompleted:
    return ev.JobCompleted(job_id, "h", 1, 0, "out", "err")


def enqueued(job_id: str) -> ev.JobEnqueued:
    return ev.JobEnqueued(job_id, "shell", '{"kind":"shell"}', ())


def often_retried(job_id: str) -> list[ev.Event]:
    """Accepted, failed nine times, completed in the end."""
    tries: list[ev.Event] = [event for _ in range(FAILURES) for event in (failed(job_id), ev.JobRetryScheduled(job_id, 0))]
    return [enqueued(job_id), *tries, completed(job_id)]


def names(found: Iterable[tuple[int, object]]) -> list[str]:
    return [job.id for _, job in found if job is not None]  # type: ignore[attr-defined]


def test_failures_that_were_retried_are_passed_without_reading_their_jobs(log: CountedLog) -> None:
    for number in range(60):
        write(log, often_retried(f"job_{number}"))
    looked_at = list(Archive(log).finished(["failed"], None, 10_000))
    assert len(looked_at) == 60 * FAILURES
    assert names(looked_at) == []
    pages = -(-60 * FAILURES // CHUNK)
    assert log.reads == {"pages": pages + 1, "ends": pages, "positions": 60 * FAILURES}


def test_no_more_positions_are_looked_at_than_allowed(log: CountedLog) -> None:
    for number in range(60):
        write(log, often_retried(f"job_{number}"))
    archive = Archive(log)
    for limit in (1, CHUNK, CHUNK + 7):
        log.reads.clear()
        looked_at = list(archive.finished(["failed"], None, limit))
        assert len(looked_at) == limit == log.reads["positions"]
        again = next(archive.finished(["failed"], looked_at[-1][0], 1))
        assert again[0] < looked_at[-1][0]
    log.reads.clear()
    assert names(archive.enqueued(None, 3)) == ["job_59", "job_58", "job_57"]
    assert log.reads == {"pages": 1, "positions": 3, "streams": 3}


def test_a_caller_who_has_enough_reads_no_further(log: CountedLog) -> None:
    write(log, [event for number in range(30) for event in (enqueued(f"job_{number}"), completed(f"job_{number}"))])
    found = Archive(log).finished(["completed"], None, 1000)
    assert names([next(found), next(found)]) == ["job_29", "job_28"]
    assert log.reads["streams"] == 2


def test_a_job_is_found_at_its_last_end_only(log: CountedLog) -> None:
    write(log, [enqueued("job_a"), failed("job_a"), ev.JobRetryScheduled("job_a", 0), failed("job_a")])
    write(log, [enqueued("job_b"), ev.JobCancelled("job_b"), enqueued("job_c"), completed("job_c")])
    looked_at = list(Archive(log).finished(["failed", "cancelled"], None, 100))
    assert [(seq, job and job.status) for seq, job in looked_at] == [(6, "cancelled"), (4, "failed"), (2, None)]
    assert list(Archive(log).finished(["queued"], None, 100)) == []


def test_a_job_that_goes_on_meanwhile_is_shown_as_it_ended(log: CountedLog) -> None:
    write(log, [enqueued("job_a"), failed("job_a"), enqueued("job_b"), failed("job_b")])
    found = Archive(log).finished(["failed"], None, 100)
    next(found)
    write(log, [ev.JobRevived("job_a", enqueued("job_a"), 1, 1, 3, 0)])
    assert [(seq, job and job.status) for seq, job in found] == [(2, "failed")]


# Several logs


def test_the_jobs_of_another_log_are_listed_when_it_is_named(log: CountedLog) -> None:
    write(log, [enqueued("job_a"), completed("job_a"), enqueued("job_b")])
    write(log, [enqueued("job_x"), failed("job_x"), ev.JobRetryScheduled("job_x", 0), completed("job_x"), enqueued("job_y")], "0therlog")
    archive = Archive(log)
    assert names(archive.finished(["completed"], None, 9)) == ["job_a"]
    assert names(archive.enqueued(None, 9)) == ["job_b", "job_a"]
    assert names(archive.enqueued(None, 9, "0therlog")) == ["job_y", "job_x"]
    looked_at = list(archive.finished(["completed", "failed"], None, 9, "0therlog"))
    assert [(seq, job and job.status) for seq, job in looked_at] == [(4, "completed"), (2, None)]
    assert list(archive.finished(["completed"], 4, 9, "0therlog")) == []
    assert list(archive.enqueued(None, 9, "nobodys")) == []


def test_a_jobs_events_count_in_the_log_that_its_id_names_only(log: CountedLog) -> None:
    """Whatever another log says about it, which another coordinator wrote."""
    mine, theirs = new_job_id(log.log), new_job_id("0badc0de")
    write(log, [enqueued(mine), completed(theirs)])
    write(log, [enqueued(theirs), failed(mine), failed(theirs), completed(mine)], "0badc0de")
    archive = Archive(log)
    found = [archive.job(mine), archive.job(theirs), archive.job(theirs, 1), archive.job(theirs, 0)]
    assert [job and job.status for job in found] == ["queued", "failed", "queued", None]
    assert [(record.log, record.seq) for record in archive.events(mine)] == [(log.log, 1)]
    assert [(record.log, record.seq) for record in archive.events(theirs)] == [("0badc0de", 1), ("0badc0de", 3)]
    assert [(record.log, record.seq) for record in archive.events(theirs, 2)] == [("0badc0de", 1)]


def test_a_hosts_events_count_in_every_log(log: CountedLog) -> None:
    registered = ev.HostRegistered("host_a", "a", ("shell",), 1)
    write(log, [registered, ev.HostModeChanged("host_a", "paused")])
    write(log, [registered], "~~~")
    assert [(record.log, record.seq) for record in Archive(log).events("host_a")] == [(log.log, 1), (log.log, 2), ("~~~", 1)]
    assert [(record.log, record.seq) for record in Archive(log).events("host_a", 1)] == [(log.log, 1), ("~~~", 1)]


def test_a_job_is_read_as_far_as_this_version_understands_it(event_log: EventLog) -> None:
    job_id = new_job_id(event_log.log)
    asked = ev.JobEnqueued(job_id, "shell", "{}", ())
    name, version, data = CODEC.encode(asked)
    rows = [(name, version, data), ("JobMourned", 1, "{}"), ("JobCancelled", 1, f'{{"job_id":"{job_id}"}}')]
    head, records = event_log.head(event_log.log), list[Record]()
    for seq, (kind, number, text) in enumerate(rows, head.seq + 1):
        record = Record(event_log.log, seq, "0.1.n", job_id, kind, number, 0, text)
        records.append(sealed(records[-1].hash if records else head.hash, record))
    event_log.append(records)
    job = Archive(event_log).job(job_id)
    assert job is not None
    assert job.status == "queued"
    with pytest.raises(NotUnderstood):
        Archive(event_log, Codec(known=())).job(job_id)
    assert [job for _, job in Archive(event_log, Codec(known=())).enqueued(None, 9)] == [None]


# Services


def deployed(service_id: str, revision: int = 1) -> ev.ServiceDeployed:
    return ev.ServiceDeployed(service_id, revision, "web", "serve", (), 1, ())


def test_a_service_is_read_back_as_it_was_at_a_position(log: CountedLog) -> None:
    service_id = new_service_id(log.log)
    write(log, [deployed(service_id), ev.ServiceScaled(service_id, 3), ev.ServiceStopped(service_id)])
    archive = Archive(log)
    seen = [archive.service(service_id, until) for until in (1, 2, None)]
    assert [(one.replicas, one.stopped, one.version) for one in seen if one is not None] == [(1, False, 1), (3, False, 2), (3, True, 3)]
    assert archive.service(service_id, 0) is None
    assert archive.service(new_service_id(log.log)) is None


def test_a_forgotten_service_is_shown_as_it_was_last(log: CountedLog) -> None:
    service_id = new_service_id(log.log)
    write(log, [deployed(service_id), ev.ServiceRemoved(service_id), ev.ServiceForgotten(service_id)])
    service = Archive(log).service(service_id)
    assert service is not None
    assert service.removed


def test_a_service_is_known_to_the_log_whose_tag_it_bears_alone(log: CountedLog) -> None:
    service_id = new_service_id("0ddba115")
    write(log, [deployed(service_id)])
    assert Archive(log).service(service_id) is None
    write(log, [deployed(service_id)], "0ddba115")
    assert [record.log for record in Archive(log).events(service_id)] == ["0ddba115"]


def test_of_a_service_only_what_is_understood_counts(log: CountedLog) -> None:
    service_id = new_service_id(log.log)
    write(log, [deployed(service_id), ev.ServiceScaled(service_id, 3)])
    service = Archive(log, Codec([ev.ServiceDeployed])).service(service_id)
    assert service is not None
    assert service.replicas == 1
    with pytest.raises(NotUnderstood):
        Archive(log, Codec([ev.ServiceScaled])).service(service_id)

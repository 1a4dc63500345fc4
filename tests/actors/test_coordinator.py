"""The actors together: durability before answers, shared commits, taking back, restarts."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from actors import desk, job_queue, replicator
from actors.asking import Ask, Post, Reply
from actors.coordinator import Coordinator, heirs_of
from actors.log_views import LogSeen, VoterSeen
from skyclaw import commands as cmd
from skyclaw import events as ev
from skyclaw.errors import SkyclawError, StorageFull, TooFewCopies, Unavailable, UnknownJob
from skyclaw.ids import new_job_id
from skyclaw.outside.clock import utc_now
from skyclaw.records import Record
from skyclaw.scheduling import queue as queue_module
from skyclaw.scheduling.turn import Rules
from skyclaw.store.memory import MemoryEventLog
from tests.support.real_processes import wait_until

PATIENCE_S = 20.0


class WatchedLog(MemoryEventLog):
    """A log whose commits a test can hold up, count, and let fail."""

    def __init__(self) -> None:
        super().__init__("test")
        self.gate, self.commits = threading.Event(), 0
        self.entered = threading.Semaphore(0)
        self.gate.set()
        self.failure: Exception | None = None

    def write(self, *writes: Any) -> None:
        if not self.gate.is_set():
            self.entered.release()
        assert self.gate.wait(PATIENCE_S)
        if self.failure is not None:
            raise self.failure
        self.commits += 1
        super().write(*writes)


class Die(BaseException):
    """What no handler survives."""


@pytest.fixture
def log() -> WatchedLog:
    return WatchedLog()


@pytest.fixture
def coordinator(log: WatchedLog) -> Iterator[Coordinator]:
    parts = Coordinator(log, utc_now, Rules(), on_fatal=lambda: None, reap_every_s=None)
    parts.start()
    yield parts
    log.failure = None
    log.gate.set()
    parts.stop()


def enqueue(log: WatchedLog, **fields: Any) -> cmd.Enqueue:
    job_id = new_job_id(log.log)
    return cmd.Enqueue((ev.JobEnqueued(job_id, "shell", '{"kind":"shell","command":"true"}', ("shell",), **fields),))


def register(coordinator: Coordinator, host_id: str = "h", parallel: int = 8) -> None:
    coordinator.desk.ask(cmd.Register(host_id, host_id, ("shell",), parallel))


def send(coordinator: Coordinator, command: cmd.Command) -> Reply:
    reply = Reply()
    coordinator._queue.tell(Ask(command, reply))
    return reply


def kill(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the actor at this address die of its next message."""

    def die(_: object) -> None:
        raise Die

    assert post.ref is not None
    monkeypatch.setattr(post.ref._actor_weakref(), "handle", die)
    post.tell(object())


def await_restart(coordinator: Coordinator, log: WatchedLog, since: int) -> None:
    """Return once the actors that were started after position `since` answer."""
    done = threading.Event()
    for _ in range(2000):
        if log.head(log.log).seq > since and all(coordinator.actors.values()):
            return
        done.wait(0.01)
    pytest.fail("the actors were not restarted")


def jobs_known(coordinator: Coordinator) -> set[str]:
    return {job.id for job in coordinator.desk.ask(cmd.Survey()).live}


def test_no_answer_leaves_before_its_events_are_stored(coordinator: Coordinator, log: WatchedLog) -> None:
    log.gate.clear()
    log.entered = threading.Semaphore(0)
    reply = send(coordinator, enqueue(log))
    assert log.entered.acquire(timeout=PATIENCE_S)  # the commit is under way
    assert not reply.wait(0.05)
    log.gate.set()
    assert reply.get(PATIENCE_S).jobs[0].job.status == "queued"


def test_a_question_waits_for_what_its_answer_was_computed_from(coordinator: Coordinator, log: WatchedLog) -> None:
    log.gate.clear()
    log.entered = threading.Semaphore(0)
    asked = enqueue(log)
    send(coordinator, asked)
    assert log.entered.acquire(timeout=PATIENCE_S)
    seen = send(coordinator, cmd.FindJob(asked.jobs[0].job_id))
    assert not seen.wait(0.05)
    log.gate.set()
    assert seen.get(PATIENCE_S).job.id == asked.jobs[0].job_id


def test_what_comes_in_during_a_commit_shares_the_next_one(coordinator: Coordinator, log: WatchedLog) -> None:
    log.gate.clear()
    log.entered = threading.Semaphore(0)
    before = log.commits
    replies = [send(coordinator, enqueue(log))]
    assert log.entered.acquire(timeout=PATIENCE_S)
    replies += [send(coordinator, enqueue(log)) for _ in range(50)]
    ref = coordinator._replicator.ref
    assert ref is not None
    while ref.actor_inbox.qsize() < 50:
        threading.Event().wait(0.001)
    log.gate.set()
    for reply in replies:
        reply.get(PATIENCE_S)
    assert log.commits - before == 2


def test_a_failed_commit_is_taken_back_with_all_that_was_built_on_it(coordinator: Coordinator, log: WatchedLog) -> None:
    register(coordinator)
    kept = enqueue(log)
    coordinator.desk.ask(kept)
    log.gate.clear()
    log.entered = threading.Semaphore(0)
    lost, built_on_it = enqueue(log), enqueue(log)
    first = send(coordinator, lost)
    assert log.entered.acquire(timeout=PATIENCE_S)
    second = send(coordinator, built_on_it)
    claim = send(coordinator, cmd.Claim("h", 8))
    log.failure = StorageFull()
    log.gate.set()
    for reply in (first, second, claim):
        with pytest.raises(Unavailable):
            reply.get(PATIENCE_S)
    log.failure = None
    assert jobs_known(coordinator) == {kept.jobs[0].job_id}
    claimed = coordinator.desk.ask(cmd.Claim("h", 8)).jobs
    assert [seen.job.id for seen in claimed] == [kept.jobs[0].job_id]
    assert [record.seq for record in log.tail(log.log, 0)] == list(range(1, log.head(log.log).seq + 1))


def test_writes_go_on_when_there_is_space_again(coordinator: Coordinator, log: WatchedLog) -> None:
    log.failure = StorageFull()
    for _ in range(3):
        with pytest.raises(StorageFull):
            coordinator.desk.ask(enqueue(log))
    log.failure = None
    after = enqueue(log)
    coordinator.desk.ask(after)
    assert jobs_known(coordinator) == {after.jobs[0].job_id}


def test_reads_go_on_while_writes_fail(coordinator: Coordinator, log: WatchedLog) -> None:
    kept = enqueue(log)
    coordinator.desk.ask(kept)
    log.failure = StorageFull()
    with pytest.raises(StorageFull):
        coordinator.desk.ask(enqueue(log))
    assert jobs_known(coordinator) == {kept.jobs[0].job_id}


def test_a_handler_that_raises_costs_its_asker_an_error_and_nobody_else_anything(
    coordinator: Coordinator, log: WatchedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(queue_module.HANDLERS, cmd.Explain, fail)
    first = coordinator._queue.ref
    with pytest.raises(SkyclawError, match="ZeroDivisionError"):
        coordinator.desk.ask(cmd.Explain("x"))
    asked = enqueue(log)
    coordinator.desk.ask(asked)
    assert jobs_known(coordinator) == {asked.jobs[0].job_id}
    assert coordinator._queue.ref is first


@pytest.mark.parametrize("victim", ["_queue", "_replicator", "_reaper"])
def test_a_dead_actor_is_started_again_from_the_log(
    coordinator: Coordinator, log: WatchedLog, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    register(coordinator)
    asked = enqueue(log)
    coordinator.desk.ask(asked)
    end = log.head(log.log).seq
    kill(getattr(coordinator, victim), monkeypatch)
    await_restart(coordinator, log, end)
    assert jobs_known(coordinator) == {asked.jobs[0].job_id}
    assert [seen.job.id for seen in coordinator.desk.ask(cmd.Claim("h")).jobs] == [asked.jobs[0].job_id]


def test_a_dead_actor_shows_in_the_list_of_actors(coordinator: Coordinator) -> None:
    assert coordinator.actors == {"Replicator": True, "JobQueue": True, "LeaseReaper": True, "Steward": True}
    coordinator._reaper.ref.stop(block=True)  # type: ignore[union-attr]
    assert not coordinator.actors["LeaseReaper"]


def test_a_parked_claim_is_answered_by_the_job_that_comes(coordinator: Coordinator, log: WatchedLog) -> None:
    register(coordinator)
    claim = send(coordinator, cmd.Claim("h", park=True))
    asked = enqueue(log)
    coordinator.desk.ask(asked)
    assert [seen.job.id for seen in claim.get(PATIENCE_S).jobs] == [asked.jobs[0].job_id]


def test_a_parked_claim_gives_up_with_nothing(coordinator: Coordinator) -> None:
    register(coordinator)
    assert coordinator.desk.ask_parked(cmd.Claim("h", park=True), wait_ms=10).jobs == ()


def test_who_waits_is_sent_home_before_the_end_and_nobody_waits_after(coordinator: Coordinator, log: WatchedLog) -> None:
    register(coordinator)
    asked = enqueue(log)
    coordinator.desk.ask(asked)
    coordinator.desk.ask(cmd.Claim("h"))
    claim, watcher = send(coordinator, cmd.Claim("h", park=True)), send(coordinator, cmd.FindJob(asked.jobs[0].job_id, park=True))
    assert coordinator.desk.ask(cmd.StopParking()).count == 2
    assert claim.get(PATIENCE_S).jobs == ()
    assert watcher.get(PATIENCE_S).job.status == "leased"
    assert coordinator.desk.ask_parked(cmd.Claim("h", park=True), wait_ms=60_000).crowded


def test_leases_have_their_full_time_and_a_newer_token_after_a_restart(log: WatchedLog) -> None:
    now = [1_000_000]
    first = Coordinator(log, lambda: now[0], Rules(lease_ms=1000), lambda: None, reap_every_s=None)
    first.start()
    register(first)
    asked = enqueue(log)
    first.desk.ask(asked)
    old = first.desk.ask(cmd.Claim("h")).jobs[0].job.lease
    first.stop()
    now[0] += 5000  # longer down than the lease lasts
    second = Coordinator(log, lambda: now[0], Rules(lease_ms=1000), lambda: None, reap_every_s=None)
    second.start()
    assert second.desk.ask(cmd.Reap()).expired == 0
    now[0] += 1000
    assert second.desk.ask(cmd.Reap()).expired == 1
    new = second.desk.ask(cmd.Claim("h")).jobs[0].job.lease
    assert new.token != old.token
    second.stop()


def test_a_restart_begins_from_the_snapshot(log: WatchedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_queue, "SNAPSHOT_EVERY", 20)
    monkeypatch.setattr(replicator, "TELL_EVERY", 1)
    first = Coordinator(log, utc_now, Rules(), lambda: None, reap_every_s=None)
    first.start()
    register(first)
    wanted = {first.desk.ask(enqueue(log)).jobs[0].job.id for _ in range(50)}
    first.stop()
    snapshot = log.snapshot(log.log)
    assert snapshot is not None
    assert snapshot[0].seq >= 20
    read: list[Record] = []
    tail = log.tail

    def watched(name: str, after: int) -> Iterator[Record]:
        for record in tail(name, after):
            read.append(record)
            yield record

    monkeypatch.setattr(log, "tail", watched)
    second = Coordinator(log, utc_now, Rules(), lambda: None, reap_every_s=None)
    second.start()
    assert jobs_known(second) == wanted
    assert len(second.desk.ask(cmd.Claim("h", 8)).jobs) == 8
    assert read[0].seq == snapshot[0].seq + 1
    second.stop()


def test_fewer_copies_than_asked_for_refuse_writes_before_they_are_written(log: WatchedLog) -> None:
    parts = Coordinator(log, utc_now, Rules(), lambda: None, min_copies=2, reap_every_s=None)
    parts.start()
    end = log.head(log.log).seq
    with pytest.raises(TooFewCopies, match="SKYCLAW_MIN_REPLICATIONS=2"):
        parts.desk.ask(enqueue(log))
    assert parts.desk.ask(cmd.Survey()).live == ()
    assert log.head(log.log).seq == end
    parts.stop()


def test_an_unknown_job_is_a_refusal(coordinator: Coordinator) -> None:
    with pytest.raises(UnknownJob, match="unknown job: nope"):
        coordinator.desk.ask(cmd.Cancel("nope"))


def test_actors_that_keep_dying_end_the_process_loudly(log: WatchedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    parts = Coordinator(log, utc_now, Rules(), ended.set, reap_every_s=None)
    parts.start()

    def die(*_: object) -> None:
        raise Die

    monkeypatch.setattr("actors.lease_reaper.LeaseReaper.handle", die)
    end = time.monotonic() + PATIENCE_S
    while not ended.wait(0.005) and time.monotonic() < end:
        with contextlib.suppress(Unavailable):  # between two lives
            parts._reaper.tell(object())
    assert ended.is_set()
    parts.stop()


def test_who_waits_at_a_queue_that_dies_is_told_to_ask_again(
    coordinator: Coordinator, log: WatchedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(coordinator)
    parked = send(coordinator, cmd.Claim("h", park=True))
    coordinator.desk.ask(cmd.FindHost("h"))  # the claim is parked by now
    end = log.head(log.log).seq
    kill(coordinator._queue, monkeypatch)
    with pytest.raises(Unavailable, match="restarted"):
        parked.get(PATIENCE_S)
    await_restart(coordinator, log, end)
    asked = enqueue(log)
    coordinator.desk.ask(asked)
    assert [seen.job.id for seen in coordinator.desk.ask(cmd.Claim("h")).jobs] == [asked.jobs[0].job_id]


def test_a_write_while_the_log_has_no_keeper_is_refused_and_leaves_no_trace(coordinator: Coordinator, log: WatchedLog) -> None:
    end = log.head(log.log).seq
    coordinator._replicator.ref.stop(block=True)  # type: ignore[union-attr]
    with pytest.raises(Unavailable):
        coordinator.desk.ask(enqueue(log))
    await_restart(coordinator, log, end)
    assert jobs_known(coordinator) == set()


def test_so_many_writers_wait_for_the_disk_and_no_more(coordinator: Coordinator, log: WatchedLog) -> None:
    kept = enqueue(log)
    coordinator.desk.ask(kept)
    log.gate.clear()
    log.entered = threading.Semaphore(0)
    writers = [threading.Thread(target=coordinator.desk.ask, args=(enqueue(log), PATIENCE_S)) for _ in range(desk.WRITERS)]
    for writer in writers:
        writer.start()
    assert log.entered.acquire(timeout=PATIENCE_S)
    end = time.monotonic() + PATIENCE_S
    while coordinator.desk._writers._value and time.monotonic() < end:  # type: ignore[attr-defined]
        threading.Event().wait(0.001)
    with pytest.raises(Unavailable, match="too many requests wait"):
        coordinator.desk.ask(enqueue(log))
    log.gate.set()
    for writer in writers:
        writer.join(PATIENCE_S)
    assert len(jobs_known(coordinator)) == desk.WRITERS + 1


def owned(coordinator: Coordinator, log: WatchedLog) -> bool:
    seen = coordinator.views.of(log.log)
    return seen is not None and seen.owned


def test_a_restart_on_a_full_disk_serves_reads_and_writes_again_when_there_is_space(
    coordinator: Coordinator, log: WatchedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = enqueue(log)
    coordinator.desk.ask(kept)
    log.failure = StorageFull()
    old = coordinator._queue.ref
    kill(coordinator._queue, monkeypatch)
    end = time.monotonic() + PATIENCE_S
    while (coordinator._queue.ref is old or not all(coordinator.actors.values())) and time.monotonic() < end:
        threading.Event().wait(0.01)
    assert jobs_known(coordinator) == {kept.jobs[0].job_id}
    with pytest.raises(StorageFull):
        coordinator.desk.ask(enqueue(log))
    log.failure = None
    wait_until(lambda: owned(coordinator, log), "there is space again, so the log is owned again")
    coordinator.desk.ask(enqueue(log))
    assert len(jobs_known(coordinator)) == 2


def test_of_equally_level_voters_the_one_that_was_heard_of_last_inherits() -> None:
    """The other one may be dead: in a quiet log its copy is as good as any."""
    followers = (VoterSeen("b", 50, 1_000), VoterSeen("c", 50, 9_000), VoterSeen("d", 40, 9_500))
    seen = LogSeen("aaaaaaaa", "a", "0.1.a", "a", 50, 50, tuple("abcd"), 2, True, True, True, 0, followers)
    assert heirs_of(seen) == ["c", "b", "d"]

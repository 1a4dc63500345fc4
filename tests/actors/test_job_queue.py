"""JobQueue between the pure Queue and the Replicator: what it hands over, takes back, follows and builds on."""

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from actors import following, job_queue
from actors.asking import Ask, GiveUp, Post, Reply
from actors.job_queue import JobQueue
from actors.log_messages import (
    Answers,
    Append,
    Checkpoint,
    Committed,
    Followed,
    Interposed,
    OwnershipGained,
    OwnershipLost,
    Rejected,
    Rewritten,
)
from skyclaw import commands as cmd
from skyclaw import events as ev
from skyclaw.answers import Elsewhere
from skyclaw.codec import CODEC
from skyclaw.errors import NotOwner, Unavailable
from skyclaw.records import Record, sealed
from skyclaw.scheduling.queue import Queue
from skyclaw.scheduling.turn import Rules
from skyclaw.store.archive import Archive
from skyclaw.store.event_log import Write
from skyclaw.store.memory import MemoryEventLog

OTHER = "0ddba115"
EPOCH, LATER = "0.1.n", "0.2.n"
START = 1_700_000_000_000


class Told(Post):
    """The address of a Replicator that only listens."""

    def __init__(self) -> None:
        super().__init__("Replicator")
        self.messages: list[Any] = []
        self.gone = False

    def tell(self, message: object) -> None:
        if self.gone:
            raise Unavailable
        self.messages.append(message)

    def take(self, kind: type[Any]) -> list[Any]:
        """What was told of this kind; all is forgotten."""
        told, self.messages = self.messages, []
        return [message for message in told if isinstance(message, kind)]


class Bench:
    """A JobQueue that is handed its messages by the test; `now` moves when the test says so."""

    def __init__(self, snapshots: Mapping[str, int] | None = None) -> None:
        self.now, self.counter = START, 0
        self.store, self.told = MemoryEventLog("n"), Told()
        self.home = self.store.log
        self.queue = Queue(self.home, Rules(lease_ms=60_000), Archive(self.store).job, lambda: 0.0)
        self.actor = JobQueue(self.queue, self.told, lambda: self.now, self.store, snapshots or {})

    def ask(self, command: cmd.Command) -> Reply:
        reply = Reply()
        self.actor.handle(Ask(command, reply))
        return reply

    def asked(self, log: str | None = None) -> ev.JobEnqueued:
        self.counter += 1
        return ev.JobEnqueued(f"job_{log or self.home}-0000-4000-8000-{self.counter:012}", "shell", "{}", ())

    def enqueue(self) -> str:
        job = self.asked()
        self.ask(cmd.Enqueue((job,)))
        return job.job_id

    def record(self, log: str, *events: ev.Event, epoch: str = EPOCH, start: int | None = None) -> list[Record]:
        """Write events into the store, over what was there from `start` on."""
        start = self.store.head(log).seq + 1 if start is None else start
        last, records = self.store.head_at(log, start - 1).hash, []
        for seq, event in enumerate(events, start):
            name, version, data = CODEC.encode(event)
            records.append(sealed(last, Record(log, seq, epoch, ev.stream_of(event), name, version, self.now, data)))
            last = records[-1].hash
        self.store.write([Write(log, start, records)])
        return records

    def store_all(self) -> None:
        """Do what the Replicator would with what it was told."""
        for append in self.told.take(Append):
            self.record(append.log, *append.events, epoch=append.epoch)
            for reply, answer in append.answers:
                reply.set(answer)

    def gain(self, log: str, epoch: str = EPOCH, committed: int | None = None) -> None:
        """Own a log; its first event under the epoch is written."""
        end = self.store.head(log).seq
        self.record(log, ev.OwnershipTaken("n", "takeover"), epoch=epoch)
        self.actor.handle(OwnershipGained(log, epoch, end if committed is None else committed, end + 1))

    def live(self) -> set[str]:
        return {job_id for book in self.queue.books.all for job_id in book.state.jobs}

    def end(self, log: str) -> int:
        return self.queue.books.book(log).state.end


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.gain(bench.home)
    return bench


def answer(reply: Reply) -> Any:
    """What is there at once."""
    return reply.get(0)


def test_a_decision_goes_to_the_replicator_with_its_place_and_its_answer(bench: Bench) -> None:
    reply = bench.ask(cmd.Enqueue((bench.asked(),)))
    (append,) = bench.told.take(Append)
    assert (append.log, append.line, append.after, append.epoch) == (bench.home, 0, 1, EPOCH)
    assert [type(event).__name__ for event in append.events] == ["JobEnqueued"]
    assert not reply.wait(0)
    assert append.answers[0][0] is reply


def test_a_question_waits_for_what_it_was_computed_from(bench: Bench) -> None:
    bench.enqueue()
    bench.ask(cmd.Survey())
    assert [(append.after, len(append.events)) for append in bench.told.take(Append)] == [(1, 1), (2, 0)]


def test_an_answer_from_several_own_logs_names_how_far_they_were_read(bench: Bench) -> None:
    bench.gain(OTHER, LATER)
    bench.ask(cmd.Survey())
    (answers,) = bench.told.take(Answers)
    assert {log: (read.line, read.epoch, read.position) for log, read in answers.read.items()} == {
        bench.home: (0, EPOCH, 1),
        OTHER: (0, LATER, 1),
    }


def test_what_is_answered_from_a_copy_waits_for_nobody(bench: Bench) -> None:
    job = bench.asked(OTHER)
    bench.actor.handle(Followed(OTHER, bench.record(OTHER, job)))
    assert answer(bench.ask(cmd.FindJob(job.job_id))).job.id == job.job_id
    with pytest.raises(NotOwner):
        answer(bench.ask(cmd.Cancel(job.job_id)))
    assert bench.told.messages == []


def test_a_log_is_taken_back_and_no_other(bench: Bench) -> None:
    bench.gain(OTHER, LATER)
    kept = bench.enqueue()
    lost = bench.asked(OTHER)
    bench.ask(cmd.Enqueue((lost,), OTHER))
    bench.actor.handle(Rejected(OTHER, 0, 1))
    assert bench.live() == {kept}
    bench.told.take(Append)
    bench.ask(cmd.Enqueue((lost,), OTHER))
    (append,) = bench.told.take(Append)
    assert (append.line, append.after) == (1, 1)


def test_a_line_is_taken_back_once(bench: Bench) -> None:
    bench.enqueue()
    bench.actor.handle(Rejected(bench.home, 0, 1))
    kept = bench.enqueue()
    bench.actor.handle(Rejected(bench.home, 0, 1))
    assert bench.live() == {kept}


def test_a_service_that_could_not_be_stored_is_gone_and_so_are_its_instances(bench: Bench) -> None:
    bench.ask(cmd.Register("h", "h", ("service-host",), 1, (("services", "4"),)))
    bench.store_all()
    bench.actor.handle(Committed(bench.home, bench.end(bench.home)))
    kept = bench.end(bench.home)
    bench.ask(cmd.Deploy("web", "serve", replicas=2))
    assert len(bench.queue.books.home.renewed) == 2
    bench.actor.handle(Rejected(bench.home, 0, kept))
    book = bench.queue.books.home
    assert (book.state.services, book.state.placed, book.renewed, book.state.end) == ({}, {}, {}, kept)


def test_what_the_store_has_beyond_is_built_on_by_the_new_owner(bench: Bench) -> None:
    job = bench.asked(OTHER)
    bench.record(OTHER, ev.OwnershipTaken("m", "founded"), job, ev.JobLeased(job.job_id, "h", 60_000))
    bench.gain(OTHER, LATER, committed=1)
    assert bench.end(OTHER) == 4
    assert bench.queue.books.book(OTHER).committed == 1
    assert bench.queue.books.book(OTHER).deadlines.end_of(job.job_id) == START + 60_000


def test_what_was_not_committed_is_lost_with_the_ownership(bench: Bench) -> None:
    job, other = bench.asked(OTHER), bench.asked(OTHER)
    bench.record(OTHER, ev.OwnershipTaken("m", "founded"), job)
    bench.gain(OTHER, LATER, committed=1)
    bench.ask(cmd.Enqueue((other,), OTHER))
    bench.actor.handle(OwnershipLost(OTHER, 1))
    assert (bench.end(OTHER), bench.live()) == (1, set())
    with pytest.raises(NotOwner):
        answer(bench.ask(cmd.Enqueue((other,), OTHER)))


def test_what_was_committed_meanwhile_stays_though_it_came_in_one_turn_with_what_was_not(bench: Bench) -> None:
    first, second = bench.asked(), bench.asked()
    bench.ask(cmd.Enqueue((first, second)))
    bench.store_all()
    bench.actor.handle(OwnershipLost(bench.home, 2))
    assert (bench.end(bench.home), bench.live()) == (2, {first.job_id})


def test_a_log_that_is_gained_again_goes_on_in_another_line(bench: Bench) -> None:
    bench.actor.handle(OwnershipLost(bench.home, 1))
    bench.gain(bench.home, LATER)
    bench.enqueue()
    (append,) = bench.told.take(Append)
    assert (append.line, append.after, append.epoch) == (1, 2, LATER)


def test_what_the_protocol_puts_into_an_own_log_takes_the_place_of_what_was_decided(bench: Bench) -> None:
    lost = bench.enqueue()
    bench.told.take(Append)
    change = ev.ConfigurationChanged(((("m", "n"), 1),))
    bench.actor.handle(Interposed(bench.home, bench.record(bench.home, change)))
    assert (bench.end(bench.home), lost in bench.live()) == (2, False)
    bench.enqueue()
    (append,) = bench.told.take(Append)
    assert (append.line, append.after) == (1, 2)


def test_records_are_followed_in_order_without_gaps_or_repetitions(bench: Bench) -> None:
    jobs = [bench.asked(OTHER) for _ in range(6)]
    records = bench.record(OTHER, *jobs)
    for some in (records[:2], records[1:3], records[5:], records[:1], []):
        bench.actor.handle(Followed(OTHER, some))
    assert (bench.end(OTHER), bench.live()) == (6, {job.job_id for job in jobs})


def test_much_is_followed_piece_by_piece(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "CHUNK", 4)
    jobs = [bench.asked(OTHER) for _ in range(10)]
    bench.actor.handle(Followed(OTHER, bench.record(OTHER, *jobs)[9:]))
    assert bench.end(OTHER) == 10


def test_whoever_waits_here_for_an_end_elsewhere_is_answered_by_the_news_of_it(bench: Bench) -> None:
    job = bench.asked(OTHER)
    bench.actor.handle(Followed(OTHER, bench.record(OTHER, job)))
    watcher = bench.ask(cmd.FindJob(job.job_id, park=True))
    bench.actor.handle(Followed(OTHER, bench.record(OTHER, ev.JobCancelled(job.job_id))))
    assert answer(watcher) == Elsewhere(job.job_id, 2)


def test_a_claim_that_waits_is_sent_where_there_is_work(bench: Bench) -> None:
    bench.ask(cmd.Register("h", "h", (), 1))
    bench.store_all()
    claim = bench.ask(cmd.Claim("h", park=True))
    bench.actor.handle(Followed(OTHER, bench.record(OTHER, bench.asked(OTHER))))
    with pytest.raises(NotOwner) as sent:
        answer(claim)
    assert sent.value.log == OTHER


def test_who_gives_up_is_answered(bench: Bench) -> None:
    bench.ask(cmd.Register("h", "h", (), 1))
    claim = bench.ask(cmd.Claim("h", park=True))
    bench.actor.handle(GiveUp(claim))
    bench.store_all()
    assert answer(claim).jobs == ()


def test_an_event_that_is_not_known_here_stops_its_log_loudly_and_no_other(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    known, after = bench.asked(OTHER), bench.asked(OTHER)
    bench.record(OTHER, known)
    last = bench.store.head(OTHER)
    strange = sealed(last.hash, Record(OTHER, 2, EPOCH, "x", "SomethingNew", 1, START, "{}"))
    bench.store.append([strange])
    records = list(bench.store.tail(OTHER, 0)) + bench.record(OTHER, after)
    with caplog.at_level(logging.CRITICAL):
        bench.actor.handle(Followed(OTHER, records[:2]))
        bench.actor.handle(Followed(OTHER, records[2:]))
        bench.actor.handle(OwnershipGained(OTHER, LATER, 3, 3))
    assert [record.message.split()[0] for record in caplog.records] == ["log_stuck", "stuck_log_gained"]
    assert (bench.end(OTHER), bench.live()) == (1, {known.job_id})
    assert "SomethingNew" in bench.queue.stuck[OTHER]
    with pytest.raises(NotOwner):
        answer(bench.ask(cmd.Cancel(known.job_id)))
    assert bench.enqueue() in bench.live()


def test_a_log_that_was_rewritten_is_built_anew_and_who_waits_goes_on_waiting(bench: Bench) -> None:
    gone, kept = bench.asked(OTHER), bench.asked(OTHER)
    bench.actor.handle(Followed(OTHER, bench.record(OTHER, kept, gone)))
    watcher = bench.ask(cmd.FindJob(kept.job_id, park=True))
    bench.record(OTHER, ev.OwnershipTaken("m", "forced by me"), ev.JobCancelled(kept.job_id), epoch="1.1.m", start=2)
    bench.actor.handle(Rewritten(OTHER, 2))
    assert (bench.end(OTHER), bench.live()) == (2, {kept.job_id})
    bench.actor.handle(Followed(OTHER, list(bench.store.tail(OTHER, 2))))
    assert answer(watcher) == Elsewhere(kept.job_id, 3)


def test_an_own_log_that_was_rewritten_is_not_owned_until_the_replicator_says_so(bench: Bench) -> None:
    bench.enqueue()
    bench.actor.handle(Rewritten(bench.home, 1))
    assert bench.live() == set()
    bench.gain(bench.home, "1.1.n")
    bench.enqueue()
    assert bench.told.take(Append)[-1].line == 1


@pytest.mark.parametrize("own", [True, False])
def test_a_snapshot_is_asked_for_when_there_is_much_behind_the_last_one(bench: Bench, monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    monkeypatch.setattr(job_queue, "SNAPSHOT_EVERY", 5)
    log = bench.home if own else OTHER
    for _ in range(5):
        if own:
            bench.enqueue()
        else:
            bench.actor.handle(Followed(log, bench.record(log, bench.asked(log))))
    bench.actor.handle(Committed(log, bench.end(log)))
    (checkpoint,) = bench.told.take(Checkpoint)
    assert (checkpoint.log, checkpoint.line, checkpoint.picture.end) == (log, 0, 6 if own else 5)


def test_no_snapshot_is_asked_for_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_queue, "SNAPSHOT_EVERY", 5)
    bench = Bench({OTHER: 3})
    bench.actor.handle(Followed(OTHER, bench.record(OTHER, *(bench.asked(OTHER) for _ in range(7)))))
    assert bench.told.take(Checkpoint) == []


def test_what_is_committed_is_read_from_the_archive_and_nothing_else(bench: Bench) -> None:
    bench.enqueue()
    bench.store_all()
    assert bench.queue.books.book(bench.home).committed == 0
    bench.actor.handle(Committed(bench.home, 2))
    assert bench.queue.books.book(bench.home).committed == 2


def test_without_a_replicator_nobody_waits_in_vain(bench: Bench) -> None:
    bench.told.gone = True
    reply = Reply()
    with pytest.raises(Unavailable):
        bench.actor.handle(Ask(cmd.Enqueue((bench.asked(),)), reply))
    with pytest.raises(Unavailable):
        answer(reply)

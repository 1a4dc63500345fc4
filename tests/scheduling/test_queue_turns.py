"""Turns, taking them back, accepting jobs, looking."""

from dataclasses import replace
from typing import Any

import pytest

from skyclaw import commands as cmd
from skyclaw.answers import Reaped
from skyclaw.errors import (
    QueueFull,
    UnknownHost,
)
from skyclaw.scheduling import queue as queue_module
from tests.scheduling.making import MINUTE, T0, Shop, asked
from tests.scheduling.observing import observed

# Turns.


def test_a_turn_says_where_its_events_stand(shop: Shop) -> None:
    shop.enqueue("j1", "j2")
    assert (shop.turn.start, len(shop.turn.events), shop.state.end) == (0, 2, 2)
    shop.enqueue("j3")
    assert (shop.turn.start, shop.state.end) == (2, 3)


def test_a_refusal_is_an_answer_and_leaves_no_trace(shop: Shop) -> None:
    shop.enqueue("j1")
    before = shop.state.end
    with pytest.raises(UnknownHost):
        shop.claim("nobody")
    assert (shop.turn.events, shop.state.end) == ([], before)


def test_a_failure_nobody_foresaw_leaves_no_trace_and_is_raised(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(turns: Any, _: Any) -> None:
        turns.of(shop.book).emit([asked("half")])
        raise ZeroDivisionError

    monkeypatch.setitem(queue_module.HANDLERS, cmd.Cancel, fail)
    with pytest.raises(ZeroDivisionError):
        shop.ask(cmd.Cancel("j1"))
    assert (shop.state.end, shop.state.jobs) == (0, {})


def test_what_was_decided_can_be_taken_back_the_latest_turn_first(shop: Shop) -> None:
    shop.register(parallel=2)
    shop.enqueue("j1", "j2")
    end, turns = shop.state.end, []
    for _ in range(2):
        shop.claim()
        turns.append(shop.turn)
    shop.report("j1")
    turns.append(shop.turn)
    for turn in reversed(turns):
        turn.take_back()
    assert (shop.state.end, shop.state.held, set(shop.state.jobs)) == (end, {}, {"j1", "j2"})
    assert shop.claim(limit=2) == ["j1", "j2"]


def test_taking_back_leaves_the_list_of_events_alone_that_another_thread_has_in_hand(shop: Shop) -> None:
    shop.enqueue("j1")
    handed_on = shop.turn.events
    shop.turn.take_back()
    assert [event.job_id for event in handed_on] == ["j1"]  # type: ignore[attr-defined]
    assert shop.turn.events == []


def test_a_lease_that_was_taken_back_has_no_end_and_one_whose_end_was_taken_back_has(shop: Shop) -> None:
    shop.register()
    shop.enqueue("j1")
    shop.claim()
    leased = shop.turn
    shop.report("j1")
    shop.turn.take_back()
    assert shop.book.deadlines.end_of("j1") == T0 + MINUTE
    leased.take_back()
    assert len(shop.book.deadlines) == 0
    shop.claim()
    shop.report("j1")
    shop.turn.take_back()
    assert shop.pass_time(MINUTE) == Reaped(expired=1)


# Accepting jobs.


def test_jobs_are_accepted_all_or_none() -> None:
    shop = Shop(max_queued=3)
    shop.enqueue("j1", "j2")
    with pytest.raises(QueueFull, match="2 jobs are queued, the limit is 3"):
        shop.enqueue("j3", "j4")
    assert shop.state.queued == 2
    shop.enqueue("j3")


def test_a_running_job_takes_no_place_in_the_queue() -> None:
    shop = Shop(max_queued=1)
    shop.register()
    shop.leased("j1")
    shop.enqueue("j2")


def test_a_batch_is_answered_in_its_order(shop: Shop) -> None:
    answer = shop.enqueue(asked("b", priority=1), asked("a"))
    assert [seen.job.id for seen in answer.jobs] == ["b", "a"]


# Looking.


def test_a_survey_shows_what_is_live_and_what_has_just_ended(shop: Shop) -> None:
    shop.register(capabilities=["linux"], parallel=2)
    shop.leased("running")
    shop.leased("done")
    shop.report("done")
    shop.enqueue(asked("fits", ["linux"]), asked("too much", ["gpu", "linux"]))
    seen = shop.ask(cmd.Survey())
    assert [(one.job.id, one.unschedulable, one.lease_end) for one in seen.see(seen.live)] == [
        ("running", False, T0 + MINUTE),
        ("fits", False, None),
        ("too much", True, None),
    ]
    assert (seen.queued, seen.leased, [job.id for job in seen.finished]) == (2, 1, ["done"])
    assert [(host.host.id, host.active_leases) for host in seen.hosts] == [("h1", 1)]


def test_a_survey_holds_each_requirement_against_the_hosts_once(shop: Shop) -> None:
    shop.register(capabilities=["linux"])
    shop.enqueue(*(asked(f"j{number}", ["gpu"]) for number in range(50)))
    looked_at: list[str] = []

    class Hosts(tuple[Any, ...]):
        def __iter__(self) -> Any:
            looked_at.append("hosts")
            return super().__iter__()

    surveyed = shop.ask(cmd.Survey())
    surveyed = replace(surveyed, hosts=Hosts(surveyed.hosts))
    assert [seen.unschedulable for seen in surveyed.see(surveyed.live)] == [True] * 50
    assert len(looked_at) == 1


def test_nothing_that_is_only_looked_at_changes(shop: Shop) -> None:
    shop.register()
    shop.leased("j1")
    before = shop.state.end
    for command in (cmd.FindJob("j1"), cmd.FindHost("h1"), cmd.Explain("j1"), cmd.Survey(), cmd.Reap()):
        shop.ask(command)
        assert shop.turn.events == []
    assert observed(shop.state)["end"] == before

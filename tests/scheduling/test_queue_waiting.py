"""Claims wait for jobs, clients for ends."""

import pytest

from skyclaw import commands as cmd
from skyclaw.answers import Claimed, Dismissed, Elsewhere, JobSeen, Reaped
from tests.scheduling.making import MINUTE, T0, Shop, asked, kinds

# Waiting for work.


def test_a_parked_claim_is_answered_by_the_job_that_comes(shop: Shop) -> None:
    shop.register()
    shop.park("t1")
    shop.enqueue("j1")
    assert kinds(shop) == ["JobEnqueued", "JobLeased"]
    assert [seen.job.id for seen in shop.others()["t1"].jobs] == ["j1"]
    shop.enqueue("j2")
    assert shop.others() == {}


def test_the_longest_waiting_is_served_first_and_as_many_as_there_are_jobs(shop: Shop) -> None:
    for name in ("z", "m", "a"):
        shop.register(name)
        shop.park(f"t{name}", name)
    shop.enqueue("j1", "j2")
    assert list(shop.others()) == ["tz", "tm"]


def test_a_parked_claim_gets_what_it_asked_for_at_most(shop: Shop) -> None:
    shop.register(parallel=5)
    shop.park("t1", limit=2)
    shop.enqueue("j1", "j2", "j3")
    assert [seen.job.id for seen in shop.others()["t1"].jobs] == ["j1", "j2"]


def test_a_claim_that_cannot_take_the_job_goes_on_waiting(shop: Shop) -> None:
    shop.register("h1", ["linux"])
    shop.park("t1", "h1")
    shop.enqueue(asked("j1", ["gpu"]))
    assert (shop.others(), kinds(shop)) == ({}, ["JobEnqueued"])


def test_each_of_two_new_jobs_finds_its_host_when_the_able_one_prefers_the_other(shop: Shop) -> None:
    shop.register("able", ["gpu"])
    shop.register("plain")
    shop.park("able's", "able")
    shop.park("plain's", "plain")
    shop.enqueue(asked("for anybody"), asked("for the able", ["gpu"], priority=1))
    got = {ticket: [seen.job.id for seen in answer.jobs] for ticket, answer in shop.others().items()}
    assert got == {"able's": ["for the able"], "plain's": ["for anybody"]}


def test_a_job_whose_time_has_come_finds_its_host_when_another_host_asks_first(shop: Shop) -> None:
    shop.register("able", ["gpu"])
    shop.register("plain")
    shop.enqueue(asked("j1", ["gpu"], not_before=T0 + 500))
    shop.park("able's", "able")
    shop.now = T0 + 500
    assert shop.claim("plain") == []
    assert [seen.job.id for seen in shop.others()["able's"].jobs] == ["j1"]


def test_a_job_whose_time_has_come_is_started_by_the_reaper(shop: Shop) -> None:
    shop.register()
    shop.enqueue(asked("j1", not_before=T0 + 500))
    shop.park("t1")
    assert shop.pass_time(499) == Reaped()
    assert shop.pass_time(1) == Reaped(started=1)
    assert [seen.job.id for seen in shop.others()["t1"].jobs] == ["j1"]


def test_a_job_whose_time_has_come_is_started_by_whatever_is_asked_next(shop: Shop) -> None:
    shop.register()
    shop.enqueue(asked("j1", not_before=T0 + 500))
    shop.park("t1")
    shop.now += 500
    shop.ask(cmd.Heartbeat("h1"))
    assert [seen.job.id for seen in shop.others()["t1"].jobs] == ["j1"]


def test_a_full_host_waits_and_is_served_when_it_has_room(shop: Shop) -> None:
    shop.register()
    shop.leased("j1")
    shop.enqueue("j2")
    shop.park("t1")
    shop.report("j1")
    assert [seen.job.id for seen in shop.others()["t1"].jobs] == ["j2"]


@pytest.mark.parametrize("end", ["release", "cancel", "expiry", "new life"])
def test_a_job_that_comes_back_goes_to_whoever_waits(shop: Shop, end: str) -> None:
    shop.register("h1")
    shop.register("h2")
    shop.leased("j1", "h1")
    shop.park("t2", "h2")
    if end == "release":
        shop.ask(cmd.Release("j1", "h1", None, "x"))
    elif end == "cancel":
        shop.ask(cmd.Cancel("j1"))
        shop.ask(cmd.Retry("j1"))
    elif end == "expiry":
        shop.pass_time(MINUTE)
    else:
        shop.register("h1")
    assert [seen.job.id for seen in shop.others()["t2"].jobs] == ["j1"]


def test_a_job_that_is_back_from_a_turn_that_was_not_committed_goes_to_whoever_waits(shop: Shop) -> None:
    shop.register("h1")
    shop.register("h2")
    shop.enqueue("j1")
    shop.claim("h1")
    lost = shop.turn
    shop.park("t2", "h2")
    lost.take_back()
    shop.pass_time(0)
    assert [seen.job.id for seen in shop.others()["t2"].jobs] == ["j1"]


def test_a_host_has_one_claim_and_the_former_one_is_answered(shop: Shop) -> None:
    shop.register()
    shop.park("first")
    shop.park("second")
    assert shop.others() == {"first": Claimed(())}
    assert len(shop.queue.parking) == 1


def test_a_claim_that_does_not_wait_ends_the_one_that_does(shop: Shop) -> None:
    shop.register()
    shop.park("first")
    shop.claim()
    assert shop.others() == {"first": Claimed(())}


@pytest.mark.parametrize("command", [cmd.Register("h1", "H1", (), 1), cmd.ChangeMode("h1", "paused")])
def test_a_host_that_changes_is_answered_and_asks_anew(shop: Shop, command: cmd.Command) -> None:
    shop.register()
    shop.park("t1")
    shop.ask(command)
    assert shop.others() == {"t1": Claimed(())}


def test_too_many_cannot_wait() -> None:
    shop = Shop(max_parked=2)
    for host_id in ("h1", "h2", "h3"):
        shop.register(host_id)
    shop.enqueue(asked("j1", ["gpu"]))
    shop.park("t1", "h1")
    assert shop.ask(cmd.FindJob("j1", park=True), "watcher") is None
    assert shop.ask(cmd.Claim("h3", park=True)) == Claimed((), crowded=True)
    assert shop.ask(cmd.FindJob("j1", park=True)).parked is False
    shop.park("again", "h1")  # whoever had a place has one


def test_who_gives_up_gets_what_there_is(shop: Shop) -> None:
    shop.register()
    shop.park("t1")
    shop.enqueue(asked("j1", ["gpu"]))
    shop.ask(cmd.FindJob("j1", park=True), "t2")
    assert shop.queue.give_up("t1", shop.now).answers == [("t1", Claimed(()))]
    ((_, seen),) = shop.queue.give_up("t2", shop.now).answers
    assert isinstance(seen, JobSeen)
    assert seen.job.id == "j1"
    assert shop.queue.give_up("t1", shop.now).answers == []


def test_whoever_waits_is_sent_home_before_the_process_ends_and_nobody_waits_any_more(shop: Shop) -> None:
    shop.register()
    shop.enqueue(asked("j1", ["gpu"]))
    shop.park("t1")
    shop.ask(cmd.FindJob("j1", park=True), "t2")
    assert shop.ask(cmd.StopParking()) == Dismissed(2)
    assert shop.others()["t1"] == Claimed(())
    assert shop.others()["t2"].job.id == "j1"
    assert shop.ask(cmd.Claim("h1", park=True)) == Claimed((), crowded=True)
    assert shop.ask(cmd.FindJob("j1", park=True)).parked is False


# Waiting for an end.


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled", "exhausted"])
def test_a_watcher_hears_of_every_end(shop: Shop, end: str) -> None:
    shop.register()
    shop.leased("j1", kind="openclaw-run")
    assert shop.ask(cmd.FindJob("j1", park=True), "watcher") is None
    if end == "cancelled":
        shop.ask(cmd.Cancel("j1"))
    elif end == "exhausted":
        shop.pass_time(MINUTE)
    else:
        shop.report("j1", success=end == "completed")
    assert shop.others() == {"watcher": Elsewhere("j1", shop.state.end)}


def test_a_watcher_waits_on_while_there_are_attempts_left(shop: Shop) -> None:
    shop.register()
    shop.leased("j1", max_attempts=2)
    shop.ask(cmd.FindJob("j1", park=True), "watcher")
    shop.report("j1", success=False)
    assert shop.others() == {}


def test_a_finished_or_unknown_job_is_not_waited_for(shop: Shop) -> None:
    assert shop.ask(cmd.FindJob("never", park=True)) == Elsewhere("never", shop.state.end)
    assert len(shop.queue.parking) == 0


@pytest.mark.parametrize("what", ["the job", "its revival"])
def test_a_watcher_of_what_was_taken_back_does_not_wait_for_ever(shop: Shop, what: str) -> None:
    shop.enqueue("j1")
    if what == "its revival":
        shop.ask(cmd.Cancel("j1"))
        shop.ask(cmd.Retry("j1"))
    lost = shop.turn
    assert shop.ask(cmd.FindJob("j1", park=True), "watcher") is None
    lost.take_back()
    shop.pass_time(0)
    assert shop.others() == {"watcher": Elsewhere("j1", shop.state.end)}

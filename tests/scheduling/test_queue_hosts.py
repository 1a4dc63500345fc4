"""What hosts ask of the queue, but for work."""

import pytest

from skyclaw import commands as cmd
from skyclaw import events as ev
from skyclaw.answers import Elsewhere, Reaped
from skyclaw.errors import (
    NotLeased,
    Refused,
    UnknownHost,
)
from tests.scheduling.making import DAY, MINUTE, T0, Shop, asked, held, lived, outcome


def test_a_new_life_gives_back_what_it_does_not_list(shop: Shop) -> None:
    shop.register(parallel=3)
    tokens = {name: shop.leased(name) for name in ("kept", "dropped", "stale")}
    shop.register(parallel=3, leases=(held("kept", tokens["kept"]), held("stale", "0.0.n/1"), held("unknown", "x")))
    assert shop.state.held == {"h1": {"kept"}}
    assert sorted(event.job_id for event in shop.turn.events if isinstance(event, ev.JobReleased)) == ["dropped", "stale"]
    assert shop.report("kept", token=tokens["kept"]) == Elsewhere("kept", shop.state.end)
    with pytest.raises(NotLeased):
        shop.report("dropped", token=tokens["dropped"])


def test_what_a_new_life_gives_back_goes_to_whoever_waits(shop: Shop) -> None:
    shop.register("h1")
    shop.register("h2")
    shop.leased("j1", "h1")
    shop.park("t2", "h2")
    shop.register("h1")
    assert [seen.job.id for seen in shop.others()["t2"].jobs] == ["j1"]


def test_a_heartbeat_without_a_list_renews_all_leases(shop: Shop) -> None:
    shop.register(parallel=2)
    shop.leased("j1")
    shop.leased("j2")
    shop.now += 50_000
    answer = shop.ask(cmd.Heartbeat("h1"))
    assert (answer.cancelled, answer.lost, answer.host.active_leases) == ((), (), 2)
    assert shop.pass_time(59_999) == Reaped()
    assert shop.pass_time(1).expired == 2


def test_a_heartbeat_renews_what_it_lists_and_gives_back_the_rest(shop: Shop) -> None:
    shop.register(parallel=2)
    mine = shop.leased("j1")
    shop.leased("j2")
    shop.now += 10_001
    shop.ask(cmd.Heartbeat("h1", (held("j1", mine),)))
    assert shop.turn.events == [ev.JobReleased("j2", "its host does not run it")]
    assert shop.pass_time(50_000) == Reaped()


def test_a_lease_that_may_still_be_on_its_way_is_not_given_back(shop: Shop) -> None:
    shop.register()
    shop.leased("j1")
    shop.now += 10_000
    shop.ask(cmd.Heartbeat("h1", ()))
    assert shop.turn.events == []
    assert shop.pass_time(50_000).expired == 1  # but neither is it renewed


def test_a_lease_whose_claim_was_answered_without_it_is_given_back_at_once(shop: Shop) -> None:
    shop.register(parallel=3)
    for name, claim_id in ("j1", "c.1"), ("j2", "c.2"), ("j3", "c.3"):
        shop.enqueue(asked(name))
        shop.ask(cmd.Claim("h1", claim_id=claim_id))
    shop.ask(cmd.Heartbeat("h1", (held("j1", shop.token_of("j1")),), "c.2"))
    assert shop.turn.events == [ev.JobReleased("j2", "its host does not run it")]  # and what the third brings may be on its way
    shop.ask(cmd.Heartbeat("h1", None, "c.3"))
    assert shop.turn.events == []  # a host without a list holds whatever it has been given


def test_a_host_learns_which_of_its_jobs_were_cancelled_and_which_it_lost(shop: Shop) -> None:
    shop.register(parallel=5)
    tokens = {name: shop.leased(name) for name in ("running", "cancelled", "revived", "released", "finished")}
    shop.ask(cmd.Cancel("cancelled"))
    shop.ask(cmd.Cancel("revived"))
    shop.ask(cmd.Retry("revived"))
    shop.ask(cmd.Release("released", "h1", None, "x"))
    shop.report("finished")
    answer = shop.ask(cmd.Heartbeat("h1", (*(held(*pair) for pair in tokens.items()), held("unknown", "x"))))
    assert answer.cancelled == ("cancelled",)
    assert answer.lost == ("finished", "released", "revived", "unknown")


def test_a_host_that_lists_a_job_nobody_remembers_is_told_that_it_is_lost() -> None:
    shop = Shop(archived={"old": lived(asked("old"), ev.JobCancelled("old"))})
    shop.register()
    answer = shop.ask(cmd.Heartbeat("h1", (held("old", "x"),)))
    assert (answer.cancelled, answer.lost) == ((), ("old",))


def test_a_job_that_was_running_when_its_host_began_a_new_life_has_lost_a_lease(shop: Shop) -> None:
    shop.register()
    for losses in range(1, 5):
        shop.leased("j1") if losses == 1 else shop.claim()
        shop.register()
        assert (shop.state.jobs["j1"].status, shop.state.jobs["j1"].losses) == ("queued", losses)
    shop.claim()
    shop.register()
    ended = shop.state.recent["j1"]
    assert (ended.status, ended.reason, ended.attempts) == ("failed", "exhausted", 5)


def test_a_pause_outlives_the_hosts_own_drain_and_restart(shop: Shop) -> None:
    shop.register()
    for mode in ("paused", "draining"):
        assert shop.ask(cmd.ChangeMode("h1", mode)).mode == "paused"
    shop.register()
    assert shop.ask(cmd.FindHost("h1")).mode == "paused"
    assert shop.ask(cmd.ChangeMode("h1", "active")).mode == "active"


def test_a_lease_whose_claim_was_repeated_is_not_given_back_by_whoever_heard_nothing(shop: Shop) -> None:
    shop.register()
    shop.enqueue("j1", "j2")
    shop.ask(cmd.Claim("h1", claim_id="c1"))
    assert [seen.job.id for seen in shop.ask(cmd.Claim("h1", claim_id="c1")).jobs] == ["j1"]
    with pytest.raises(Refused, match="asked again"):
        shop.ask(cmd.Release("j1", "h1", shop.token_of("j1"), "its claim was not answered", "c1"))
    assert shop.state.jobs["j1"].status == "leased"
    shop.register(parallel=2, leases=(held("j1", shop.token_of("j1")),))
    shop.ask(cmd.Claim("h1", claim_id="c2"))
    shop.ask(cmd.Release("j2", "h1", shop.token_of("j2"), "its claim was not answered", "c2"))
    assert shop.state.jobs["j2"].status == "queued"


def test_after_a_restart_nobody_pretends_to_have_heard_of_a_host(shop: Shop) -> None:
    shop.register()
    shop.pass_time(MINUTE)
    again = Shop(shop.state)
    again.now = shop.now
    seen = again.ask(cmd.FindHost("h1"))
    assert (seen.online, seen.last_seen) == (False, T0)


def test_a_job_that_came_back_to_the_same_host_is_not_lost_by_its_former_lease(shop: Shop) -> None:
    shop.register()
    old = shop.leased("j1")
    shop.pass_time(MINUTE)
    assert shop.claim() == ["j1"]
    answer = shop.ask(cmd.Heartbeat("h1", (held("j1", old), held("j1", shop.token_of("j1")), held("x", "1"), held("x", "2"))))
    assert (answer.lost, answer.cancelled) == (("x",), ())


def test_an_unknown_host_must_register_before_anything_else(shop: Shop) -> None:
    shop.enqueue("j1")
    about_nobody: list[cmd.Command] = [
        cmd.Heartbeat("nobody"),
        cmd.Claim("nobody", park=True),
        cmd.ChangeMode("nobody", "paused"),
        cmd.FindHost("nobody"),
        cmd.Report("unknown", "nobody", None, outcome()),
        cmd.ReportAll("nobody", ()),
        cmd.Release("unknown", "nobody", None, "x"),
    ]
    for command in about_nobody:
        with pytest.raises(UnknownHost, match="unknown host: nobody"):
            shop.ask(command)


def test_a_host_is_online_while_it_is_heard_of(shop: Shop) -> None:
    shop.register()
    shop.now += 15_000
    assert shop.ask(cmd.FindHost("h1")).online
    shop.now += 1
    assert not shop.ask(cmd.FindHost("h1")).online
    shop.ask(cmd.Heartbeat("h1"))
    assert shop.ask(cmd.FindHost("h1")).online
    assert shop.ask(cmd.FindHost("h1")).last_seen == shop.now


def test_a_change_to_the_same_mode_is_no_event(shop: Shop) -> None:
    shop.register()
    shop.ask(cmd.ChangeMode("h1", "active"))
    assert shop.turn.events == []
    assert shop.ask(cmd.ChangeMode("h1", "paused")).mode == "paused"


def test_a_silent_host_is_forgotten_after_a_day_when_it_holds_nothing() -> None:
    shop = Shop(lease_ms=2 * DAY)
    shop.register("idle")
    shop.register("busy")
    shop.leased("j1", "busy")
    assert shop.pass_time(DAY) == Reaped()
    assert shop.pass_time(1) == Reaped(forgotten=1)
    assert shop.turn.events == [ev.HostForgotten("idle")]
    assert set(shop.state.hosts) == {"busy"}


def test_when_a_host_was_heard_of_is_forgotten_after_the_host(shop: Shop) -> None:
    shop.register()
    shop.ask(cmd.Heard({"a stranger": 0}))
    shop.pass_time(DAY + 1)
    assert shop.books.last_heard("h1") == T0
    shop.pass_time(10 * MINUTE)
    assert (shop.books.last_heard("h1"), shop.books.last_heard("a stranger")) == (0, 0)

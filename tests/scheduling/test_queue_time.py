"""What the passing of time leads to."""

import pytest

from skyclaw import commands as cmd
from skyclaw.answers import Claimed, Reaped
from tests.scheduling.making import DAY, MINUTE, T0, Shop, asked, kinds


def test_a_lost_lease_is_queued_again_and_counted(shop: Shop) -> None:
    shop.register()
    shop.leased("j1")
    assert shop.pass_time(MINUTE - 1) == Reaped()
    assert shop.pass_time(1) == Reaped(expired=1)
    assert kinds(shop) == ["JobLeaseExpired"]
    assert (shop.state.jobs["j1"].status, shop.state.jobs["j1"].losses) == ("queued", 1)


def test_a_job_is_given_up_after_five_lost_leases(shop: Shop) -> None:
    for host_id in ("h1", "h2"):
        shop.register(host_id)
    shop.enqueue("j1")
    for number in range(5):
        assert shop.claim(f"h{number % 2 + 1}") == ["j1"]
        shop.pass_time(MINUTE)
    assert kinds(shop) == ["JobLeaseExpired", "JobFailed"]
    assert shop.state.recent["j1"].reason == "exhausted"


def test_a_lease_does_not_outlive_the_jobs_time_by_more_than_half_a_minute(shop: Shop) -> None:
    shop.register()
    shop.leased("j1", timeout_ms=120_000)
    for _ in range(14):
        shop.now += 10_000
        shop.ask(cmd.Heartbeat("h1"))
    assert shop.pass_time(9_999) == Reaped()
    assert shop.pass_time(1) == Reaped(expired=1)


def lose_five(shop: Shop, host_id: str = "h1") -> None:
    for _ in range(5):
        shop.enqueue(asked(f"j{shop.now}", kind="openclaw-run"))
        assert shop.claim(host_id) == [f"j{shop.now}"]
        shop.pass_time(MINUTE)


def test_five_lost_leases_in_a_row_put_a_host_into_quarantine_for_ten_minutes(shop: Shop) -> None:
    shop.register()
    lose_five(shop)
    shop.enqueue("j1")
    assert shop.ask(cmd.Claim("h1", park=True)) == Claimed((), "quarantined")
    assert shop.ask(cmd.FindHost("h1")).mode == "quarantined"
    shop.now += 10 * MINUTE - 1
    assert shop.ask(cmd.Claim("h1")).reason == "quarantined"
    shop.now += 1
    assert shop.claim() == ["j1"]


def test_four_and_a_result_do_not(shop: Shop) -> None:
    shop.register()
    for _ in range(2):
        for number in range(4):
            shop.leased(f"{shop.now}-{number}", kind="openclaw-run")
            shop.pass_time(MINUTE)
        shop.leased(f"good{shop.now}")
        shop.report(f"good{shop.now}", success=False)
    assert shop.ask(cmd.FindHost("h1")).mode == "active"


def test_a_waiting_host_that_falls_into_quarantine_is_served_after_it(shop: Shop) -> None:
    shop.register(parallel=6)
    shop.enqueue(*(asked(f"j{number}", kind="openclaw-run") for number in range(5)))
    shop.claim(limit=5)
    shop.park("t1")
    shop.pass_time(MINUTE)
    shop.enqueue("new")
    assert shop.others() == {}
    shop.pass_time(10 * MINUTE - 1)
    assert shop.others() == {}
    shop.pass_time(1)
    assert [seen.job.id for seen in shop.others()["t1"].jobs] == ["new"]


def test_who_lets_a_host_take_work_ends_its_quarantine(shop: Shop) -> None:
    shop.register()
    lose_five(shop)
    assert shop.ask(cmd.ChangeMode("h1", "active")).mode == "active"
    shop.enqueue("j1")
    assert shop.claim() == ["j1"]


@pytest.mark.parametrize("mode", ["paused", "draining"])
def test_a_quarantine_is_not_escaped_by_a_pause_or_a_new_life(shop: Shop, mode: str) -> None:
    shop.register()
    lose_five(shop)
    shop.ask(cmd.ChangeMode("h1", mode))
    assert shop.ask(cmd.FindHost("h1")).mode == mode
    shop.register()
    if mode == "draining":
        assert shop.ask(cmd.Claim("h1")).reason == "quarantined"
    else:
        assert shop.ask(cmd.Claim("h1")).reason == "paused"


def test_a_quarantine_is_taken_back_with_the_turn_that_began_it(shop: Shop) -> None:
    shop.register()
    lose_five(shop)
    shop.turn.take_back()
    assert shop.ask(cmd.FindHost("h1")).mode == "active"


def test_a_quarantine_that_was_ended_in_vain_goes_on(shop: Shop) -> None:
    shop.register()
    shop.ask(cmd.ChangeMode("h1", "paused"))
    shop.ask(cmd.ChangeMode("h1", "active"))
    lose_five(shop)
    shop.ask(cmd.ChangeMode("h1", "paused"))
    shop.ask(cmd.ChangeMode("h1", "active"))
    shop.turn.take_back()
    shop.ask(cmd.Register("h1", "H1", (), 1))
    assert shop.book.quarantine["h1"] > shop.now


def test_a_quarantine_begins_anew_with_a_new_owner(shop: Shop) -> None:
    shop.register()
    lose_five(shop)
    again = Shop(shop.state)
    assert again.ask(cmd.FindHost("h1")).mode == "quarantined"


def test_leases_have_their_full_time_again_with_a_new_owner(shop: Shop) -> None:
    shop.register()
    shop.leased("j1")
    again = Shop(shop.state)
    again.now = T0 + MINUTE - 1
    assert again.ask(cmd.Reap()) == Reaped()
    assert again.pass_time(1) == Reaped(expired=1)


def test_a_forgotten_host_whose_forgetting_is_taken_back_is_still_known_to_be_silent(shop: Shop) -> None:
    shop.register()
    assert shop.pass_time(DAY + 1) == Reaped(forgotten=1)
    shop.turn.take_back()
    assert shop.ask(cmd.FindHost("h1")).last_seen == T0
    assert shop.pass_time(0) == Reaped(forgotten=1)


def test_the_reaper_tidies_up(shop: Shop) -> None:
    names = [f"j{number}" for number in range(2000)]
    shop.enqueue(*names)
    for name in names:
        shop.ask(cmd.Cancel(name))
    shop.pass_time(0)
    assert shop.state.ready._entries == 0

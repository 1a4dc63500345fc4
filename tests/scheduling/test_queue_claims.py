"""Hosts ask for work."""

import pytest

from skyclaw import commands as cmd
from skyclaw import events as ev
from skyclaw.answers import Claimed
from tests.scheduling.making import MINUTE, T0, Shop, asked, held


def test_a_host_gets_as_many_as_it_asks_for_and_has_room_for(shop: Shop) -> None:
    shop.register(parallel=3)
    shop.enqueue("j1", "j2", "j3", "j4", "j5")
    assert shop.claim(limit=2) == ["j1", "j2"]
    assert shop.claim(limit=2) == ["j3"]
    assert shop.ask(cmd.Claim("h1", 2)) == Claimed((), "full")


def test_a_host_that_now_takes_fewer_is_full_until_it_has_done_enough(shop: Shop) -> None:
    shop.register(parallel=3)
    tokens = [held(name, shop.leased(name)) for name in ("j1", "j2", "j3")]
    shop.register(parallel=1, leases=tuple(tokens))
    shop.enqueue("j4")
    assert shop.ask(cmd.Claim("h1")).reason == "full"


def test_a_lease_names_its_event_and_its_end(shop: Shop) -> None:
    shop.register()
    shop.enqueue("j1")
    (seen,) = shop.ask(cmd.Claim("h1", claim_id="c")).jobs
    assert seen.job.lease is not None
    assert (seen.job.lease.token, seen.lease_end, seen.job.lease.claim_id) == ("0.1.n/3", T0 + MINUTE, "c")
    assert shop.turn.events == [ev.JobLeased("j1", "h1", MINUTE, "c")]


@pytest.mark.parametrize("mode", ["paused", "draining"])
def test_a_host_that_takes_no_work_is_told_so_at_once(shop: Shop, mode: str) -> None:
    shop.register()
    shop.ask(cmd.ChangeMode("h1", mode))
    shop.enqueue("j1")
    assert shop.ask(cmd.Claim("h1", park=True)) == Claimed((), mode)


def test_a_repeated_claim_gets_the_same_leases_in_the_same_order(shop: Shop) -> None:
    shop.register(parallel=9)
    names = [f"j{number}" for number in range(8)]
    shop.enqueue(*(asked(name, priority=number % 3) for number, name in enumerate(names)))
    first = shop.claim(limit=8, claim_id="c")
    assert first == ["j2", "j5", "j1", "j4", "j7", "j0", "j3", "j6"]
    assert shop.claim(limit=8, claim_id="c") == first
    assert shop.turn.events == []
    assert shop.claim(claim_id="d") == []


def test_a_repeated_claim_gets_its_leases_even_by_a_host_that_takes_no_work_any_more(shop: Shop) -> None:
    shop.register()
    shop.enqueue("j1")
    assert shop.claim(claim_id="c") == ["j1"]
    shop.ask(cmd.ChangeMode("h1", "paused"))
    assert shop.claim(claim_id="c") == ["j1"]


def test_a_claim_whose_leases_are_over_is_a_new_one(shop: Shop) -> None:
    shop.register()
    shop.enqueue("j1", "j2")
    assert shop.claim(claim_id="c") == ["j1"]
    shop.report("j1")
    assert shop.claim(claim_id="c") == ["j2"]


def test_a_delayed_job_is_not_leased_before_its_time(shop: Shop) -> None:
    shop.register()
    shop.enqueue(asked("j1", not_before=T0 + 500))
    shop.now = T0 + 499
    assert shop.claim() == []
    shop.now = T0 + 500
    assert shop.claim() == ["j1"]

"""How a host leaves."""

from skyclaw.hosting.leaving import HASTE_MS, LAST_MS, Leaving


def test_a_host_that_stays_is_never_over() -> None:
    leaving = Leaving()
    assert not leaving
    assert not leaving.must_stop(10**9)
    assert not leaving.is_over(10**9, running=False, settled=True)


def test_what_runs_may_finish_within_the_grace_and_is_then_stopped() -> None:
    leaving = Leaving()
    leaving.begin(1_000, grace_ms=30_000)
    assert leaving
    assert not leaving.must_stop(30_999)
    assert leaving.must_stop(31_000)


def test_it_is_over_as_soon_as_everything_is_settled() -> None:
    leaving = Leaving()
    leaving.begin(0, grace_ms=30_000)
    assert not leaving.is_over(10, running=True, settled=False)
    assert leaving.is_over(20, running=False, settled=True)


def test_deliveries_are_waited_for_a_little_when_nothing_runs_any_more() -> None:
    leaving = Leaving()
    leaving.begin(0, grace_ms=30_000)
    assert not leaving.is_over(1_000, running=False, settled=False)
    assert not leaving.is_over(999 + LAST_MS, running=False, settled=False)
    assert leaving.is_over(1_000 + LAST_MS, running=False, settled=False)


def test_to_stop_now_is_to_stop_what_runs_and_to_be_gone_in_seconds() -> None:
    leaving = Leaving()
    leaving.begin(0, grace_ms=30_000)
    leaving.begin(500, grace_ms=0)
    assert leaving.must_stop(500)
    assert not leaving.is_over(499 + HASTE_MS, running=True, settled=False)
    assert leaving.is_over(500 + HASTE_MS, running=True, settled=False)


def test_a_second_wish_to_drain_does_not_lengthen_the_grace() -> None:
    leaving = Leaving()
    leaving.begin(0, grace_ms=10_000)
    leaving.begin(5_000, grace_ms=10_000)
    assert leaving.must_stop(10_000)

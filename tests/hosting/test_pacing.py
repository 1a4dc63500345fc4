"""When a host tries again, and when a heartbeat is due."""

import pytest

from skyclaw.hosting.pacing import Backoff, Rhythm, heartbeat_timeout_s


def test_pauses_grow_to_a_limit_and_start_again_after_success() -> None:
    backoff = Backoff(lambda: 1.0, first_s=0.1, most_s=0.5)
    assert [backoff.pause() for _ in range(5)] == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])
    backoff.reset()
    assert backoff.pause() == pytest.approx(0.1)


def test_pauses_are_spread_over_half_of_their_length() -> None:
    assert [Backoff(lambda draw=draw: draw, first_s=1.0).pause() for draw in (0.0, 0.5)] == [0.5, 0.75]


def test_a_coordinator_that_says_when_to_come_back_is_taken_at_its_word() -> None:
    assert Backoff(lambda: 0.0, first_s=0.1).pause(at_least_s=30) == 30


def test_a_heartbeat_is_due_at_its_interval() -> None:
    rhythm = Rhythm(5_000, now=0)
    assert not rhythm.is_due(4_999, None)
    assert rhythm.is_due(5_000, None)
    rhythm.sent(5_000)
    assert not rhythm.is_due(9_999, None)


def test_a_short_lease_is_renewed_several_times_within_it() -> None:
    rhythm = Rhythm(5_000, now=0)
    assert not rhythm.is_due(999, 3_000)
    assert rhythm.is_due(1_000, 3_000)


def test_a_heartbeat_that_failed_is_followed_soon() -> None:
    rhythm = Rhythm(5_000, now=0)
    rhythm.sent(0)
    rhythm.failed()
    assert rhythm.is_due(1_000, None)
    rhythm.sent(1_000)
    assert not rhythm.is_due(2_000, None)


def test_a_coordinator_may_ask_for_more_heartbeats_but_not_for_fewer() -> None:
    rhythm = Rhythm(5_000, now=0)
    rhythm.ask(2_000)
    rhythm.ask(60_000)
    assert rhythm.is_due(2_000, None)


@pytest.mark.parametrize(("lease_ms", "timeout_s"), [(None, 10.0), (60_000, 10.0), (9_000, 3.0), (100, 1.0)])
def test_a_heartbeat_leaves_time_for_another_within_the_lease(lease_ms: int | None, timeout_s: float) -> None:
    assert heartbeat_timeout_s(lease_ms) == timeout_s

from hypothesis import given
from hypothesis import strategies as st

from skyclaw.scheduling.retries import LONGEST_BACKOFF_MS, backoff_ms, losses_allowed


def test_the_delay_doubles_with_each_failure() -> None:
    assert [backoff_ms(1000, failures, 0.0) for failures in (1, 2, 3, 4)] == [1000, 2000, 4000, 8000]


def test_the_delay_ends_at_an_hour() -> None:
    assert backoff_ms(1000, 12, 0.0) == 2_048_000
    assert backoff_ms(1000, 13, 0.0) == LONGEST_BACKOFF_MS == 3_600_000
    assert backoff_ms(1, 10_000, 0.0) == LONGEST_BACKOFF_MS


def test_no_delay_is_asked_for_by_zero() -> None:
    assert backoff_ms(0, 7, 0.9) == 0


def test_the_draw_takes_off_up_to_half() -> None:
    assert [backoff_ms(1000, 1, draw) for draw in (0.0, 0.25, 0.5, 0.999)] == [1000, 875, 750, 500]


@given(st.integers(0, 86_400_000), st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_delay_lies_between_half_and_whole_and_is_the_same_for_the_same_draw(initial: int, failures: int, draw: float) -> None:
    delay, longest = backoff_ms(initial, failures, draw), backoff_ms(initial, failures, 0.0)
    assert longest // 2 <= delay <= longest <= LONGEST_BACKOFF_MS
    assert delay == backoff_ms(initial, failures, draw)


@given(st.integers(1, 10_000), st.integers(1, 50), st.floats(0, 1, exclude_max=True))
def test_the_more_failures_the_longer_the_delay(initial: int, failures: int, draw: float) -> None:
    assert backoff_ms(initial, failures, draw) <= backoff_ms(initial, failures + 1, draw)


def test_an_agents_turn_is_given_up_at_the_first_lost_lease_and_everything_else_at_the_fifth() -> None:
    assert losses_allowed("openclaw-run") == 1
    assert losses_allowed("shell") == losses_allowed("whatever") == 5

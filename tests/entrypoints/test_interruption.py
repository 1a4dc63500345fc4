"""Requests to end come once, and never between starting something and noting it."""

import os
import signal
from collections.abc import Iterator

import pytest

from skyclaw.entrypoints.interruption import REQUESTS, Interruption


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The handlers of this process, and so of the tests' later children, are put back."""
    before = {number: signal.getsignal(number) for number in REQUESTS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", REQUESTS)
def test_the_first_request_interrupts_and_later_ones_do_not(number: signal.Signals) -> None:
    def work() -> None:
        with Interruption():
            try:
                os.kill(os.getpid(), number)
            finally:
                os.kill(os.getpid(), number)
                cleared.append(True)

    cleared: list[bool] = []
    with pytest.raises(KeyboardInterrupt):
        work()
    assert cleared == [True]


def test_a_shielded_block_ends_before_the_interruption() -> None:
    def work() -> None:
        with Interruption() as interruption:
            with interruption.shielded():
                os.kill(os.getpid(), signal.SIGTERM)
                noted.append("started")
            noted.append("not reached")

    noted: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        work()
    assert noted == ["started"]


def test_after_an_interruption_a_late_request_does_not_change_how_the_process_ends() -> None:
    def work() -> None:
        with Interruption():
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert {signal.getsignal(number) for number in REQUESTS} == {signal.SIG_IGN}


def test_without_an_interruption_signals_are_as_they_were_afterwards() -> None:
    before = [signal.getsignal(number) for number in REQUESTS]
    with Interruption() as interruption, interruption.shielded():
        assert signal.getsignal(signal.SIGINT) == interruption._note
    assert [signal.getsignal(number) for number in REQUESTS] == before

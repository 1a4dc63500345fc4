"""When an exchange is ended, and that it is left alone afterwards."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from skyclaw.outside.upstream_limits import GatewayLimits
from skyclaw.outside.upstream_watch import Cut, Exchange, Watchdog

LIMITS = GatewayLimits()
LATER = 1e9


@dataclass
class Watched:
    """An exchange on a real socket."""

    here: socket.socket
    there: socket.socket
    left: bool = False
    aborted: int = 0
    exchange: Exchange = field(init=False)

    def __post_init__(self) -> None:
        self.exchange = Exchange(LIMITS, lambda: self.left, self._abort)
        self.exchange.attempt(self.here)

    def _abort(self) -> None:
        self.aborted += 1

    def is_shut(self) -> bool:
        self.there.setblocking(False)
        try:
            return self.there.recv(1) == b""
        except BlockingIOError:
            return False


@pytest.fixture
def watched() -> Iterator[Watched]:
    here, there = socket.socketpair()
    with here, there:
        yield Watched(here, there)


def now() -> float:
    return time.monotonic()


def test_an_exchange_in_time_goes_on(watched: Watched) -> None:
    watched.exchange.look(now() + LIMITS.header_s - 1)
    assert (watched.exchange.cut, watched.is_shut()) == (None, False)


def test_a_head_that_does_not_come_ends_it(watched: Watched) -> None:
    watched.exchange.look(now() + LIMITS.header_s + 1)
    assert (watched.exchange.cut, watched.is_shut(), watched.aborted) == (Cut.LATE, True, 0)


def test_a_short_answer_has_more_time_once_its_head_is_there(watched: Watched) -> None:
    watched.exchange.answered()
    watched.exchange.look(now() + LIMITS.answer_s - 1)
    assert watched.exchange.cut is None
    watched.exchange.look(now() + LIMITS.answer_s + 1)
    assert watched.exchange.cut is Cut.LATE


def test_a_client_that_left_ends_it(watched: Watched) -> None:
    watched.left = True
    watched.exchange.look(now())
    assert (watched.exchange.cut, watched.is_shut()) == (Cut.LEFT, True)


def test_what_was_released_is_left_alone(watched: Watched) -> None:
    watched.exchange.release()
    watched.left = True
    watched.exchange.look(LATER)
    assert not watched.is_shut()


def test_another_backend_is_tried_once_patience_is_over_and_only_when_there_is_one(watched: Watched) -> None:
    found = [False]
    watched.exchange.instead = lambda: found[0]
    watched.exchange.attempt(watched.here)
    watched.exchange.look(now() + LIMITS.patience_s + 1)
    assert watched.exchange.cut is None
    found[0] = True
    watched.exchange.attempt(watched.here)
    watched.exchange.look(now() + LIMITS.patience_s + 1)
    assert (watched.exchange.cut, watched.is_shut()) == (Cut.SLOW, True)
    assert watched.exchange.again()
    assert watched.exchange.cut is None


def test_there_is_no_other_attempt_when_the_time_is_over(watched: Watched) -> None:
    watched.exchange.look(LATER)
    assert not watched.exchange.again()


def test_a_long_answer_lasts_as_long_as_enough_of_it_comes(watched: Watched) -> None:
    watched.exchange.stream(is_event_stream=False)
    begins = now()
    for window in range(1, 6):
        watched.exchange.moved += LIMITS.drip_bytes
        watched.exchange.look(begins + window * (LIMITS.drip_s + 1))
        assert watched.exchange.cut is None
    watched.exchange.moved += LIMITS.drip_bytes - 1
    watched.exchange.look(begins + 6 * (LIMITS.drip_s + 1))
    assert (watched.exchange.cut, watched.aborted) == (Cut.DRIPPED, 1)


def test_a_client_that_takes_too_little_is_to_blame_itself(watched: Watched) -> None:
    watched.exchange.stream(is_event_stream=False)
    watched.exchange.is_writing = True
    watched.exchange.look(now() + LIMITS.drip_s + 1)
    assert (watched.exchange.cut, watched.aborted) == (Cut.UNTAKEN, 1)


def test_an_event_stream_lasts_as_long_as_events_come(watched: Watched) -> None:
    watched.exchange.stream(is_event_stream=True)
    begins = now()
    for window in range(1, 20):
        watched.exchange.moved += 1
        watched.exchange.look(begins + window * (LIMITS.event_idle_s + 1))
    assert watched.exchange.cut is None
    watched.exchange.look(begins + 20 * (LIMITS.event_idle_s + 1))
    assert watched.exchange.cut is Cut.IDLE


def test_a_body_that_is_still_being_sent_gives_more_time_but_not_for_ever(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    begins = now()
    for minute in range(1, 5):
        monkeypatch.setattr(time, "monotonic", lambda minute=minute: begins + minute * 60)
        watched.exchange.sent()
        watched.exchange.look(begins + minute * 60 + LIMITS.header_s - 1)
        assert watched.exchange.cut is None
    monkeypatch.setattr(time, "monotonic", lambda: begins + LIMITS.stream_s)
    watched.exchange.sent()
    watched.exchange.look(begins + LIMITS.stream_s + 1)
    assert watched.exchange.cut is Cut.LATE


def test_a_look_that_fails_hinders_no_other(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> bool:
        raise ZeroDivisionError

    looked = threading.Event()
    watchdog = Watchdog(0.01, 2, lambda _: looked.set())
    watchdog.add(Exchange(LIMITS, broken, lambda: None))
    assert watchdog.add(watched.exchange)
    assert not watchdog.add(Exchange(LIMITS, broken, lambda: None))
    watched.left = True
    watched.there.settimeout(30)
    assert watched.there.recv(1) == b""
    assert looked.wait(30)
    watchdog.stop()
    assert "ZeroDivisionError" in caplog.text

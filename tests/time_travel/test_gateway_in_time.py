"""Time travel with the gateway: how long a backend is left alone, under a frozen clock that the test moves."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from freezegun import freeze_time

from skyclaw.outside.clock import utc_now
from skyclaw.services.routing import Backend, Backends, Outcome, Route, Rules, State
from tests.time_travel.journeys import NOON

COOLDOWN_S = 10
GOOD, BAD = (Backend(f"ins_{name}", f"http://10.0.0.1:{port}", "http", "10.0.0.1", port) for name, port in (("good", 3100), ("bad", 3101)))


@pytest.fixture
def clock() -> Iterator[Any]:
    with freeze_time(NOON) as clock:
        yield clock


@pytest.fixture
def backends(clock: Any) -> Backends:  # it begins at noon
    """Two of them, of which one has just failed three times in a row."""
    backends = Backends(utc_now, threading.Lock(), Rules(cooldown_ms=COOLDOWN_S * 1000))
    backends.replace([Route("svc_1", "web", (GOOD, BAD))])
    for _ in range(3):
        backends.give(backends.take("web", tried=[GOOD.id]), Outcome.FAILED, 1.0)
    return backends


def taken(backends: Backends, times: int) -> set[Backend]:
    """Who gets so many requests, one after the other, all of which succeed."""
    found = set()
    for _ in range(times):
        backend = backends.take("web")
        backends.give(backend, Outcome.OK, 1.0)
        found.add(backend)
    return found


def states(backends: Backends) -> dict[Backend, State]:
    return {seen.backend: seen.state for seen in backends.look()}


def test_a_backend_that_fails_is_left_alone_up_to_the_end_of_its_cooldown(clock: Any, backends: Backends) -> None:
    assert taken(backends, 20) == {GOOD}
    clock.tick(timedelta(seconds=COOLDOWN_S, milliseconds=-1))
    assert taken(backends, 20) == {GOOD}
    clock.tick(timedelta(milliseconds=1))
    assert states(backends)[BAD] is State.HALF_OPEN
    assert taken(backends, 20) == {GOOD, BAD}
    assert states(backends)[BAD] is State.OPEN


def test_a_backend_that_fails_again_when_it_is_tried_is_left_alone_once_more(clock: Any, backends: Backends) -> None:
    clock.tick(timedelta(seconds=COOLDOWN_S))
    backends.give(backends.take("web", tried=[GOOD.id]), Outcome.FAILED, 1.0)
    clock.tick(timedelta(seconds=COOLDOWN_S, milliseconds=-1))
    assert taken(backends, 20) == {GOOD}
    clock.tick(timedelta(milliseconds=1))
    assert taken(backends, 20) == {GOOD, BAD}


def test_an_ejected_backend_is_used_all_the_same_when_it_is_the_last_one(clock: Any, backends: Backends) -> None:
    clock.tick(timedelta(seconds=1))
    backends.replace([Route("svc_1", "web", (BAD,))])
    assert taken(backends, 1) == {BAD}

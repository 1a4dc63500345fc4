"""Requests that wait for a look at the services that begins after them: not for ever, and not in crowds."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from actors.gateway_looks import Looks

PATIENCE_S = 30.0


class Waiting:
    """Threads that wait for something to be there."""

    def __init__(self, looks: Looks, pool: ThreadPoolExecutor) -> None:
        self.there = False
        self._looks, self._pool = looks, pool

    def one(self) -> "Future[bool]":
        """One more, which has looked whether it is there by now."""
        has_looked = threading.Event()

        def is_there() -> bool:
            has_looked.set()
            return self.there

        future = self._pool.submit(self._looks.wait, is_there)
        assert has_looked.wait(PATIENCE_S)
        return future


@contextmanager
def waiting(looks: Looks) -> Iterator[Waiting]:
    with ThreadPoolExecutor(4) as pool:
        yield Waiting(looks, pool)


def test_what_a_look_brings_is_there_for_who_waits() -> None:
    with waiting(looks := Looks(PATIENCE_S)) as some:
        one = some.one()
        look = looks.begin()
        some.there = True
        looks.end(look)
        assert one.result(PATIENCE_S)


def test_a_look_that_had_begun_before_does_not_end_the_waiting_but_the_next_one_does() -> None:
    looks = Looks(PATIENCE_S)
    early = looks.begin()
    with waiting(looks) as some:
        one = some.one()
        looks.end(early)
        assert not one.done()
        looks.end(looks.begin())
        assert not one.result(PATIENCE_S)


def test_nobody_waits_for_ever() -> None:
    assert not Looks(0.01).wait(lambda: False)


def test_what_is_there_is_not_waited_for() -> None:
    assert Looks(PATIENCE_S).wait(lambda: True)


@pytest.mark.parametrize("there", [True, False])
def test_who_comes_to_a_crowd_is_answered_at_once(there: bool) -> None:
    looks = Looks(PATIENCE_S, most_waiting=1)
    with waiting(looks) as some:
        one = some.one()
        assert looks.wait(lambda: there) is there
        looks.end(looks.begin())
        assert not one.result(PATIENCE_S)

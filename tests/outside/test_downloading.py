"""Coordinators.download: a body that is no JSON, from the first coordinator that has it."""

from collections.abc import Iterator

import pytest

from skyclaw.errors import ServerRefused, Unreachable
from skyclaw.outside.coordinators import Coordinators
from tests.support.scripted_server import Asked, Hangup, Reply, serving

CONTENT = bytes(range(256)) * 1_000


class Taker:
    """Keeps what it gets; each time it begins anew."""

    def __init__(self) -> None:
        self.content, self.times = b"", 0

    def __call__(self, pieces: Iterator[bytes]) -> None:
        self.times += 1
        self.content = b"".join(pieces)


def giving(_asked: Asked) -> Reply:
    return Reply(raw=CONTENT, content_type="application/gzip")


def hanging_up(_asked: Asked) -> Reply:
    raise Hangup


def test_what_is_there_is_handed_over() -> None:
    take = Taker()
    with serving(giving) as server:
        Coordinators([server.url], "token-of-the-test").download("/v1/bundles/x", take, 10)
    assert take.content == CONTENT
    assert (server.asked[0].method, server.asked[0].headers["x-skyclaw-token"]) == ("GET", "token-of-the-test")


def test_the_next_coordinator_is_asked_when_one_breaks_off() -> None:
    take = Taker()
    with serving(hanging_up) as broken, serving(giving) as server:
        Coordinators([broken.url, server.url]).download("/v1/bundles/x", take, 10)
    assert take.content == CONTENT


def test_a_refusal_is_the_coordinators_own() -> None:
    refused = Reply(404, {"error": "unknown bundle", "code": "unknown_bundle"})
    with serving(lambda _: refused) as server, pytest.raises(ServerRefused, match="unknown bundle"):
        Coordinators([server.url]).download("/v1/bundles/x", Taker(), 10)


def test_nobody_who_answers_is_said() -> None:
    with serving(hanging_up) as server, pytest.raises(Unreachable):
        Coordinators([server.url]).download("/v1/bundles/x", Taker(), 10)


def test_what_the_taker_raises_comes_out() -> None:
    def take(_pieces: Iterator[bytes]) -> None:
        raise ValueError("not what was meant")

    with serving(giving) as server, pytest.raises(ValueError, match="not what was meant"):
        Coordinators([server.url]).download("/v1/bundles/x", take, 10)

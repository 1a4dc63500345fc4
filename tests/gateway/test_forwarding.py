"""Attempts that overlap: a backend that answers in the moment in which it is given up."""

import threading
from typing import Any

import pytest

from api.gateway_forwarding import Forwarding
from skyclaw.outside.upstream import Answer, UpstreamRequest
from skyclaw.outside.upstream_framing import parse_head
from skyclaw.outside.upstream_limits import GatewayLimits
from skyclaw.outside.upstream_reading import UpstreamLate
from skyclaw.outside.upstream_watch import Exchange
from skyclaw.services.routing import Backend, Backends, Route

GET = UpstreamRequest("GET", "/", "", is_repeatable=True)


@pytest.fixture
def backends() -> Backends:
    backends = Backends(lambda: 0, threading.Lock())
    two = tuple(Backend(f"ins_{port}", f"http://127.0.0.1:{port}", "http", "127.0.0.1", port) for port in (1, 2))
    backends.replace([Route("svc_1", "web", two)])
    return backends


class AnswersAtLast:
    """Stands in for the upstreams: the watchdog finds another backend, and then the answer, or its absence, is there all the same."""

    def __init__(self, fails: bool) -> None:
        self.asked: list[str] = []
        self._fails = fails

    def ask(self, backend: Backend, _request: UpstreamRequest, exchange: Exchange) -> Any:
        self.asked.append(backend.id)
        if len(self.asked) == 1:
            assert exchange.instead is not None
            assert exchange.instead()
            if self._fails:
                raise UpstreamLate
        return Answer(parse_head(b"HTTP/1.1 200 OK\r\n", "HEAD"), b"", 1.0, None)  # type: ignore[arg-type]


def forward(backends: Backends, upstreams: AnswersAtLast) -> None:
    exchange = Exchange(GatewayLimits(), lambda: False, lambda: None)
    Forwarding(backends, upstreams, "web", exchange, 1).run(GET).close()  # type: ignore[arg-type]


def test_a_backend_that_was_taken_in_vain_is_given_back(backends: Backends) -> None:
    upstreams = AnswersAtLast(fails=False)
    forward(backends, upstreams)
    assert upstreams.asked == ["ins_1"]
    assert [seen.in_flight for seen in backends.look()] == [0, 0]


def test_the_backend_that_was_taken_is_the_one_that_is_tried(backends: Backends) -> None:
    upstreams = AnswersAtLast(fails=True)
    forward(backends, upstreams)
    assert upstreams.asked == ["ins_1", "ins_2"]
    assert [seen.in_flight for seen in backends.look()] == [0, 0]

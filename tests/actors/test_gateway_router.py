"""GatewayRouter: what it makes of the lists it hears, when it has which backend probed, and what it does about the outcome."""

import logging
import threading

import pytest

from actors.gateway_probes import Probe, Probed
from actors.gateway_refresh import ServicesHeard
from actors.gateway_router import GatewayRouter, Probing, heed
from actors.ticker import Tick
from skyclaw.outside.service_routes import Found
from skyclaw.services.routing import Backend, Backends, Failed, Missed, Recovered, Route, State

A = Backend("ins_a", "http://10.0.0.1:3100", "http", "10.0.0.1", 3100)
B = Backend("ins_b", "http://10.0.0.2:3100", "http", "10.0.0.2", 3100)
EVERY = 1_000


class Bench:
    """A router that is handed its messages, with a clock and a chance that the test sets."""

    def __init__(self, probing: Probing | None = None) -> None:
        self.now, self.chance = 0, 0.5
        self.ordered: list[Probe] = []
        self.backends = Backends(lambda: self.now, threading.Lock())
        probing = probing or Probing(EVERY, "/health", strict=False)
        self.router = GatewayRouter(self.backends, probing, self.ordered.append, lambda: self.now, lambda _: None, lambda: self.chance)

    def hear(self, *routes: Route, skipped: int = 0) -> None:
        self.router.handle(ServicesHeard(Found(routes, skipped)))

    def ticked_at(self, now: int) -> list[Backend]:
        """Who is to be probed at that time."""
        self.now = now
        self.ordered.clear()
        self.router.handle(Tick())
        return [probe.backend for probe in self.ordered]

    def state(self, backend: Backend) -> State:
        return next(seen.state for seen in self.backends.look() if seen.backend == backend)


def web(*backends: Backend, health_path: str | None = None) -> Route:
    return Route("svc_1", "web", backends, health_path)


def test_what_is_heard_is_the_table_of_the_requests() -> None:
    bench = Bench()
    bench.hear(web(A), skipped=3)
    assert (bench.backends.take("web"), bench.backends.skipped) == (A, 3)
    bench.hear(web(B))
    assert (bench.backends.take("web"), bench.backends.skipped) == (B, 0)


def test_a_change_is_logged_and_the_same_again_is_not(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench()
    for _ in range(2):
        bench.hear(web(A, B), skipped=1)
    assert [record.getMessage() for record in caplog.records] == ["routes_changed services=1 backends=2 skipped=1"]


def test_a_backend_is_probed_within_the_first_interval_and_not_again_before_that_is_over() -> None:
    bench = Bench()
    bench.hear(web(A))
    assert bench.ticked_at(EVERY // 2 - 1) == []
    assert bench.ticked_at(EVERY // 2) == [A]
    assert bench.ticked_at(EVERY * 9) == []


def test_probes_are_spread_by_chance() -> None:
    bench = Bench()
    bench.chance = 0.0
    bench.hear(web(A))
    bench.chance = 0.9
    bench.hear(web(A, B))
    assert bench.ticked_at(0) == [A]
    assert bench.ticked_at(EVERY * 9 // 10) == [B]
    bench.router.handle(Probed(B, None))
    assert bench.ticked_at(bench.now + EVERY * 119 // 100) == []
    assert bench.ticked_at(bench.now + EVERY // 100) == [B]


def test_the_next_probe_follows_an_interval_after_the_outcome() -> None:
    bench = Bench()
    bench.hear(web(A))
    assert bench.ticked_at(EVERY) == [A]
    bench.now += 700
    bench.router.handle(Probed(A, None))
    assert bench.ticked_at(bench.now + EVERY - 1) == []
    assert bench.ticked_at(bench.now + 1) == [A]


def test_a_list_heard_again_does_not_put_off_a_probe() -> None:
    bench = Bench()
    bench.hear(web(A))
    bench.now = EVERY // 4
    bench.hear(web(A))
    assert bench.ticked_at(EVERY // 2) == [A]
    bench.hear(web(A))
    assert bench.ticked_at(EVERY * 2) == []


@pytest.mark.parametrize(
    ("health_path", "probing", "path", "strict"),
    [
        (None, Probing(EVERY, "/health", strict=False), "/health", False),
        (None, Probing(EVERY, "/up", strict=True), "/up", True),
        ("/own", Probing(EVERY, "/health", strict=False), "/own", True),
    ],
)
def test_a_service_is_probed_on_its_own_path_or_else_on_the_gateway_s(
    health_path: str | None, probing: Probing, path: str, strict: bool
) -> None:
    bench = Bench(probing)
    bench.hear(web(A, health_path=health_path))
    bench.ticked_at(EVERY)
    assert bench.ordered == [Probe(A, path, strict)]


def test_a_failed_probe_ejects_and_a_passed_one_does_not() -> None:
    bench = Bench()
    bench.hear(web(A, B))
    bench.router.handle(Probed(A, "status 500"))
    bench.router.handle(Probed(B, None))
    assert (bench.state(A), bench.state(B)) == (State.EJECTED, State.OPEN)


def test_why_a_probe_was_not_passed_is_logged_when_it_is_news(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.hear(web(A))
    for problem in ("status 500", "status 500", "connection refused", None, "connection refused"):
        bench.router.handle(Probed(A, problem))
    causes = [record.getMessage().partition(" cause=")[2] for record in caplog.records if "probe_not_passed" in record.getMessage()]
    assert causes == ["status 500", "connection refused", "connection refused"]


def test_a_backend_that_is_gone_is_not_probed_and_the_outcome_of_its_probe_is_nothing() -> None:
    bench = Bench()
    bench.hear(web(A, B))
    bench.hear(web(B))
    assert bench.ticked_at(EVERY) == [B]
    bench.router.handle(Probed(A, "connection refused"))
    assert bench.ticked_at(EVERY * 9) == []


def test_a_backend_that_comes_back_is_probed_again() -> None:
    bench = Bench()
    bench.hear(web(A))
    bench.ticked_at(EVERY)
    bench.hear()
    bench.hear(web(A))
    assert bench.ticked_at(EVERY * 2) == [A]


def test_a_missing_service_and_a_failure_make_it_look_at_the_services_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    looked: list[bool] = []
    for notice in (Missed("web"), Failed(A, ejected=False, probed=False), Failed(A, ejected=True, probed=False), Recovered(A)):
        heed(notice, lambda: looked.append(True))
    assert len(looked) == 3
    assert [record.getMessage() for record in caplog.records] == [
        "backend_ejected backend=http://10.0.0.1:3100 by=requests",
        "backend_recovered backend=http://10.0.0.1:3100",
    ]

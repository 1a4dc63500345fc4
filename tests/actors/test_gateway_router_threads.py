"""The threads around GatewayRouter: asking a coordinator for the services, and probing backends, with real connections."""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from actors.gateway_probes import HealthCheck, Probe, Probed, Probers
from actors.gateway_refresh import SPACING_S, RefreshLoop, ServicesHeard
from skyclaw.outside.coordinators import Coordinators
from skyclaw.services.routing import Backend
from tests.support.authority import Authority
from tests.support.real_processes import free_port, wait_until
from tests.support.scripted_server import Asked, Hangup, Reply, serving

HOUR_MS = 3_600_000


@pytest.fixture
def stops() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def services(*endpoints: str) -> dict[str, Any]:
    assignments = [{"instanceId": f"ins_{at}", "status": "running", "endpoint": endpoint} for at, endpoint in enumerate(endpoints)]
    return {"services": [{"id": "svc_1", "name": "web", "assignments": assignments}]}


class Coordinator:
    """Answers with `say`, or not at all; `loop` asks it."""

    def __init__(self, stops: ExitStack, every_ms: int) -> None:
        self.say: dict[str, Any] | None = services("http://10.0.0.1:3100")
        self.heard: list[ServicesHeard] = []
        self.asked_at: list[float] = []
        self.server = stops.enter_context(serving(self._answer))
        self.loop = RefreshLoop(Coordinators([self.server.url]), every_ms, self._tell)
        stops.callback(self.loop.stop, 5.0)

    def _answer(self, _asked: Asked) -> Reply:
        self.asked_at.append(time.monotonic())
        if self.say is None:
            raise Hangup
        return Reply(say=self.say)

    def _tell(self, message: object) -> None:
        assert isinstance(message, ServicesHeard)
        self.heard.append(message)


def test_it_asks_at_once_and_again_and_again(stops: ExitStack) -> None:
    coordinator = Coordinator(stops, every_ms=10)
    coordinator.loop.start()
    wait_until(lambda: len(coordinator.heard) >= 3, "it asked three times")
    assert {asked.path for asked in coordinator.server.asked} == {"/v1/services"}
    assert coordinator.heard[0].found.routes[0].backends[0].url == "http://10.0.0.1:3100"


def test_a_nudge_makes_it_ask_at_once_but_not_without_end(stops: ExitStack) -> None:
    coordinator = Coordinator(stops, HOUR_MS)
    coordinator.loop.start()
    wait_until(lambda: coordinator.heard, "it asked")
    began = time.monotonic()
    while len(coordinator.heard) < 4 and time.monotonic() - began < 30:
        coordinator.loop.nudge()
        time.sleep(0.001)
    gaps = [later - earlier for earlier, later in zip(coordinator.asked_at, coordinator.asked_at[1:], strict=False)]
    assert len(gaps) >= 3
    assert min(gaps) > SPACING_S * 0.8


def test_loopback_is_believed_because_the_coordinator_is_on_loopback(stops: ExitStack) -> None:
    coordinator = Coordinator(stops, HOUR_MS)
    coordinator.say = services("http://127.0.0.1:3100", "javascript:alert(1)")
    coordinator.loop.start()
    wait_until(lambda: coordinator.heard, "it asked")
    found = coordinator.heard[0].found
    assert (found.routes[0].backends[0].url, found.skipped) == ("http://127.0.0.1:3100", 1)


@pytest.mark.parametrize("trouble", [None, {"services": "none"}])
def test_trouble_is_logged_once_and_when_it_is_over(stops: ExitStack, trouble: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    coordinator = Coordinator(stops, every_ms=10)
    coordinator.say = trouble
    coordinator.loop.start()
    assert coordinator.loop.tried.wait(30)
    wait_until(lambda: len(coordinator.asked_at) >= 4, "it went on asking")
    assert coordinator.heard == []
    coordinator.say = services()
    wait_until(lambda: coordinator.heard, "it heard")
    wait_until(lambda: "coordinator_answers_again loop=gateway-refresh" in caplog.text, "it said that it hears again")
    assert caplog.text.count("coordinator_trouble loop=gateway-refresh") == 1


class Sibling:
    """One of several coordinators: what it lists, and whether it decides for the log."""

    def __init__(self, stops: ExitStack, endpoint: str, version: int, *, decides: bool) -> None:
        self.version, self.endpoint, self.decides = version, endpoint, decides
        self.server = stops.enter_context(serving(self._answer))

    def _answer(self, asked: Asked) -> Reply:
        if asked.path == "/v1/network/logs":
            return Reply(say={"logs": [{"log": "0000000a", "committed": self.version, "inContact": self.decides or None}]})
        said = services(self.endpoint)
        said["services"][0] |= {"id": "svc_0000000a-1", "version": self.version}
        return Reply(say=said)


def heard(stops: ExitStack, *siblings: Sibling) -> list[str]:
    """The endpoints that a loop hears of, one after the other."""
    found: list[str] = []

    def tell(message: object) -> None:
        assert isinstance(message, ServicesHeard)
        found.extend(one.url for route in message.found.routes for one in route.backends if [one.url] != found[-1:])

    urls = [sibling.server.url for sibling in siblings]
    loop = RefreshLoop(Coordinators(urls), 10, tell, [Coordinators([url]) for url in urls])
    stops.callback(loop.stop, 5.0)
    loop.start()
    return found


def test_one_that_is_cut_off_and_does_not_know_it_is_found_out(stops: ExitStack) -> None:
    cut_off, owner = Sibling(stops, "http://10.0.0.1:1", 3, decides=False), Sibling(stops, "http://10.0.0.2:2", 4, decides=True)
    found = heard(stops, cut_off, owner)
    wait_until(lambda: found == ["http://10.0.0.1:1", "http://10.0.0.2:2"], "the newer one is heard of", patience_s=60)
    wait_until(lambda: len([asked for asked in owner.server.asked if asked.path == "/v1/services"]) >= 4, "it was asked again and again")
    assert found == ["http://10.0.0.1:1", "http://10.0.0.2:2"]


def test_an_answer_that_lacks_something_counts_when_nobody_else_answers_and_it_decides(stops: ExitStack) -> None:
    first, second = Sibling(stops, "http://10.0.0.1:1", 5, decides=False), Sibling(stops, "http://10.0.0.2:2", 6, decides=False)
    found = heard(stops, first, second)
    wait_until(lambda: found, "it heard")
    first.version, first.endpoint = 4, "http://10.0.0.3:3"
    second.server.stop()
    asked = len(first.server.asked)
    wait_until(lambda: len(first.server.asked) > asked + 4, "it was asked")
    assert "http://10.0.0.3:3" not in found
    first.decides = True
    wait_until(lambda: found[-1] == "http://10.0.0.3:3", "who decides is believed")


def backend(port: int, prefix: str = "", scheme: str = "http") -> Backend:
    return Backend("ins_1", f"{scheme}://127.0.0.1:{port}{prefix}", scheme, "127.0.0.1", port, prefix)


@pytest.mark.parametrize(
    ("status", "strict", "problem"),
    [
        (200, True, None),
        (204, False, None),
        (302, False, "status 302"),
        (404, False, None),
        (405, False, None),
        (404, True, "status 404"),
        (500, False, "status 500"),
    ],
)
def test_a_backend_must_answer_well_or_at_least_say_that_it_does_not_know_the_usual_path(
    status: int, strict: bool, problem: str | None
) -> None:
    with serving(lambda _: Reply(status)) as server:
        at = backend(int(server.url.rpartition(":")[2]), "/base")
        assert HealthCheck(30.0)(Probe(at, "/up?x=1", strict)) == problem
        assert [asked.path for asked in server.asked] == ["/base/up?x=1"]


def test_nobody_there_is_a_problem() -> None:
    assert HealthCheck(30.0)(Probe(backend(free_port()), "/health", strict=False)) == "connection refused"


def test_an_https_backend_that_does_not_speak_it_is_a_problem() -> None:
    with serving(lambda _: Reply()) as server:
        at = backend(int(server.url.rpartition(":")[2]), scheme="https")
        assert HealthCheck(30.0)(Probe(at, "/health", strict=False)) is not None


@pytest.fixture
def encrypted(stops: ExitStack, tmp_path: Path) -> tuple[Authority, int]:
    """An authority, and the port of a backend that answers one probe by https."""
    authority = Authority(tmp_path)
    listener = stops.enter_context(socket.create_server(("127.0.0.1", 0)))

    def answer() -> None:
        plain, _ = listener.accept()
        with contextlib.suppress(OSError), authority.context.wrap_socket(plain, server_side=True) as connection:
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    stops.callback(thread.join, 30.0)
    return authority, listener.getsockname()[1]


def test_an_https_backend_is_probed_by_https(encrypted: tuple[Authority, int]) -> None:
    authority, port = encrypted
    assert HealthCheck(30.0, authority.file)(Probe(backend(port, scheme="https"), "/health", strict=True)) is None


def test_a_name_is_probed_where_it_was_pinned(encrypted: tuple[Authority, int]) -> None:
    authority, port = encrypted
    at = Backend("ins_1", f"https://peer.example:{port}", "https", "peer.example", port, addresses=("127.0.0.1",))
    assert HealthCheck(30.0, authority.file)(Probe(at, "/health", strict=True)) is None


def test_an_https_backend_with_somebody_else_s_certificate_is_a_problem(encrypted: tuple[Authority, int]) -> None:
    problem = HealthCheck(30.0)(Probe(backend(encrypted[1], scheme="https"), "/health", strict=True))
    assert problem is not None
    assert "CERTIFICATE" in problem.upper()


def test_a_backend_that_says_nothing_does_not_hold_up_the_others(stops: ExitStack) -> None:
    silent = stops.enter_context(socket.create_server(("127.0.0.1", 0)))
    server = stops.enter_context(serving(lambda _: Reply()))
    told: list[Any] = []
    probers = Probers(HealthCheck(20.0), told.append, threads=2)
    probers.start()
    stops.callback(probers.stop)
    probers.order(Probe(backend(silent.getsockname()[1]), "/health", strict=True))
    alive = backend(int(server.url.rpartition(":")[2]))
    for _ in range(3):
        probers.order(Probe(alive, "/health", strict=True))
    wait_until(lambda: told == [Probed(alive, None)] * 3, "the others are probed", patience_s=15)


def test_a_check_that_breaks_is_a_problem_and_the_thread_lives_on(stops: ExitStack, caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []

    def check(probe: Probe) -> str | None:
        if probe.strict:
            raise RuntimeError("broken")
        return None

    probers = Probers(check, told.append, threads=1)
    probers.start()
    at = backend(1)
    probers.order(Probe(at, "/", strict=True))
    probers.order(Probe(at, "/", strict=False))
    wait_until(lambda: len(told) == 2, "both were told of")
    assert told == [Probed(at, "the probe failed"), Probed(at, None)]
    assert "probe_failed" in caplog.text
    probers.stop()
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "gateway-probe-0"], "the thread has ended")

"""Clients that take their time take nobody else's: only complete requests take a thread, and time runs out for all others."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from skyclaw.entrypoints import serve
from skyclaw.entrypoints.serve import Server
from skyclaw.scheduling.turn import Rules
from tests.api.in_process import Client, InProcess, until
from tests.api.raw_http import Raw, exchange, request

DRIPPING, STALLED = 98, 150
NEVER_S = 3600.0


class ClockOfTheServer:
    """Stands in for `time` in the server: passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def inside() -> InProcess:
    return InProcess(Rules(max_parked=48))


@pytest.fixture
def server(inside: InProcess) -> Iterator[Server]:
    server = Server(Client(inside).app, "127.0.0.1", 0)
    server.start()
    yield server
    server.stop()


def test_health_answers_while_248_clients_drip_and_stall(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "RECEIVE_S", NEVER_S)
    whole = request("POST", "/v1/jobs", b'{"payload":{"kind":"shell","command":"true"}}')
    over = threading.Event()
    with ExitStack() as connections:
        dripping = [connections.enter_context(Raw(server.port)) for _ in range(DRIPPING)]
        stalled = [connections.enter_context(Raw(server.port)) for _ in range(STALLED)]
        for number, raw in enumerate(stalled):
            raw.send(whole[: len(whole) - 1 - number % 20])

        def drip() -> None:
            for position in range(len(whole) - 1):
                for raw in dripping:
                    raw.send(whole[position : position + 1])
                if over.wait(0.02):
                    return

        dripper = threading.Thread(target=drip)
        dripper.start()
        until(lambda: len(server._server.active_channels) == DRIPPING + STALLED)
        answered = [exchange(server.port, request("GET", "/health")).status for _ in range(50)]
        over.set()
        dripper.join()
        assert answered == [200] * 50
        until(lambda: len(server._server.active_channels) == DRIPPING + STALLED)  # all of them still hang


@pytest.mark.parametrize("sent", [b"GET /he", request("POST", "/v1/jobs", b"x" * 10)[:-7], b"\x16\x03\x01"])
def test_a_request_that_does_not_come_to_its_end_is_given_up(
    server: Server, inside: InProcess, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(serve, "RECEIVE_S", 0.2)
    with Raw(server.port) as raw:
        raw.send(sent)
        assert raw.is_closed()
    assert inside.asked == []


def test_dripping_does_not_lengthen_the_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "RECEIVE_S", 0.5)
    pause = threading.Event()
    with Raw(server.port) as raw:
        raw.send(b"GET /health HTTP/1.1\r\nX-Drip: ")
        for _ in range(2000):
            try:
                raw.send(b"a")
            except ConnectionError:
                return
            pause.wait(0.02)
    pytest.fail("the connection outlived its time")


def test_each_request_of_a_connection_has_its_own_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ClockOfTheServer()
    monkeypatch.setattr(serve, "time", clock)
    with Raw(server.port) as raw:
        for _ in range(3):
            raw.send(b"GET /health HTTP/1.1\r\n")
            until(lambda: any(channel._timed is not None for channel in list(server._server.active_channels.values())))
            clock.now += serve.RECEIVE_S * 0.6
            raw.send(b"Host: x\r\n\r\nGET")  # and the beginning of the next
            assert raw.read().status == 200
            raw.send(b" /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert raw.read().status == 200


@pytest.mark.parametrize(("method", "in_time"), [("PUT", True), ("PUT", False), ("POST", False)])
def test_a_large_body_has_time_as_long_as_it_comes_in(server: Server, monkeypatch: pytest.MonkeyPatch, method: str, in_time: bool) -> None:
    clock = ClockOfTheServer()
    monkeypatch.setattr(serve, "time", clock)
    first, rest = b"x" * 10 * serve.LEAST_RATE, b"x" * 1000
    with Raw(server.port) as raw:
        raw.send(f"{method} /v1/bundles/{'0' * 64} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(first + rest)}\r\n\r\n".encode())
        until(lambda: any(channel._timed is not None for channel in list(server._server.active_channels.values())))
        raw.send(first)
        until(lambda: any(len(one.request.body_rcv or b"") == len(first) for one in list(server._server.active_channels.values())))
        clock.now += serve.RECEIVE_S + (9 if in_time or method == "POST" else 11)
        if in_time:
            assert exchange(server.port, request("GET", "/health")).status == 200  # so that the server has looked at its deadlines
            raw.send(rest)
            assert raw.read().status == 404
        else:
            assert raw.is_closed()


def test_an_answer_that_is_not_taken_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "TAKE_S", 0.3)
    size = 20_000_000

    def large(_environ: object, start_response: object) -> list[bytes]:
        start_response("200 OK", [("Content-Length", str(size))])  # type: ignore[operator]
        return [b"x" * size]

    server = Server(large, "127.0.0.1", 0, threads=1)
    server.start()
    with Raw(server.port) as raw:
        raw.send(request("GET", "/"))
        until(lambda: bool(server._server.active_channels))
        until(lambda: not server._server.active_channels)
        read = 0
        while part := raw.socket.recv(1 << 20):
            read += len(part)
        assert read < size
    server.stop()


def test_a_parked_claim_whose_client_hangs_up_loses_no_job(server: Server, inside: InProcess) -> None:
    client = Client(inside)
    client.register("h1")
    client.register("h2")
    with Raw(server.port) as raw:
        raw.send(request("POST", "/v1/hosts/h1/claim", b'{"waitMs":30000}'))
        until(lambda: len(inside.queue.parking) == 1)
    until(lambda: not server._server.active_channels)
    job = client.enqueue()
    until(lambda: client.get(f"/v1/jobs/{job['id']}/events").json["events"][-1]["type"] == "JobReleased")
    assert client.claim("h2")["id"] == job["id"]


def test_all_places_may_be_taken_by_parked_claims_and_others_are_still_served(server: Server, inside: InProcess) -> None:
    client = Client(inside)
    for number in range(49):
        client.register(f"h{number}", maxParallel=1)
    with ExitStack() as connections:
        waiting = [connections.enter_context(Raw(server.port)) for _ in range(48)]
        for number, raw in enumerate(waiting):
            raw.send(request("POST", f"/v1/hosts/h{number}/claim", b'{"waitMs":30000}'))
        until(lambda: len(inside.queue.parking) == 48)
        crowded = exchange(server.port, request("POST", "/v1/hosts/h48/claim", b'{"waitMs":30000}'))
        assert crowded.json["retryAfterMs"] >= 500
        body = b'{"jobs":[%s]}' % b",".join([b'{"payload":{"kind":"shell","command":"true"}}'] * 48)
        assert exchange(server.port, request("POST", "/v1/jobs/batch", body)).status == 200
        claimed = {raw.read().json["job"]["id"] for raw in waiting}
    assert len(claimed) == 48

"""The server with real sockets: what it refuses as HTTP, what it survives, how it starts and stops."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from skyclaw.entrypoints.serve import MAX_BODY, Server
from skyclaw.errors import AddressUnusable
from tests.api.in_process import SHELL, Client, InProcess
from tests.api.raw_http import PATIENCE_S, Raw, exchange, request

TOKEN = "canary-token-of-the-tests"  # noqa: S105  # only the tests' own server knows it
SHOWN = f"X-Skyclaw-Token: {TOKEN}"
JOB = json.dumps({"payload": SHELL}).encode()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of a server with a token."""
    server = Server(Client(InProcess(), tokens=(TOKEN,)).app, "127.0.0.1", 0)
    server.start()
    yield server.port
    server.stop()


def hello(_environ: object, start_response: Callable[..., object]) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]


def chunked(size: int) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (size, b" " * size)


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def test_a_job_is_accepted_over_the_wire(port: int) -> None:
    answer = exchange(port, request("POST", "/v1/jobs", JOB, SHOWN))
    assert answer.status == 200
    assert answer.json["job"]["payload"] == SHELL
    assert answer.headers["server"] == "skyclaw"
    assert "waitress" not in str(answer.headers)


def test_a_chunked_body_is_read(port: int) -> None:
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(JOB), JOB)
    lines = ("POST /v1/jobs HTTP/1.1", "Host: x", "Content-Type: application/json", "Transfer-Encoding: chunked", SHOWN)
    assert exchange(port, head(*lines) + body).status == 200


def test_several_requests_share_a_connection(port: int) -> None:
    with Raw(port) as raw:
        for _ in range(3):
            raw.send(request("POST", "/v1/jobs", JOB, SHOWN))
            assert raw.read().status == 200
        raw.send(request("GET", "/health") * 3)
        assert [raw.read().status for _ in range(3)] == [200] * 3


@pytest.mark.parametrize(
    "lines",
    [(), (f"X-Skyclaw-Token: {TOKEN[:-1]}x",), ("X-Skyclaw-Token: \xe9",), ("X-Skyclaw-Token: " + "a" * 15_000,), (SHOWN, SHOWN)],
)
def test_without_the_token_everything_is_refused_alike(port: int, lines: tuple[str, ...]) -> None:
    answer = exchange(port, request("POST", "/v1/jobs", JOB, *lines, "X-Request-Id: r"))
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Skyclaw")
    assert answer.json == {"error": "unauthorized", "code": "unauthorized", "requestId": "r"}


def test_a_token_under_another_spelling_of_the_header_is_none(port: int) -> None:
    assert exchange(port, request("GET", "/v1/state", b"", f"X_Skyclaw_Token: {TOKEN}")).status == 401


REFUSED: dict[str, tuple[bytes, int, str | None]] = {
    "no Host": (head("GET /health HTTP/1.1"), 400, "bad_request"),
    "an empty Host": (head("GET /health HTTP/1.1", "Host:"), 400, "bad_request"),
    "two Hosts": (head("GET /health HTTP/1.1", "Host: a", "Host: b"), 400, "bad_request"),
    "a Host with a space": (head("GET /health HTTP/1.1", "Host: a b"), 400, "bad_request"),
    "two Hosts in one": (head("GET /health HTTP/1.1", "Host: a,b"), 400, "bad_request"),
    "an absolute target": (head("GET http://evil/health HTTP/1.1", "Host: x"), 400, "bad_request"),
    "a NUL in the path": (request("GET", "/v1/jobs/a%00b", b"", SHOWN), 400, "bad_path"),
    "a line break in the path": (request("GET", "/v1/jobs/a%0d%0ab", b"", SHOWN), 400, "bad_path"),
    "a hidden slash in the path": (request("GET", "/v1/jobs/..%2f..%2fx", b"", SHOWN), 400, "bad_path"),
    "a path that climbs": (request("GET", "/v1/jobs/../../etc/passwd", b"", SHOWN), 404, "not_found"),
    "a wrong method": (request("PUT", "/v1/jobs", b"", SHOWN), 405, "method_not_allowed"),
    "TRACE": (head("TRACE / HTTP/1.1", "Host: x"), 405, "method_not_allowed"),
    "CONNECT": (head("CONNECT x:1 HTTP/1.1", "Host: x"), 405, "method_not_allowed"),
    "an unknown path": (request("GET", "/nothing", b"", SHOWN), 404, "not_found"),
    "a plain text": (head("POST /v1/jobs HTTP/1.1", "Host: x", SHOWN, "Content-Length: 2") + b"{}", 415, "unsupported_media_type"),
    "a compressed body": (request("POST", "/v1/jobs", JOB, SHOWN, "Content-Encoding: gzip"), 415, "unsupported_media_type"),
    "an idempotency key with a NUL": (request("POST", "/v1/jobs", JOB, SHOWN, "X-Idempotency-Key: a\0b"), 400, None),
    "an empty idempotency key": (request("POST", "/v1/jobs", JOB, SHOWN, "X-Idempotency-Key: "), 400, "bad_idempotency_key"),
    "a long idempotency key": (request("POST", "/v1/jobs", JOB, SHOWN, "X-Idempotency-Key: " + "k" * 256), 400, "bad_idempotency_key"),
    "two idempotency keys": (
        request("POST", "/v1/jobs", JOB, SHOWN, "X-Idempotency-Key: a", "X-Idempotency-Key: b"),
        400,
        "bad_idempotency_key",
    ),
    "a large body": (request("POST", "/v1/jobs", b" " * (1024 * 1024 + 1), SHOWN), 413, "payload_too_large"),
    "a large chunked body": (
        head("POST /v1/jobs HTTP/1.1", "Host: x", SHOWN, "Content-Type: application/json", "Transfer-Encoding: chunked")
        + chunked(2 * 1024 * 1024),
        413,
        "payload_too_large",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_misleading_request_is_refused(port: int, case: str) -> None:
    data, status, code = REFUSED[case]
    answer = exchange(port, data)
    assert answer.status == status
    if code is not None:
        assert answer.json["code"] == code
        assert answer.json["requestId"] == answer.headers["x-request-id"]


CLOSED: dict[str, tuple[bytes, set[int]]] = {
    "two ways to tell the length": (request("POST", "/v1/jobs", b"", SHOWN, "Transfer-Encoding: chunked") + b"0\r\n\r\n", {400}),
    "another length than chunked": (
        head("POST /v1/jobs HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", "Content-Length: 5") + b"0\r\n\r\n",
        {400},
    ),
    "an unknown transfer encoding": (head("POST /v1/jobs HTTP/1.1", "Host: x", "Transfer-Encoding: xchunked"), {501}),
    "a transfer encoding in HTTP/1.0": (head("POST /v1/jobs HTTP/1.0", "Transfer-Encoding: chunked") + b"0\r\n\r\n", {400}),
    "a negative length": (head("POST /v1/jobs HTTP/1.1", "Host: x", "Content-Length: -1"), {400}),
    "a signed length": (head("POST /v1/jobs HTTP/1.1", "Host: x", "Content-Length: +4") + b"{}{}", {400}),
    "two lengths in one": (head("POST /v1/jobs HTTP/1.1", "Host: x", "Content-Length: 4,5") + b"{}{}", {400}),
    "two lengths": (head("POST /v1/jobs HTTP/1.1", "Host: x", "Content-Length: 4", "Content-Length: 4") + b"{}{}", {400}),
    "a space before the colon": (head("GET /health HTTP/1.1", "Host : x"), {400}),
    "a body no route takes": (head("POST /v1/jobs HTTP/1.1", "Host: x", f"Content-Length: {MAX_BODY}"), {413}),
    "many headers": (head("GET /health HTTP/1.1", "Host: x", *(f"X-{n}: {'a' * 100}" for n in range(200))), {431}),
    "a long path": (head("GET /" + "a" * 20_000 + " HTTP/1.1", "Host: x"), {431}),
    "another protocol": (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\x00" * 32 + b"\r\n\r\n", {400}),
    "HTTP/0.9": (b"GET /health\r\n\r\n", {200, 400, 404}),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 404, 405, 505}),
}


@pytest.mark.parametrize("case", CLOSED)
def test_a_connection_that_cannot_be_trusted_is_closed(port: int, case: str, caplog: pytest.LogCaptureFixture) -> None:
    data, statuses = CLOSED[case]
    with Raw(port) as raw:
        raw.send(data)
        assert raw.read().status in statuses
        assert raw.is_closed()
    assert "Traceback" not in caplog.text


def test_head_and_body_of_an_answer_come_together(port: int) -> None:
    with Raw(port) as raw:
        raw.send(request("GET", "/health"))
        first = raw.socket.recv(65_536)
    assert first.endswith(b"}")


def test_an_address_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressUnusable, match=f"cannot listen on 127.0.0.1:{port}: address already in use"):
            Server(lambda *_: [], "127.0.0.1", port)


def test_an_address_is_taken_before_the_server_is_started() -> None:
    first = Server(hello, "127.0.0.1", 0)
    with pytest.raises(AddressUnusable, match="address already in use"):
        Server(hello, "127.0.0.1", first.port)
    first.stop()


def test_an_address_that_is_not_ours_is_refused() -> None:
    with pytest.raises(AddressUnusable, match="cannot listen on"):
        Server(lambda *_: [], "203.0.113.1", 0)
    with pytest.raises(AddressUnusable, match="cannot listen on"):
        Server(lambda *_: [], "no-such-name.invalid", 0)


def test_stopping_closes_idle_connections_and_frees_the_port() -> None:
    server = Server(hello, "127.0.0.1", 0)
    server.start()
    with Raw(server.port) as idle, Raw(server.port) as half:
        idle.send(request("GET", "/"))
        assert idle.read().body == b"hello"
        half.send(b"GET / HT")
        began = time.monotonic()
        server.stop(PATIENCE_S)
        assert time.monotonic() - began < PATIENCE_S / 2
        assert idle.is_closed()
        assert half.is_closed()
    again = Server(hello, "127.0.0.1", server.port)
    again.start()
    assert exchange(again.port, request("GET", "/")).body == b"hello"
    again.stop()


def test_stopping_lets_a_running_request_be_answered() -> None:
    entered, gate = threading.Event(), threading.Event()

    def slow(environ: object, start_response: Callable[..., object]) -> list[bytes]:
        entered.set()
        gate.wait(PATIENCE_S)
        return hello(environ, start_response)

    server = Server(slow, "127.0.0.1", 0)
    server.start()
    with Raw(server.port) as raw:
        raw.send(request("GET", "/"))
        assert entered.wait(PATIENCE_S)
        stopping = threading.Thread(target=server.stop, args=(PATIENCE_S,))
        stopping.start()
        gate.set()
        assert raw.read().body == b"hello"
        stopping.join(PATIENCE_S)
        assert not stopping.is_alive()


def test_stopping_does_not_wait_longer_than_it_is_told() -> None:
    entered, gate = threading.Event(), threading.Event()

    def stuck(environ: object, start_response: Callable[..., object]) -> list[bytes]:
        entered.set()
        gate.wait(PATIENCE_S)
        return hello(environ, start_response)

    server = Server(stuck, "127.0.0.1", 0)
    server.start()
    with Raw(server.port) as raw:
        raw.send(request("GET", "/"))
        assert entered.wait(PATIENCE_S)
        server.stop(0.1)
        assert raw.is_closed()
    gate.set()


def test_a_server_that_was_never_started_can_be_stopped() -> None:
    Server(hello, "127.0.0.1", 0).stop()


def test_a_task_that_fails_costs_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_environ: object, _start_response: object) -> list[bytes]:
        raise ZeroDivisionError

    server = Server(broken, "127.0.0.1", 0, threads=1)
    server.start()
    assert [exchange(server.port, request("GET", "/")).status for _ in range(3)] == [500] * 3
    server.stop()
    assert "ZeroDivisionError" in caplog.text

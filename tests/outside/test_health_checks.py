"""Looking at the health of processes: real servers that answer well, badly, slowly or not at all."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from skyclaw.outside.health_checks import probe
from tests.support.real_processes import free_port

Answer = Callable[[socket.socket, threading.Event], None]


@contextmanager
def server(answer: Answer) -> Iterator[tuple[int, list[bytes]]]:
    """Takes one connection after the other; gives its port, and the requests that it heard."""
    heard: list[bytes] = []
    over = threading.Event()

    def serve() -> None:
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                if over.is_set():
                    return
                connection.settimeout(20)
                heard.append(connection.recv(65_536))
                answer(connection, over)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield port, heard
        finally:
            over.set()
            socket.create_connection(("127.0.0.1", port)).close()
            thread.join()


def saying(*pieces: bytes) -> Answer:
    def answer(connection: socket.socket, over: threading.Event) -> None:
        for piece in pieces:
            connection.sendall(piece)

    return answer


def dripping(before: bytes, piece: bytes) -> Answer:
    """Goes on for ever, so that there is always something to read."""

    def answer(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(before)
        while not over.wait(0.02):
            connection.sendall(piece)

    return answer


@pytest.mark.parametrize("status", [200, 204, 299])
def test_a_good_answer_is_healthy(status: int) -> None:
    with server(saying(b"HTTP/1.1 %d Fine\r\nContent-Length: 2\r\n\r\nok" % status)) as (port, heard):
        assert probe(port, "/healthz?deep=1") is None
    assert heard[0].startswith(b"GET /healthz?deep=1 HTTP/1.1\r\n")
    assert b"\r\nHost: 127.0.0.1:%d\r\n" % port in heard[0]
    assert b"\r\nConnection: close\r\n" in heard[0]
    assert len(heard) == 1


@pytest.mark.parametrize("status", [300, 301, 404, 500, 503])
def test_any_other_answer_is_not_and_no_redirect_is_followed(status: int) -> None:
    with server(saying(b"HTTP/1.1 %d Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n" % status)) as (port, heard):
        assert probe(port, "/") == f"status {status}"
    assert len(heard) == 1


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ((b"HTTP/1.0 200 OK\n\n",), None),
        ((b"HTTP/1.1 200\r\n\r\n",), None),
        ((b"HTTP/1.1 2", b"00 OK\r\nA: b\r", b"\n\r\n"), None),
        ((b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",), None),
        ((b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 503 No\r\n\r\n"), "status 503"),
        ((), "connection closed without an answer"),
        ((b"HTTP/1.1 200 OK\r\n",), "connection closed without an answer"),
        ((b"SSH-2.0-OpenSSH_9\r\n\r\n",), "the answer is not HTTP"),
        ((b"HTTP/1.1 2000 OK\r\n\r\n",), "the answer is not HTTP"),
        ((b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000,), "the head of the answer is too large"),
    ],
)
def test_answers_are_understood(pieces: tuple[bytes, ...], reason: str | None) -> None:
    with server(saying(*pieces)) as (port, _):
        assert probe(port, "/", within_s=20) == reason


def test_nobody_who_listens_is_told_as_refused() -> None:
    port = free_port()
    assert probe(port, "/") == "connection refused"
    assert probe(port, None) == "connection refused"


def test_without_a_path_taking_a_connection_is_enough() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert probe(listener.getsockname()[1], None) is None


def test_who_takes_a_connection_and_says_nothing_is_not_healthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert probe(listener.getsockname()[1], "/", within_s=0.2) == "no answer within 0.2 s"


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_an_answer_that_drips_has_no_more_time_than_others(before: bytes) -> None:
    """Each piece comes in time; the head of the answer never ends."""
    with server(dripping(before, b"A")) as (port, _):
        assert probe(port, "/", within_s=0.3) == "no answer within 0.3 s"


@pytest.mark.parametrize("piece", [b"x", b"x" * 100_000])
def test_a_body_that_never_ends_does_not_matter(piece: bytes) -> None:
    with server(dripping(b"HTTP/1.1 200 OK\r\n\r\n", piece)) as (port, _):
        assert probe(port, "/", within_s=600) is None


def test_a_server_can_say_all_of_its_answer() -> None:
    """Many servers complain about a client that goes in the middle of it."""
    complaints: list[OSError] = []

    def answer(connection: socket.socket, over: threading.Event) -> None:
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            for _ in range(10):
                over.wait(0.005)
                connection.sendall(b"x" * 1_000)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
        except OSError as error:
            complaints.append(error)

    with server(answer) as (port, _):
        assert probe(port, "/", within_s=20) is None
    assert complaints == []


def test_a_connection_of_the_probe_to_itself_is_nobody_who_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """TCP allows it, and for a port from which connections start it happens."""
    alone = socket.socket()
    alone.bind(("127.0.0.1", 0))
    alone.connect(alone.getsockname())
    monkeypatch.setattr(socket, "create_connection", lambda *_: alone)
    assert probe(alone.getsockname()[1], None) == "connection refused"

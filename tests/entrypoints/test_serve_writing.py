"""How answers leave the server."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from skyclaw.entrypoints import serve

LARGE = 8 * 1024 * 1024
REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


@contextmanager
def serving(body: bytes) -> Iterator[int]:
    """A server that gives this answer to everything."""

    def app(_environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    server = serve.Server(app, "127.0.0.1", 0, threads=4)
    server.start()
    try:
        yield server.port
    finally:
        server.stop()


def answer(connection: socket.socket, length: int) -> bytes:
    come = b""
    while b"\r\n\r\n" not in come:
        come += connection.recv(65_536)
    head, _, body = come.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    while len(body) < length:
        body += connection.recv(1 << 20)
    return body


def test_the_poll_loop_is_never_asked_to_send_what_the_connection_took_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    writable = serve.Channel.writable

    def watched(channel: serve.Channel) -> Any:
        found = writable(channel)
        if found:
            asked.append(found)
        return found

    monkeypatch.setattr(serve.Channel, "writable", watched)

    def many(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for _ in range(200):
                connection.sendall(REQUEST)
                assert answer(connection, 5) == b"hello"

    with serving(b"hello") as port:
        clients = [threading.Thread(target=many, args=(port,)) for _ in range(4)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(30)
    assert asked == []


def test_what_the_connection_does_not_take_at_once_follows_as_the_reader_takes_it() -> None:
    body = bytes(range(256)) * (LARGE // 256)
    with serving(body) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(2):
            connection.sendall(REQUEST)
            assert answer(connection, LARGE) == body

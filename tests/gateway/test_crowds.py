"""More connections than a server takes: those that nothing is done for make room."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from skyclaw.entrypoints.serve import Server
from tests.gateway.stage import PATIENCE_S, Client, request

LIMIT = 40


def test_idle_connections_keep_nobody_out_and_a_running_request_is_spared() -> None:
    asked, let = threading.Event(), threading.Event()

    def application(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        if environ["PATH_INFO"] == "/slow":
            asked.set()
            let.wait(PATIENCE_S)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    server = Server(application, "127.0.0.1", 0, threads=2, settings={"connection_limit": LIMIT})
    server.start()
    with ExitStack() as connections:
        connections.callback(server.stop)
        connections.callback(let.set)
        slow = connections.enter_context(Client(server.port))
        slow.send(request("GET", "/slow"))
        assert asked.wait(PATIENCE_S)
        for half in ("", "GET / HTTP/1.1\r\n"):
            for _ in range(2 * LIMIT):
                connections.enter_context(Client(server.port)).send(half.encode())
            with Client(server.port) as client:
                client.send(request("GET", "/"))
                assert client.read().body == b"ok"
        let.set()
        assert slow.read().body == b"ok"

"""A real HTTP server on loopback that answers as a test tells it and remembers what it was asked."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    method: str
    path: str  # with the query
    headers: dict[str, str]  # names in lower case
    body: bytes
    connection: int  # which of the client's connections carried it

    @property
    def json(self) -> Any:
        return json.loads(self.body or b"{}")


@dataclass(frozen=True)
class Reply:
    """What to answer; `say` is sent as JSON unless `raw` is given."""

    status: int = 200
    say: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    content_type: str = "application/json; charset=utf-8"


class Hangup(Exception):
    """Raised by a script: close the connection without an answer."""


class ScriptedServer:
    """`script` gives the reply to each request; `asked` is what came, in order."""

    def __init__(self, script: Callable[[Asked], Reply], port: int = 0) -> None:
        self.asked: list[Asked] = []
        self._script = script
        self._connections = 0
        self._server = _Quiet(("127.0.0.1", port), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="scripted server", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Accept nothing more and end what is open."""
        self._server.shutdown()
        self._server.close_all()
        self._thread.join(5)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                outer._connections += 1
                self.number = outer._connections

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                asked = Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body, self.number)
                outer.asked.append(asked)
                try:
                    reply = outer._script(asked)
                except Hangup:
                    self.close_connection = True
                    return
                text = reply.raw if reply.raw is not None else json.dumps(reply.say, indent=2).encode()
                self.send_response(reply.status)
                headers = {"content-type": reply.content_type, "content-length": str(len(text)), **reply.headers}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = answer

            def log_message(self, *args: Any) -> None:
                """Tests read `asked` instead."""

        return Handler


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, *args: Any) -> None:
        self._open: set[Any] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is not an error of the test."""

    def close_all(self) -> None:
        self.server_close()
        for request in list(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(2)


@contextlib.contextmanager
def serving(script: Callable[[Asked], Reply], port: int = 0) -> Iterator[ScriptedServer]:
    """A scripted server that runs while the block runs."""
    server = ScriptedServer(script, port)
    server.start()
    try:
        yield server
    finally:
        server.stop()

"""The HTTP server as the gateway needs it.

1. Heads are sent as the application gives them: names keep their spelling and order, and nothing is added but what frames the answer.
2. An answer of unknown length is chunked, each piece leaves at once, and the connection goes on. HTTP/1.0 gets it until the end.
3. The application may end a connection, from any thread, so that nobody takes what was sent for a whole answer (`skyclaw.abort`).
4. A body may take the longer, the more of it has come. Of an answer no more waits for the client than a little memory.
"""

import contextlib
import socket
import struct
from typing import Any

from waitress.utilities import build_http_date  # type: ignore[import-untyped]

from skyclaw.entrypoints.serve import THREADS, Channel, Parser, Server, Task, WsgiApp

MAX_BODY = 65 * 1024 * 1024  # above the application's own limit, which is answered in JSON
MAX_UNSENT = 256 * 1024
BARE_NAMES = frozenset({"CONTENT_LENGTH", "CONTENT_TYPE"})
LINGER_NOT = struct.pack("ii", 1, 0)  # close with RST


class RelayParser(Parser):
    """Any request may be large."""

    is_large = True


class RelayTask(Task):
    """Answers one request."""

    version: str
    status: str
    close_on_finish: bool
    chunked_response: bool
    response_headers: list[tuple[str, str]]

    def get_environment(self) -> dict[str, Any]:
        """What the application is told: no more of WSGI's environment than a gateway looks at, because each request pays for it."""
        request, channel = self.request, self.channel
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.command,
            "REQUEST_URI": request.request_uri,
            "SERVER_PROTOCOL": f"HTTP/{self.version}",
            "REMOTE_ADDR": channel.addr[0],
            "wsgi.url_scheme": request.url_scheme,
            "wsgi.input": request.get_body_stream(),
            "waitress.client_disconnected": channel.check_client_disconnected,
            "skyclaw.abort": channel.abort,
        }
        for name, value in request.headers.items():
            environ[name if name in BARE_NAMES else f"HTTP_{name}"] = value
        return environ

    def build_response_header(self) -> bytes:
        """The head of the answer."""
        asked = self.request.headers.get("CONNECTION", "").lower()
        is_old = self.version == "1.0"
        is_bare = self.request.command == "HEAD" or not self.has_body
        lines = [f"HTTP/{self.version} {self.status}"]
        is_dated = False
        for name, value in self.response_headers:
            lines.append(f"{name}: {value}")
            is_dated = is_dated or name.lower() == "date"
        if not is_dated:
            lines.append(f"Date: {build_http_date(self.start_time)}")
        closes = "close" in asked or (is_old and "keep-alive" not in asked)
        if self.content_length is None and not is_bare:
            if is_old:
                closes = True
            else:
                self.chunked_response = True
                lines.append("Transfer-Encoding: chunked")
        if closes:
            self.close_on_finish = True
            lines.append("Connection: close")
        elif is_old:
            lines.append("Connection: keep-alive")
        lines.append("\r\n")
        return "\r\n".join(lines).encode("latin-1")

    def write(self, data: bytes) -> None:
        """Send a part of the answer, the first one together with the head."""
        head = b""
        if not self.wrote_header:
            head = self.build_response_header()
            self.wrote_header = True
        self.content_bytes_written += len(data)
        if data and self.chunked_response:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self.channel.write_soon(head + data)


class RelayChannel(Channel):
    """A connection that the application may end."""

    parser_class = RelayParser
    task_class = RelayTask
    socket: socket.socket | None  # None once it is closed
    _is_aborted = False

    def abort(self) -> None:
        """End the connection with RST, from any thread; it may have been closed already."""
        with self.outbuf_lock:
            self._is_aborted = True
            self.connected = False
            sock = self.socket
            with contextlib.suppress(OSError):
                if sock is not None:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
            self.outbuf_lock.notify_all()
        self.server.pull_trigger()

    def readable(self) -> bool:
        """Asked before each poll."""
        if self._is_aborted:
            self.handle_close()
            return False
        return super().readable()


def relay_server(app: WsgiApp, host: str, port: int, threads: int = THREADS, listener: socket.socket | None = None) -> Server:
    """A server for the gateway's application. Raises AddressUnusable."""
    settings = {"max_request_body_size": MAX_BODY, "outbuf_high_watermark": MAX_UNSENT}
    return Server(app, host, port, threads, listener, channel=RelayChannel, settings=settings)

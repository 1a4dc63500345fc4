"""The HTTP server: waitress, with the edges taken off that a hostile or broken client could hold on to.

A worker thread is only ever taken by a request that has come in completely. What comes in must do so within a deadline, however slowly it
drips; what goes out must be taken within another. One connection never speaks for two requests: lengths that contradict each other are
refused and the connection is closed. Connections that nothing is done for do not keep others out.
"""

import resource
import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from waitress import wasyncore  # type: ignore[import-untyped]
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.parser import HTTPRequestParser, ParsingError  # type: ignore[import-untyped]
from waitress.server import create_server  # type: ignore[import-untyped]
from waitress.task import WSGITask  # type: ignore[import-untyped]

from skyclaw.entrypoints.workers import Workers
from skyclaw.errors import AddressUnusable

THREADS = 128  # 48 that park, 40 that wait for a commit, 16 for another coordinator, 16 pulls that wait; the rest is for health and copies
BACKLOG = 1_024
MAX_CONNECTIONS = 2_000
SHARE_OF_ROOM = 20  # one in so many connections is closed when there are too many
SPARE_DESCRIPTORS = 64  # for the database, the log, and what Python needs
RECEIVE_S = 20.0  # for one request, from its first byte to its last
LEAST_RATE = 64 * 1024  # bytes a second at which a large body may come in, after that time
TAKE_S = 30.0  # without any progress while an answer waits to be taken
IDLE_S = 90  # of a connection between requests
MAX_HEADER = 16 * 1024
MAX_BODY = 9 * 1024 * 1024  # above the application's own limits, which are answered in JSON
LARGE = ("PUT", "/v1/bundles/")  # method and path of what may be larger: it is kept in a file while it comes in
MAX_UNSENT = 64 * 1024 * 1024  # bytes of answers in one connection; no single answer waits for a slow reader
POLL_S = 1.0  # between two looks at the deadlines

WsgiApp = Callable[..., Any]


class LargeLimits:
    """The server's settings as they are for what is large."""

    def __init__(self, settings: Any) -> None:
        self._settings, self.max_request_body_size = settings, settings.max_large

    def __getattr__(self, name: str) -> Any:
        return getattr(self._settings, name)


class Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    """Refuses a request whose length is told in two ways (RFC 9112, section 6.1), and knows what may be large."""

    adj: Any
    is_large = False

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the header; raises ParsingError, which is answered with 400 and the end of the connection."""
        super().parse_header(header_plus)
        if self.command == LARGE[0] and self.path.startswith(LARGE[1]):
            self.is_large, self.adj = True, LargeLimits(self.adj)
        if self.chunked and "CONTENT_LENGTH" in self.headers:
            raise ParsingError("Content-Length and Transfer-Encoding exclude each other")
        if "TRANSFER_ENCODING" in self.headers:
            raise ParsingError("Transfer-Encoding needs HTTP/1.1")


class Task(WSGITask):  # type: ignore[misc]  # waitress has no types
    """Sends head and body of an answer together."""

    wrote_header: bool

    def write(self, data: bytes) -> None:
        """Write a part of the answer."""
        if self.wrote_header or not data or self.content_length != len(data) or not self.has_body:
            super().write(data)
            return
        self.content_bytes_written = len(data)
        self.wrote_header = True
        self.channel.write_soon(self.build_response_header() + data)


class Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """A connection whose requests must come in, and whose answers must be taken, within a time."""

    parser_class = Parser
    task_class = Task
    request: Any
    total_outbufs_len: int
    last_activity: float
    _timed: Any = None  # the request that is coming in
    _ends = 0.0  # when it must be there, time.monotonic

    def received(self, data: bytes) -> bool:
        """Bytes have come in: the deadline of a request begins with its first one."""
        went_on: bool = super().received(data)
        if self.request is not self._timed:
            self._timed, self._ends = self.request, time.monotonic() + RECEIVE_S
        elif self.request is not None and self.request.is_large:
            self._ends += len(data) / LEAST_RATE
        return went_on

    def readable(self) -> bool:
        """Asked before each poll, so at least each second: the place to look at the deadlines."""
        if self._is_late():
            self.handle_close()
            return False
        able: bool = super().readable()
        return able

    def write_soon(self, data: Any) -> int:
        """Send what the connection takes at once; waitress keeps the rest, and sends it when it can.

        Without this every answer would wait in a buffer while a worker sends it, and the poll loop, told that there is something to send
        and that it can be sent, would spin until it is gone, holding up the worker.
        """
        sent = 0
        with self.outbuf_lock:
            if self.connected and not self.total_outbufs_len and isinstance(data, bytes):
                sent = self.send(data, do_close=False)
                if sent:
                    self.last_activity = time.time()
        if sent < len(data):
            super().write_soon(data[sent:] if sent else data)
        return len(data)

    def useless_s(self) -> float:
        """Seconds since anything came of it: since the request began that does not come to its end, or since the last bytes."""
        if self.request is not None and self.request is self._timed:
            return time.monotonic() - (self._ends - RECEIVE_S)
        return time.time() - self.last_activity

    def _is_late(self) -> bool:
        if self.total_outbufs_len:
            return time.time() - self.last_activity > TAKE_S
        return self._timed is not None and not self.requests and time.monotonic() > self._ends


class Server:
    """Serves an application at an address, or where `listener` listens already; port 0 lets the system choose. Raises AddressUnusable.

    Requests that are LARGE may have bodies of less than `max_large` bytes. `channel` is what a connection is, `settings` are waitress's own
    that are not as for a coordinator.
    """

    def __init__(
        self,
        app: WsgiApp,
        host: str,
        port: int,
        threads: int = THREADS,
        listener: socket.socket | None = None,
        max_large: int = MAX_BODY,
        channel: type[Channel] = Channel,
        settings: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        listener = listener or listen(host, port)
        self.port: int = listener.getsockname()[1]
        self._map: dict[int, Any] = {}
        self._workers = Workers(threads)
        adjustments = {
            "connection_limit": _connection_limit(),
            "asyncore_use_poll": True,
            "asyncore_loop_timeout": POLL_S,
            "channel_timeout": IDLE_S,
            "cleanup_interval": 10,
            "channel_request_lookahead": 1,  # so that a closed connection shows while its request is parked
            "max_request_header_size": MAX_HEADER,
            "max_request_body_size": MAX_BODY,
            "outbuf_high_watermark": MAX_UNSENT,
            "ident": "skyclaw",
            "clear_untrusted_proxy_headers": False,  # nobody reads them
            "log_socket_errors": False,
            **settings,
        }
        self._server = create_server(app, map=self._map, _start=False, _dispatcher=self._workers, sockets=[listener], **adjustments)
        self._server.adj.max_large = max_large
        self._server.channel_class = channel
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="HttpServer", daemon=True)

    def start(self) -> None:
        """Accept connections, in a thread of its own."""
        self._server.accept_connections()
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Accept nothing more, let running requests be answered for at most that time, and close all connections."""
        if self._stopping.is_set():
            return
        self._ends = time.monotonic() + timeout_s
        self._stopping.set()
        if self._thread.ident is not None:
            self._server.pull_trigger()
            self._thread.join()
        else:
            self._close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._poll(POLL_S)
            self._make_room()
        wasyncore.dispatcher.close(self._server)
        while self._finish_connections() and (left := self._ends - time.monotonic()) > 0:
            self._poll(min(left, POLL_S))
        self._close()

    def _make_room(self) -> None:
        """When there are as many connections as there may be, close some that nothing is done for, the longest silent ones first."""
        limit = self._server.adj.connection_limit
        if len(self._map) < limit:
            return
        waiting = [one for one in list(self._server.active_channels.values()) if not (one.requests or one.total_outbufs_len)]
        waiting.sort(key=lambda one: one.useless_s(), reverse=True)
        for channel in waiting[: max(1, limit // SHARE_OF_ROOM)]:
            channel.handle_close()

    def _finish_connections(self) -> int:
        """Close the connections that wait for nothing; returns how many are left."""
        channels = list(self._server.active_channels.values())
        for channel in channels:
            if not (channel.requests or channel.total_outbufs_len):
                channel.handle_close()
        return len(self._server.active_channels)

    def _poll(self, timeout_s: float) -> None:
        wasyncore.loop(timeout=timeout_s, use_poll=True, map=self._map, count=1)

    def _close(self) -> None:
        self._workers.shutdown(max(0.0, self._ends - time.monotonic()))
        self._server.pull_trigger = lambda: None  # a worker that is late must not write where something else may be open by then
        wasyncore.close_all(self._map, ignore_all=True)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises AddressUnusable."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise AddressUnusable(f"cannot listen on {host}:{port}: {reason[:1].lower()}{reason[1:]}") from None
    return listener


def _connection_limit() -> int:
    """As many connections as the process has descriptors for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(MAX_CONNECTIONS, max(16, soft - SPARE_DESCRIPTORS)) if soft != resource.RLIM_INFINITY else MAX_CONNECTIONS

"""The gateway's side of the connections to services: one request there, its answer back, as it came.

1. A request is sent at most once, unless it may be repeated: then once more, on a new connection, when a kept one turns out to be closed
   before the first byte of an answer.
2. A short answer (its length is known, or it is all there at once) is read completely before anything is passed on, so that a torn one can
   still become an error, or another attempt. A long one is passed on as it comes, in pieces of bounded size.
3. Nothing is decoded, followed or repaired.
4. A long body of a request is sent by a thread of its own, because the upstream may answer while it still reads.
5. Every wait ends by the watchdog.
"""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from skyclaw.outside.http_answers import in_plain_words
from skyclaw.outside.upstream_framing import Head
from skyclaw.outside.upstream_limits import GatewayLimits
from skyclaw.outside.upstream_pool import Connection, Pool
from skyclaw.outside.upstream_reading import PIECE, AnswerReader, UpstreamUnreachable
from skyclaw.outside.upstream_watch import Exchange, Watchdog
from skyclaw.services.routing import Backend

INLINE_BODY = 256 * 1024  # of a request; a longer one is sent beside


class Readable(Protocol):
    """Where the body of a request is read from."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""


@dataclass(slots=True)
class UpstreamRequest:
    """What is sent. `lines` are all headers but Host, each with its line end; `body` has `length` bytes and can be read once."""

    method: str
    target: str  # path and query as the client wrote them
    lines: str
    body: bytes | Readable = b""
    length: int = 0
    is_repeatable: bool = False


class Answer:
    """An answer to pass on: completely in `body`, or, when that is None, in `pieces`. To be closed; safe to be closed twice."""

    def __init__(self, head: Head, body: bytes | None, latency_ms: float, exchanged: "_Exchanged") -> None:
        self.head, self.body, self.latency_ms = head, body, latency_ms
        self._exchanged: _Exchanged | None = exchanged
        self._is_over = body is not None

    @property
    def has_begun(self) -> bool:
        """Is a first piece there?"""
        return self._exchanged is not None and bool(self._exchanged.reader.rest)

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes; raises Torn."""
        assert self._exchanged is not None
        yield from self._exchanged.reader.pieces(self.head, self._exchanged.most_bytes)
        self._is_over = True

    def close(self) -> None:
        """Keep the connection if it can carry another request, end it otherwise."""
        exchanged, self._exchanged = self._exchanged, None
        if exchanged is not None:
            exchanged.let_go(lasts=self._is_over and self.head.lasts)


class Upstreams:
    """Sends requests to backends, from any thread. Raises OSError when the authorities' file cannot be read."""

    def __init__(self, limits: GatewayLimits, ca_file: Path | None = None) -> None:
        self.limits = limits
        self._pool = Pool(limits, ca_file)
        self._watchdog = Watchdog(limits.look_every_s, limits.at_once, self._pool.expire)
        self.contradictions = 0  # answers with both Content-Length and Transfer-Encoding
        self.watch, self.forget, self.end_events = self._watchdog.add, self._watchdog.remove, self._watchdog.end_events

    def close(self) -> None:
        """Let go of everything that is kept. What is under way is not ended, and no deadline holds any more."""
        self._watchdog.stop()
        self._pool.close()

    def ask(self, backend: Backend, request: UpstreamRequest, exchange: Exchange) -> Answer:
        """One attempt at a watched exchange; raises UpstreamFailed, ClientLeft."""
        began = time.monotonic()
        connection = self._pool.take(backend)
        if connection is not None:
            with contextlib.suppress(_Stale):
                return self._attempt(backend, connection, request, exchange, began)
        try:
            connection = self._pool.open(backend)
        except OSError as error:
            raise UpstreamUnreachable(str(in_plain_words(error))) from error
        return self._attempt(backend, connection, request, exchange, began)

    def _attempt(self, backend: Backend, connection: Connection, request: UpstreamRequest, exchange: Exchange, began: float) -> Answer:
        exchanged = _Exchanged(self._pool, backend, connection, exchange, self.limits.stream_bytes)
        reader = exchanged.reader
        try:
            exchange.attempt(connection.sock)
            reader.fail_if_cut()
            exchanged.send(request)
            head = reader.head(request.method)
            latency_ms = (time.monotonic() - began) * 1000
            exchange.answered()
            body = reader.short_body(head)
        except BaseException as error:
            exchanged.let_go(lasts=False)
            if not connection.is_fresh and request.is_repeatable and isinstance(error, UpstreamUnreachable):
                raise _Stale from error
            raise
        if head.contradicts:
            self.contradictions += 1
        answer = Answer(head, body, latency_ms, exchanged)
        if body is None:
            exchange.stream(head.is_event_stream)
        else:
            answer.close()
        return answer


class _Stale(Exception):
    """A kept connection was closed before it could be used again."""


class _Sending:
    """Sends a long body in a thread of its own. When it fails, the answer, or its absence, tells why."""

    def __init__(self, sock: socket.socket, body: Readable, exchange: Exchange) -> None:
        self._sock, self._body, self._exchange = sock, body, exchange
        self._all_sent = False
        self._thread = threading.Thread(target=self._run, name="upstream-body", daemon=True)
        self._thread.start()

    def is_over(self) -> bool:
        """Has all of it been sent, and the thread no more to do?"""
        return self._all_sent

    def join(self) -> None:
        """Wait for the end of the thread; the socket has been shut down."""
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            _send_body(self._sock, self._body, self._exchange)
            self._all_sent = True


class _Exchanged:
    """A connection in use."""

    def __init__(self, pool: Pool, backend: Backend, connection: Connection, exchange: Exchange, most_bytes: int) -> None:
        self._pool, self._backend, self._connection, self._exchange = pool, backend, connection, exchange
        self._sending: _Sending | None = None
        self._is_whole = True  # the request was sent to its end
        self.most_bytes = most_bytes
        self.reader = AnswerReader(connection.sock, exchange)

    def send(self, request: UpstreamRequest) -> None:
        """Send the request, or begin to. Raises UpstreamUnreachable when there is no body behind which an answer may have come."""
        sock, backend = self._connection.sock, self._backend
        head = f"{request.method} {backend.prefix}{request.target} HTTP/1.1\r\nHost: {self._connection.authority}\r\n{request.lines}\r\n"
        data = head.encode("latin-1")
        try:
            if isinstance(request.body, bytes):
                sock.sendall(data + request.body)
                return
            sock.sendall(data)
            if request.length > INLINE_BODY and not isinstance(sock, ssl.SSLSocket):  # two threads must not use one of those
                self._sending = _Sending(sock, request.body, self._exchange)
            else:
                _send_body(sock, request.body, self._exchange)
        except OSError as error:
            self.reader.fail_if_cut()
            if not request.length:
                raise UpstreamUnreachable(str(in_plain_words(error))) from error
            self._is_whole = False  # it may have answered before it read everything

    def let_go(self, *, lasts: bool) -> None:
        """Keep the connection for the next request, or end it, and with it whoever still sends on it."""
        self._exchange.release()
        sock, sending = self._connection.sock, self._sending
        if lasts and not self.reader.rest and self._is_whole and (sending is None or sending.is_over()):
            self._pool.give(self._backend, self._connection)
            return
        if sending is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sending.join()
        sock.close()


def _send_body(sock: socket.socket, body: Readable, exchange: Exchange) -> None:
    """Send the body in pieces; each gives the upstream its time anew. Raises OSError."""
    while piece := body.read(PIECE):
        sock.sendall(piece)
        exchange.sent()

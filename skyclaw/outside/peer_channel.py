"""HTTP to one other coordinator: only ever to the IP addresses that its address was checked for, and never longer than was said.

No redirect is followed, no proxy or .netrc is looked at. A request has a deadline that also ends a peer that drips its answer, and an
answer has a limit. Connections are kept for the next request; each carries one at a time.
"""

import contextlib
import http.client
import math
import select
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from skyclaw import __version__
from skyclaw.errors import ServerRefused
from skyclaw.outside.http_answers import in_plain_words
from skyclaw.outside.peer_addresses import Pinned

CONNECT_S = 2.0
SPARE = 8  # connections kept for the next requests
NO_BODY = (204, 304)
LONGEST_TEXT = 200  # characters of a refusal
NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")  # what OpenSSL makes of plain HTTP
TLS_ALERT = "\x15\x03"  # how the answer of a TLS server to plain HTTP begins
DEFAULTS = {"user-agent": f"skyclaw/{__version__}", "accept": "application/json"}


class PeerSilent(Exception):
    """This coordinator gave no usable answer; `sent`: it may have got the request all the same."""

    def __init__(self, reason: str, sent: bool = False) -> None:
        super().__init__(reason)
        self.sent = sent


class TlsUnanswered(TimeoutError):
    """Somebody is there, and says nothing to a TLS handshake: so does a server that waits for the end of a request."""


class Reply(NamedTuple):
    """An HTTP answer as it came; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Socket(socket.socket):
    """Waits for bytes until `ends` (time.monotonic), however many receive calls that takes."""

    ends = math.inf

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(_left(self.ends))
        return super().recv_into(*args, **kwargs)


class _TlsSocket(ssl.SSLSocket):
    """The same, encrypted."""

    ends = math.inf

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(_left(self.ends))
        return super().recv_into(*args, **kwargs)


class _Connection(http.client.HTTPConnection):
    """Speaks as if to the host of the address, and connects where it was pinned to."""

    sock: _Socket | _TlsSocket | None

    def __init__(self, at: Pinned, tls: ssl.SSLContext | None) -> None:
        super().__init__(at.url.host, at.url.port)
        self._at, self._tls, self.ends = at, tls, math.inf

    def connect(self) -> None:
        """Connect to the first of the pinned addresses that lets us."""
        failure: OSError | None = None
        for address in self._at.addresses:
            try:
                self.sock = self._opened(address)
            except OSError as error:
                failure = failure or error
            else:
                return
        raise failure or OSError("it has no address")

    def _opened(self, address: str) -> _Socket | _TlsSocket:
        sock = _Socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.settimeout(min(CONNECT_S, _left(self.ends) or CONNECT_S))
            sock.connect((address, self._at.url.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                return sock
            wrapped = self._shaken(sock, self._tls)
        except BaseException:
            sock.close()
            raise
        assert isinstance(wrapped, _TlsSocket)
        return wrapped

    def _shaken(self, sock: _Socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
        try:
            return tls.wrap_socket(sock, server_hostname=self._at.url.host)
        except TimeoutError as error:
            raise TlsUnanswered from error


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Trusts the authorities in the file, or the system's; raises OSError when they cannot be read."""
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    context.sslsocket_class = _TlsSocket
    return context


class Channel:
    """Requests to the coordinator at one address, with the token; from several threads at once. Never waits for longer than it is told."""

    def __init__(self, at: Pinned, token: str | None, tls: ssl.SSLContext) -> None:
        self.at = at
        self._tls = tls if at.url.scheme == "https" else None
        self._headers = {"host": at.url.authority, **({"x-skyclaw-token": token} if token else {})}
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._closed = False

    def call(self, method: str, target: str, body: bytes | None, timeout_s: float, limit: int) -> dict[str, Any]:
        """The JSON object of the answer; the request may be repeated. Raises ServerRefused for any other status than 200, PeerSilent."""
        headers = {"content-type": "application/json"} if body is not None else {}
        reply = self.ask(method, target, headers, body, timeout_s, limit, repeat=True)
        try:
            said = orjson.loads(reply.body)
        except orjson.JSONDecodeError:
            said = None
        if not isinstance(said, dict):
            raise PeerSilent("not a Skyclaw coordinator", sent=True)
        if reply.status != 200:
            code, error, details = said.get("code"), said.get("error"), said.get("details")
            raise ServerRefused(
                reply.status,
                _plain(code) if isinstance(code, str) else f"http_{reply.status}",
                _plain(error) if isinstance(error, str) else f"answered {reply.status}",
                details if isinstance(details, dict) else None,
            )
        return said

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_s: float,
        limit: int,
        *,
        repeat: bool = False,
    ) -> Reply:
        """One request, and its answer of at most `limit` bytes within that time; raises PeerSilent. Names of headers are in lower case.

        With `repeat` it is sent once more when a kept connection turns out to be closed.
        """
        ends = time.monotonic() + timeout_s
        connection, kept = self._take()
        try:
            return self._exchange(connection, method, target, headers, body, ends, limit)
        except PeerSilent as silence:
            if not (kept and repeat and isinstance(silence.__cause__, ConnectionError)):
                raise
        connection, _ = self._take(fresh=True)
        return self._exchange(connection, method, target, headers, body, ends, limit)

    def close(self) -> None:
        """End everything that is under way, and ask no more."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for connection in self._busy:
                if connection.sock is not None:
                    with contextlib.suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)
        for connection in idle:
            connection.close()

    def _take(self, *, fresh: bool = False) -> tuple[_Connection, bool]:
        """A connection, and whether it was used before."""
        with self._lock:
            if self._closed:
                raise PeerSilent("no longer a peer")
            while self._idle:
                connection = self._idle.pop()
                if not fresh and not _has_come_to_an_end(connection):
                    self._busy.add(connection)
                    return connection, True
                connection.close()
            connection = _Connection(self.at, self._tls)
            self._busy.add(connection)
            return connection, False

    def _exchange(
        self, connection: _Connection, method: str, target: str, headers: Mapping[str, str], body: bytes | None, ends: float, limit: int
    ) -> Reply:
        sent = False
        try:
            self._prepare(connection, ends)
            sent = True
            connection.request(method, target, body, {**DEFAULTS, **headers, **self._headers})
            reply, lasts = _read(connection.getresponse(), method, limit)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._give_back(connection, lasts=False)
            raise PeerSilent(_reason(error), sent) from error
        except BaseException:
            self._give_back(connection, lasts=False)
            raise
        self._give_back(connection, lasts=lasts)
        return reply

    def _prepare(self, connection: _Connection, ends: float) -> None:
        """Connect, if it is not; from now on it waits until `ends` and no longer."""
        connection.ends = ends
        if connection.sock is None:
            connection.connect()
        if self._closed or connection.sock is None:
            raise PeerSilent("no longer a peer")
        connection.sock.ends = ends
        connection.sock.settimeout(_left(ends))

    def _give_back(self, connection: _Connection, *, lasts: bool) -> None:
        with self._lock:
            self._busy.discard(connection)
            if lasts and not self._closed and len(self._idle) < SPARE:
                self._idle.append(connection)
                return
        connection.close()


def _read(response: http.client.HTTPResponse, method: str, limit: int) -> tuple[Reply, bool]:
    """The answer, and whether the connection can be used again; raises PeerSilent when it is torn or too long."""
    headers = {name.lower(): value for name, value in response.getheaders()}
    length, bare = response.length, method == "HEAD" or response.status in NO_BODY
    if not bare and length is None and not response.chunked:
        raise PeerSilent("no HTTP answer", sent=True)
    body = b""
    while not bare and (piece := response.read(limit + 1 - len(body))):
        body += piece
        if len(body) > limit:
            raise PeerSilent("answer too large", sent=True)
    if length is not None and not bare and len(body) != length:
        raise PeerSilent("connection closed", sent=True)
    return Reply(response.status, headers, body), not response.will_close


def _reason(error: Exception) -> str:
    """Why there was no answer; in particular when one side speaks TLS and the other does not."""
    if isinstance(error, ssl.SSLError) and error.reason in NOT_TLS:
        return "it speaks http, not https"
    if isinstance(error, TlsUnanswered):
        return "it does not answer as https: perhaps it speaks http"
    if isinstance(error, http.client.BadStatusLine) and str(error.args[0]).startswith(TLS_ALERT):
        return "it speaks https, not http"
    return str(in_plain_words(error))


def _plain(text: str) -> str:
    """What somebody else wrote, as it may stand in a log: one line, not long, nothing that moves a cursor."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[:LONGEST_TEXT])


def _has_come_to_an_end(connection: _Connection) -> bool:
    """An idle connection has nothing to say, unless that it is closed."""
    if connection.sock is None:
        return True
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _left(ends: float) -> float | None:
    """Seconds to wait; raises TimeoutError when there are none."""
    if ends == math.inf:
        return None
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left

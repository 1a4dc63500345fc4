"""One look at the health of a process that listens on a port, of this machine unless another one is named."""

import re
import socket
import ssl
import time
from collections.abc import Sequence

from skyclaw.outside.connecting import connect

WITHIN_S = 1.5
_MOST_HEAD_BYTES = 1 << 16
_MOST_BODY_BYTES = 1 << 16
_BODY_WITHIN_S = 0.25
_READ_BYTES = 1 << 14
_HEAD_ENDS = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)(?: |\r?\n)")


class _Unhealthy(Exception):
    """The process is not healthy; says why."""


def probe(
    port: int,
    path: str | None,
    within_s: float = WITHIN_S,
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
    places: Sequence[str] = (),
) -> str | None:
    """None when the process on `port` is healthy, else why it is not, in words; with `tls` it is asked by https.

    `places` are the IP addresses to connect to when `host` is a name.

    It is healthy when it answers a GET of `path` with a status from 200 to 299 (no redirect is followed), or, without a path, takes a
    connection. All of it together takes at most `within_s` seconds, however slowly an answer drips.
    """
    ends = time.monotonic() + within_s
    try:
        with _connected(places or (host,), port, within_s, tls, host) as connection:
            if path is not None:
                _ask(connection, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", path, ends)
    except _Unhealthy as reason:
        return str(reason)
    except TimeoutError:
        return f"no answer within {within_s:g} s"
    except ConnectionRefusedError:
        return "connection refused"
    except ConnectionError:
        return "connection closed without an answer"
    except OSError as error:
        return str(error.strerror or error)
    return None


def _connected(places: Sequence[str], port: int, within_s: float, tls: ssl.SSLContext | None, host: str) -> socket.socket:
    connection = connect(places, port, within_s)
    if connection.getsockname() == connection.getpeername():  # TCP lets a socket connect to itself where nobody listens
        connection.close()
        raise ConnectionRefusedError
    return connection if tls is None else tls.wrap_socket(connection, server_hostname=host)  # which closes it when it fails


def _ask(connection: socket.socket, authority: str, path: str, ends: float) -> None:
    """Raises _Unhealthy unless the answer is a good one."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: skyclaw\r\nConnection: close\r\n\r\n".encode("ascii"))
    status = _status(connection, ends)
    _read_body(connection, min(ends, time.monotonic() + _BODY_WITHIN_S))
    if not 200 <= status < 300:
        raise _Unhealthy(f"status {status}")


def _status(connection: socket.socket, ends: float) -> int:
    """The status of the answer, once its head is complete; interim answers (1xx) are passed over."""
    heard = b""
    while True:
        while (head_ends := _HEAD_ENDS.search(heard)) is None:
            data = _received(connection, ends)
            if not data:
                raise _Unhealthy("connection closed without an answer")
            heard += data
            if len(heard) > _MOST_HEAD_BYTES:
                raise _Unhealthy("the head of the answer is too large")
        found = _STATUS.match(heard)
        if found is None:
            raise _Unhealthy("the answer is not HTTP")
        status = int(found[1])
        if status >= 200:
            return status
        heard = heard[head_ends.end() :]


def _read_body(connection: socket.socket, ends: float) -> None:
    """Take what comes, for a little while: most servers complain when it is not taken."""
    left = _MOST_BODY_BYTES
    try:
        while left > 0 and (data := _received(connection, ends)):
            left -= len(data)
    except OSError:
        return


def _received(connection: socket.socket, ends: float) -> bytes:
    left_s = ends - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    connection.settimeout(left_s)
    return connection.recv(_READ_BYTES)

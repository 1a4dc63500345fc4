"""Connections to upstreams, kept for the next request to the same one.

Their sockets block without a timeout, which costs no system call of its own: the watchdog ends whoever waits for too long.
"""

import select
import socket
import ssl
import threading
import time
from functools import cached_property
from pathlib import Path

from skyclaw.outside.connecting import connect
from skyclaw.outside.peer_channel import tls_context
from skyclaw.outside.upstream_limits import GatewayLimits
from skyclaw.services.routing import Backend

KEPT = 16  # connections without a request, of one backend
PORTS = {"http": 80, "https": 443}


class Connection:
    """A connection; `is_fresh` until it has carried a request and its answer, `authority` is what Host says."""

    __slots__ = ("_poll", "authority", "is_fresh", "since", "sock")

    def __init__(self, sock: socket.socket, backend: Backend) -> None:
        host = f"[{backend.host}]" if ":" in backend.host else backend.host
        self.authority = host if PORTS.get(backend.scheme) == backend.port else f"{host}:{backend.port}"
        self.sock = sock
        self.is_fresh = True
        self.since = 0.0  # when it was given back, time.monotonic
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def is_silent(self) -> bool:
        """Has it nothing to say? A kept connection that does is closed, or not to be trusted."""
        return not self._poll.poll(0)


class Pool:
    """Takes connections from any thread."""

    def __init__(self, limits: GatewayLimits, ca_file: Path | None = None) -> None:
        self._limits, self._ca_file = limits, ca_file
        self._lock = threading.Lock()
        self._kept: dict[str, list[Connection]] = {}  # by the backend's URL, the latest last
        self._closed = False
        if ca_file is not None:
            _ = self._tls

    def take(self, backend: Backend) -> Connection | None:
        """A kept connection that is still open, or None."""
        while True:
            with self._lock:
                kept = self._kept.get(backend.url)
                if not kept:
                    return None
                connection = kept.pop()
            if connection.is_silent() and time.monotonic() - connection.since < self._limits.kept_s:
                return connection
            connection.sock.close()

    def open(self, backend: Backend) -> Connection:
        """A new connection, to one of the backend's places; raises OSError."""
        sock = connect(backend.places, backend.port, self._limits.connect_s)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if backend.scheme == "https":
                sock = self._tls.wrap_socket(sock, server_hostname=backend.host, suppress_ragged_eofs=False)
            sock.settimeout(None)
        except BaseException:
            sock.close()
            raise
        return Connection(sock, backend)

    def give(self, backend: Backend, connection: Connection) -> None:
        """Keep it for the next request."""
        connection.is_fresh = False
        connection.since = time.monotonic()
        with self._lock:
            kept = self._kept.setdefault(backend.url, [])
            if len(kept) < KEPT and not self._closed:
                kept.append(connection)
                return
        connection.sock.close()

    def expire(self, now: float) -> None:
        """Close what was kept for too long."""
        late: list[Connection] = []
        with self._lock:
            for url, kept in list(self._kept.items()):
                while kept and now - kept[0].since >= self._limits.kept_s:
                    late.append(kept.pop(0))
                if not kept:
                    del self._kept[url]
        for connection in late:
            connection.sock.close()

    def close(self) -> None:
        """Close all, and keep none any more."""
        self._closed = True
        self.expire(float("inf"))

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return tls_context(self._ca_file)

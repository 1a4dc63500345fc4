"""A real gateway in front of upstreams that answer with bytes as a test says."""

import contextlib
import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from api.gateway import Gateway, GatewayParts, create_gateway
from skyclaw.entrypoints.relaying import relay_server
from skyclaw.outside.upstream_limits import GatewayLimits
from skyclaw.services.routing import Backend, Backends, Route, Rules, State

PATIENCE_S = 30.0
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@dataclass(frozen=True)
class Got:
    """A request as it reached an upstream."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int

    def all(self, name: str) -> list[str]:
        return [value for other, value in self.headers if other.lower() == name.lower()]


class Visit:
    """One request at an upstream, to be answered."""

    def __init__(self, connection: socket.socket, got: Got, upstream: "Upstream") -> None:
        self.socket, self.got, self._upstream = connection, got, upstream
        self.is_over = False

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def close(self) -> None:
        self.is_over = True

    def reset(self) -> None:
        """Close with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.is_over = True

    def hang(self) -> None:
        """Say nothing more until the other side is gone, which sets `left`."""
        with contextlib.suppress(OSError):
            while self.socket.recv(65_536):
                pass
        self._upstream.left.set()
        self.is_over = True


Script = Callable[[Visit], None]


class Upstream:
    """Listens on loopback; each connection has a thread, each request of it goes through the script."""

    def __init__(self, script: Script) -> None:
        self.got: list[Got] = []
        self.connections = 0
        self.left = threading.Event()
        self.script = script
        self.keeps_bodies = True
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Listen no more, and end what is open."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as stream:
            while first := stream.readline():
                got = _read_request(first, stream, number, self.keeps_bodies)
                self.got.append(got)
                visit = Visit(connection, got, self)
                self.script(visit)
                if visit.is_over:
                    return


def _read_request(first: bytes, stream: Any, number: int, keeps_body: bool) -> Got:
    method, target, _ = first.decode("latin-1").split(" ")
    headers = []
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode("latin-1").rstrip("\r\n").partition(": ")
        headers.append((name, value))
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    body = b""
    while length and (piece := stream.read(min(length, 65_536) if not keeps_body else length)):
        body = piece if keeps_body else b""
        length -= len(piece)
    return Got(method, target, headers, body, number)


def says(data: bytes, then: Callable[[Visit], None] = lambda _: None) -> Script:
    """A script that always answers the same."""

    def script(visit: Visit) -> None:
        visit.send(data)
        then(visit)

    return script


@dataclass
class Said:
    """What the client got; `is_whole` is False when the connection broke off."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    is_whole: bool
    version: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def all(self, name: str) -> list[str]:
        return [value for other, value in self.headers if other.lower() == name.lower()]


class Client:
    """One connection to the gateway."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self._rest = b""

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, method: str = "GET") -> Said:
        """The next answer, to its end."""
        response = http.client.HTTPResponse(self.socket, method=method)
        response.begin()
        body, whole = b"", True
        try:
            body = response.read()
        except http.client.IncompleteRead as error:
            body, whole = error.partial, False
        except ConnectionError:
            whole = False
        return Said(response.status, response.getheaders(), body, whole, response.version)

    def read_until(self, end: bytes) -> bytes:
        """Bytes up to and with these."""
        data = self._rest
        while end not in data:
            more = self.socket.recv(65_536)
            assert more, f"closed after {data!r}"
            data += more
        found = data.index(end) + len(end)
        self._rest = data[found:]
        return data[:found]

    def count_to_the_end(self) -> int:
        """How many bytes come until the connection is closed."""
        count = len(self._rest)
        while more := self.socket.recv(65_536):
            count += len(more)
        return count


@dataclass
class Stage:
    """The gateway's address, its backends, and what it is made of."""

    port: int
    backends: Backends
    gateway: Gateway
    upstreams: list[Upstream] = field(default_factory=list)

    def ask(self, method: str = "GET", path: str = "/v1/gateway/web/", body: bytes = b"", *lines: str, length: bool = True) -> Said:
        """One request on a connection of its own."""
        with Client(self.port) as client:
            client.send(request(method, path, body, *lines, length=length))
            return client.read(method)

    def in_flight(self) -> int:
        return sum(seen.in_flight for seen in self.backends.look())

    def states(self) -> list[State]:
        return [seen.state for seen in self.backends.look()]


def request(method: str, path: str, body: bytes = b"", *lines: str, length: bool = True) -> bytes:
    """A request as it should be, but for the further lines."""
    announced = [f"Content-Length: {len(body)}"] if length and (body or method == "POST") else []
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: shop.example", *announced, *lines, "", ""]).encode("latin-1") + body


@contextlib.contextmanager
def staged(
    *scripts: Script | int,
    limits: GatewayLimits | None = None,
    retries: int = 1,
    rules: Rules | None = None,
    prefix: str = "",
    scheme: str = "http",
    ca_file: Path | None = None,
    secrets: tuple[str, ...] = (),
    host: str = "127.0.0.1",
    addresses: tuple[str, ...] = (),
    await_route: Callable[[str], bool] | None = None,
) -> Iterator[Stage]:
    """A gateway whose service `web` has these upstreams; a port stands for one that is there already, or not.

    `host` may be a name that has these addresses. Without `await_route` nobody waits for a service that is not known.
    """
    upstreams = [Upstream(script) for script in scripts if not isinstance(script, int)]
    others = iter(upstreams)
    ports = [script if isinstance(script, int) else next(others).port for script in scripts]
    backends = Backends(lambda: int(time.monotonic() * 1000), threading.Lock(), rules or Rules())
    targets = tuple(
        Backend(f"ins_{number}", f"{scheme}://{host}:{port}{prefix}", scheme, host, port, prefix, addresses)
        for number, port in enumerate(ports)
    )
    backends.replace([Route("svc_1", "web", targets)])
    parts = GatewayParts(
        backends,
        retries,
        await_route or (lambda _: False),
        lambda: {"ok": True, "services": backends.keys()},
        lambda: {"http": {}},
        limits or GatewayLimits(look_every_s=0.02),
        ca_file,
        secrets,
    )
    gateway = create_gateway(parts)
    server = relay_server(gateway, "127.0.0.1", 0, threads=32)
    server.start()
    try:
        yield Stage(server.port, backends, gateway, upstreams)
    finally:
        for upstream in upstreams:
            upstream.close()
        server.stop(PATIENCE_S)
        gateway.close()

"""The smallest HTTP client that keeps its connections: many of them in one thread, as cheap as Python allows."""

import selectors
import socket
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

Address = tuple[str, int]
READ_BYTES = 1 << 18


class Answer(NamedTuple):
    """An HTTP answer that has come in completely."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The value in the body; raises Refused for anything but a success."""
        if self.status != 200:
            raise Refused(f"answered {self.status}: {self.body[:500].decode(errors='replace')}")
        return orjson.loads(self.body)


class Refused(Exception):
    """The server gave another answer than the measurement is about."""


def request(method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a request."""
    text = b"" if body is None else orjson.dumps(body)
    fields = {"Host": "benchmark", **(headers or {})}
    if text:
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(text))}
    head = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(head).encode() + text


class Connection:
    """One kept connection with at most one request under way."""

    def __init__(self, address: Address) -> None:
        self.socket = socket.create_connection(address, timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._come, self._whole = b"", 0  # what has come of an answer, and its length when that is known

    def fileno(self) -> int:
        """For selectors."""
        return self.socket.fileno()

    def send(self, text: bytes) -> None:
        """Send a request."""
        self.socket.sendall(text)

    def receive(self) -> Answer | None:
        """Take what has come; the answer, when it is complete. Raises Refused when the server has closed."""
        some = self.socket.recv(READ_BYTES)
        if not some:
            raise Refused("the server closed the connection")
        self._come += some
        if not self._whole:
            self._whole = _length(self._come)
        if not self._whole or len(self._come) < self._whole:
            return None
        come, self._come, self._whole = self._come, b"", 0
        return Answer(int(come[9:12]), come[come.index(b"\r\n\r\n") + 4 :])

    def ask(self, text: bytes) -> Answer:
        """Send a request and wait for its answer."""
        self.send(text)
        while (answer := self.receive()) is None:
            continue
        return answer

    def close(self) -> None:
        """Give it up."""
        self.socket.close()


class Poll:
    """Waits for several connections; `on_answer` of each is called with what came."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def add(self, source: Any, on_ready: Callable[[], object]) -> None:
        """Call this whenever there is something to read from the source."""
        self._selector.register(source, selectors.EVENT_READ, on_ready)

    def once(self, timeout_s: float) -> None:
        """Wait for something, and deal with all that is there."""
        for key, _ in self._selector.select(max(0.0, timeout_s)):
            key.data()

    def close(self) -> None:
        """Wait for nothing more."""
        self._selector.close()


def _length(come: bytes) -> int:
    """The length of an answer, head included; 0 while its head is not complete."""
    end = come.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head = come[:end].lower()
    place = head.find(b"\r\ncontent-length:")
    if place < 0:
        raise Refused(f"an answer without a length: {head[:200]!r}")
    return end + 4 + int(head[place + 17 :].partition(b"\r\n")[0])

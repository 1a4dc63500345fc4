"""HTTP as bytes on a socket, for what no client library would send."""

import json
import socket
from typing import Any

PATIENCE_S = 10.0


class Raw:
    """A connection; `send` bytes, `read` one answer, ask whether it `is_closed` by the other side."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self._read = b""

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> "RawAnswer":
        """The next answer; empty when the connection was closed without one."""
        while b"\r\n\r\n" not in self._read and (more := self._receive()):
            self._read += more
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        answer = RawAnswer(head)
        while len(self._read) < answer.length and (more := self._receive()):
            self._read += more
        answer.body, self._read = self._read[: answer.length], self._read[answer.length :]
        return answer

    def is_closed(self) -> bool:
        """Has the other side closed the connection? Waits for it."""
        try:
            return self._receive() == b""
        except TimeoutError:
            return False

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(65_536)
        except ConnectionError:
            return b""


class RawAnswer:
    """Status, headers (names in lower case) and body."""

    def __init__(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1]) if first else 0
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.length = int(self.headers.get("content-length", 0))
        self.body = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def request(method: str, path: str, body: bytes = b"", *lines: str) -> bytes:
    """A request that is as it should be, but for the given further lines."""
    head = [f"{method} {path} HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def exchange(port: int, data: bytes) -> RawAnswer:
    """Send, read one answer, hang up."""
    with Raw(port) as raw:
        raw.send(data)
        return raw.read()

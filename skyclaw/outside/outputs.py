"""What is kept of a process' output: of a job's its beginning and its end, in bounded memory; of a service's the newest, in files, and its
last words in memory.

Of a job the first and the last half are kept as they come. At the end they become text: never cut inside a character, bytes that are not
UTF-8 as U+FFFD, and never more bytes of UTF-8 than the limit, the mark in the middle included.
"""

import codecs
from typing import Protocol

from skyclaw.outside.rotating import Rotating

MARK = b"\n[output truncated]\n"
_MOST_CONTINUATION_BYTES = 3


class Output(Protocol):
    """Where a stream of a process goes; `total` counts all of its bytes."""

    total: int

    def add(self, data: bytes) -> None:
        """Take the next bytes of the stream."""

    def text(self) -> tuple[bytes, bool]:
        """The text that is handed back at the end as UTF-8, and whether something is missing from it."""


class Filed:
    """The output of a service: all of it goes into files, and the last `most` bytes are handed back. `total` is what this process wrote."""

    __slots__ = ("_files", "_last", "_most", "total")

    def __init__(self, files: Rotating, most: int) -> None:
        self._files, self._most = files, most
        self._last = bytearray()
        self.total = 0

    def add(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self.total += len(data)
        self._last += data[-self._most :]
        del self._last[: -self._most]
        self._files.write(data)

    def text(self) -> tuple[bytes, bool]:
        """The end of it as UTF-8, and whether something is missing from it."""
        cut = self.total > len(self._last)
        return _clean(_from_a_character(self._last) if cut else self._last), cut


class Kept:
    """One stream of a job, of which at most `limit` bytes are kept; `total` counts all of them."""

    __slots__ = ("_first", "_head", "_last", "_tail", "limit", "total")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._first = limit // 2 if limit >= len(MARK) else limit
        self._last = limit - self._first
        self._head = bytearray()
        self._tail = bytearray()

    def add(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self.total += len(data)
        if len(self._head) < self._first:
            room = self._first - len(self._head)
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        if len(self._tail) > 2 * self._last:
            del self._tail[: len(self._tail) - self._last]

    def text(self) -> tuple[bytes, bool]:
        """The kept text as UTF-8, and whether something is missing from it."""
        if not self.total:
            return b"", False
        if self.total <= self.limit:
            whole = _clean(self._head + self._tail)
            return (whole, False) if len(whole) <= self.limit else (_shortened(whole, whole, self.limit), True)
        head = codecs.utf_8_decode(self._head, "replace", False)[0].encode()
        return _shortened(head, _clean(_from_a_character(self._tail[len(self._tail) - self._last :])), self.limit), True


def _clean(raw: bytearray) -> bytes:
    return raw.decode("utf-8", "replace").encode()


def _from_a_character(raw: bytearray) -> bytearray:
    """Without what a cut left of the character before: after three continuation bytes a new one begins in any case."""
    start = 0
    while start < min(len(raw), _MOST_CONTINUATION_BYTES) and raw[start] & 0xC0 == 0x80:
        start += 1
    return raw[start:]


def _shortened(head: bytes, tail: bytes, limit: int) -> bytes:
    room = limit - len(MARK)
    if room < 0:
        return _beginning(head, limit)
    return _beginning(head, room - room // 2) + MARK + _end(tail, room // 2)


def _beginning(text: bytes, size: int) -> bytes:
    if size < len(text):
        while size and text[size] & 0xC0 == 0x80:
            size -= 1
    return text[:size]


def _end(text: bytes, size: int) -> bytes:
    start = max(0, len(text) - size)
    while start < len(text) and text[start] & 0xC0 == 0x80:
        start += 1
    return text[start:]

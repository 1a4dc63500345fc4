"""Messages between a host and its executor, over a socket pair.

A frame is `<bytes of the rest> <bytes of the head>` as two big-endian 32-bit numbers, the head as JSON, and the blobs whose sizes the head
lists: outputs and inputs travel as they are, without being escaped. Nothing here ever blocks.
"""

import json
import socket
import struct
from typing import Any

_SIZES = struct.Struct("!II")
MOST_FRAME_BYTES = 256 << 20
_READ_BYTES = 1 << 18
_COMPACT = (",", ":")


class FrameBroken(Exception):
    """The other end sent something that is no frame."""


class Frames:
    """One end of the socket pair; not safe for two threads at once in `send` or `flush`, nor in `receive`."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._outgoing = bytearray()
        self._incoming = bytearray()

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close this end; the other one sees the end of the stream."""
        self._sock.close()

    @property
    def unsent(self) -> bool:
        """Whether `flush` has something left to send."""
        return bool(self._outgoing)

    def send(self, head: dict[str, Any], *blobs: bytes) -> None:
        """Send a frame as far as the socket takes it now; a closed other end is noticed by `receive`."""
        if blobs:
            head["blobs"] = [len(blob) for blob in blobs]
        text = json.dumps(head, separators=_COMPACT).encode()
        self._outgoing += _SIZES.pack(4 + len(text) + sum(map(len, blobs)), len(text))
        self._outgoing += text
        for blob in blobs:
            self._outgoing += blob
        self.flush()

    def flush(self) -> None:
        """Send what is left, as far as the socket takes it now."""
        try:
            while self._outgoing:
                sent = self._sock.send(self._outgoing)
                del self._outgoing[:sent]
        except BlockingIOError:
            return
        except OSError:  # the other end is gone: nobody will read it
            self._outgoing.clear()

    def receive(self) -> list[tuple[dict[str, Any], list[bytes]]]:
        """The frames that are complete by now; raises EOFError when the other end is gone, FrameBroken."""
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        except ConnectionError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        self._incoming += data
        frames = []
        while (frame := self._take()) is not None:
            frames.append(frame)
        return frames

    def _take(self) -> tuple[dict[str, Any], list[bytes]] | None:
        buffer = self._incoming
        if len(buffer) < _SIZES.size:
            return None
        rest, head_bytes = _SIZES.unpack_from(buffer)
        if rest > MOST_FRAME_BYTES or head_bytes > rest - 4:
            raise FrameBroken(f"a frame of {rest} bytes with a head of {head_bytes}")
        if len(buffer) < 4 + rest:
            return None
        frame = bytes(memoryview(buffer)[_SIZES.size : 4 + rest])
        del buffer[: 4 + rest]
        return _parsed(frame, head_bytes)


def _parsed(frame: bytes, start: int) -> tuple[dict[str, Any], list[bytes]]:
    try:
        head = json.loads(frame[:start])
        sizes = head.pop("blobs", ())
    except (ValueError, TypeError, AttributeError) as error:
        raise FrameBroken("the head of a frame is no JSON object") from error
    blobs = []
    for size in sizes:
        blobs.append(frame[start : start + size])
        start += size
    if start != len(frame):
        raise FrameBroken("the blobs of a frame are shorter or longer than its head says")
    return head, blobs

"""/v1/bundles/{sha256}: the packed directories that services run in, streamed in and out."""

from collections.abc import Iterator
from typing import BinaryIO

import falcon
from falcon import Request, Response

from api import forwarding
from api.errors import HttpRefused
from api.parts import Bundles
from api.views import dump

KIND = "application/gzip"
BLOCK = 64 * 1024  # bytes


class Bundle:
    """/v1/bundles/{sha256}."""

    def __init__(self, bundles: Bundles) -> None:
        self._bundles, self._files = bundles, bundles.files

    def on_put(self, req: Request, resp: Response, sha256: str) -> None:
        """Take a bundle, whose name must be true; one that is here already is not read."""
        length = int(req.env.get("CONTENT_LENGTH") or 0)  # of a chunked body too: the server has put it together
        if length > self._files.max_bytes:
            raise HttpRefused(413, "payload_too_large", f"a bundle has at most {self._files.max_bytes} bytes")
        if req.env.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != KIND:
            raise HttpRefused(415, "unsupported_media_type", f"a bundle must be {KIND}")
        self._files.touch(sha256)
        size = self._files.size(sha256)
        if size is None:
            size = self._files.write(sha256, _blocks(req.env["wsgi.input"], length), length)
            self._bundles.announce(sha256)
        resp.data = dump({"bundle": {"sha256": sha256, "bytes": size}})

    def on_head(self, req: Request, resp: Response, sha256: str) -> None:
        """Is it here, or anywhere?"""
        size = self._bundles.require(sha256, forwarding.tried(req))
        resp.content_type, resp.content_length = KIND, size

    def on_get(self, req: Request, resp: Response, sha256: str) -> None:
        """The bundle, or the one range of it that is asked for (RFC 9110, section 14)."""
        size = self._bundles.require(sha256, forwarding.tried(req))
        part = _range(req, size)
        file = self._files.open(sha256)
        resp.content_type = KIND
        resp.set_header("accept-ranges", "bytes")
        if part is None:
            resp.set_stream(file, size)
            return
        first, last = part
        file.seek(first)
        resp.status = falcon.HTTP_206
        resp.content_range = (first, last, size)
        resp.content_length = last - first + 1
        resp.stream = _Part(file, last - first + 1)


class _Part:
    """Some bytes of an open file, block by block."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file, self._blocks = file, _blocks(file, length)

    def __iter__(self) -> Iterator[bytes]:
        return self._blocks

    def close(self) -> None:
        """The answer is out, or nobody wants it any more."""
        self._file.close()


def _blocks(file: BinaryIO, length: int) -> Iterator[bytes]:
    """So many bytes of a file, as far as it has them."""
    while length > 0 and (block := file.read(min(BLOCK, length))):
        length -= len(block)
        yield block


def _range(req: Request, size: int) -> tuple[int, int] | None:
    """The first and the last byte that are asked for; None for all, also when it is no range of bytes. Raises HttpRefused."""
    asked = req.range if req.range_unit == "bytes" else None
    if asked is None:
        return None
    first, last = asked
    first = max(0, size + first) if first < 0 else first
    if first >= size:
        raise HttpRefused(416, "bad_range", "the bundle has no such bytes", {"content-range": f"bytes */{size}"})
    return first, min(last, size - 1) if last >= 0 else size - 1

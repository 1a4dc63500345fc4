"""One answer of an upstream, read from its socket, and what may be wrong with it."""

import socket
from collections.abc import Iterator

from skyclaw.outside.http_answers import in_plain_words
from skyclaw.outside.upstream_framing import BEGINS, MAX_HEAD, Chunks, Framing, Head, Malformed, parse_head
from skyclaw.outside.upstream_watch import Cut, Exchange

SHORT = 64 * 1024  # bytes of an answer that is read before it is passed on
PIECE = 64 * 1024
INFORMATIONAL = 10  # answers before the answer


class UpstreamFailed(Exception):
    """There is no answer that could be passed on."""

    status, code = 502, "upstream_failed"


class UpstreamUnreachable(UpstreamFailed):
    """No connection, or one that was closed without an answer."""

    code = "upstream_unreachable"


class UpstreamMisbehaved(UpstreamFailed):
    """What came is not HTTP as it should be, or broke off."""

    code = "upstream_protocol"


class UpstreamLate(UpstreamFailed):
    """It took too long."""

    status, code = 504, "upstream_timeout"


class UpgradeUnsupported(UpstreamFailed):
    """The upstream wants to speak another protocol."""

    status, code = 501, "upgrade_unsupported"


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""


class Torn(Exception):
    """A long answer came to its end too early; `is_fault` when the upstream is to blame, and not the client or a limit of ours."""

    def __init__(self, reason: str, is_fault: bool) -> None:
        super().__init__(reason)
        self.is_fault = is_fault


class AnswerReader:
    """Reads one answer from a socket; `rest` is what came and was not used."""

    def __init__(self, sock: socket.socket, exchange: Exchange) -> None:
        self._sock, self._exchange = sock, exchange
        self.rest = b""
        self._chunks: Chunks | None = None

    def head(self, method: str) -> Head:
        """The head of the answer proper; raises UpstreamFailed, ClientLeft."""
        buffer, informational = b"", 0
        while True:
            end = buffer.find(b"\r\n\r\n")
            if end > MAX_HEAD or (end < 0 and len(buffer) > MAX_HEAD):
                raise UpstreamMisbehaved("its headers are too long")
            if not buffer.startswith(BEGINS[: len(buffer)]):
                raise UpstreamMisbehaved("no HTTP answer")
            if end < 0:
                buffer += self._more("the connection was closed within the headers" if buffer or informational else None)
                continue
            try:
                head = parse_head(buffer[: end + 2], method)
            except Malformed as fault:
                raise UpstreamMisbehaved(str(fault)) from fault
            buffer = buffer[end + 4 :]
            if head.status == 101:
                raise UpgradeUnsupported("the service wants to speak another protocol")
            if head.status >= 200:
                self.rest = buffer
                return head
            informational += 1
            if informational > INFORMATIONAL:
                raise UpstreamMisbehaved("too many informational answers")

    def short_body(self, head: Head) -> bytes | None:
        """The whole body, if it is short or all there; raises UpstreamFailed, ClientLeft."""
        torn = "the connection was closed within the body"
        match head.framing:
            case Framing.NONE:
                return b""
            case Framing.LENGTH if head.length is not None and head.length <= SHORT:
                while len(self.rest) < head.length:
                    self.rest += self._more(torn)
                body, self.rest = self.rest[: head.length], self.rest[head.length :]
                return body
            case Framing.CHUNKED:
                self._chunks = Chunks()
                return self._first_chunks(self._chunks, head)
            case Framing.CLOSE if not self.rest and not head.says_close:
                self.rest = self._more(torn)
        return None

    def pieces(self, head: Head, limit: int) -> Iterator[bytes]:
        """The body as it comes, at most so many bytes; raises Torn."""
        exchange, left = self._exchange, head.length if head.framing is Framing.LENGTH else None
        piece, self.rest = self.rest, b""
        while True:
            if left is not None:
                piece, self.rest = piece[:left], piece[left:]
                left -= len(piece)
            exchange.moved += len(piece)
            if exchange.moved > limit:
                raise Torn("the answer is too long", is_fault=False)
            if piece:
                exchange.is_writing = True
                yield piece
                exchange.is_writing = False
            if left == 0 or (self._chunks is not None and self._chunks.ended):
                return
            data = self._next_bytes(PIECE if left is None else min(left, PIECE))
            if not data:
                if head.framing is Framing.CLOSE and exchange.cut is None:
                    return
                raise self._torn()
            piece = self._without_chunks(data)

    def fail_if_cut(self) -> None:
        """Raise what the watchdog's cut means before anything was passed on."""
        cut = self._exchange.cut
        if cut is Cut.LEFT:
            raise ClientLeft
        if cut is not None:
            raise UpstreamLate(cut.value)

    def _first_chunks(self, chunks: Chunks, head: Head) -> bytes | None:
        """All of a chunked body, if no more than its beginning must be waited for. It is given a length then."""
        while True:
            try:
                self.rest = chunks.feed(self.rest)
            except Malformed as fault:
                raise UpstreamMisbehaved(str(fault)) from fault
            if chunks.ended:
                body, self.rest = self.rest, chunks.rest
                head.headers.append(("Content-Length", str(len(body))))
                return body
            if self.rest or head.is_event_stream:
                return None
            self.rest = self._more("the connection was closed within the body")

    def _without_chunks(self, data: bytes) -> bytes:
        if self._chunks is None:
            return data
        try:
            piece = self._chunks.feed(data)
        except Malformed as fault:
            raise Torn(str(fault), is_fault=True) from fault
        if self._chunks.ended:
            self.rest = self._chunks.rest
        return piece

    def _more(self, torn: str | None) -> bytes:
        """Further bytes of what must still come; `torn` says what it means when they do not."""
        try:
            data = self._sock.recv(PIECE)
        except OSError as error:
            self.fail_if_cut()
            raise (UpstreamMisbehaved(torn) if torn else UpstreamUnreachable(str(in_plain_words(error)))) from error
        if not data:
            self.fail_if_cut()
            raise UpstreamMisbehaved(torn) if torn else UpstreamUnreachable("the connection was closed")
        return data

    def _next_bytes(self, limit: int) -> bytes:
        """Bytes of a body that is being passed on; none when the connection came to a clean end."""
        try:
            return self._sock.recv(limit)
        except OSError as error:
            raise self._torn() from error

    def _torn(self) -> Torn:
        cut = self._exchange.cut
        return Torn(cut.value if cut else "the answer broke off", is_fault=cut in (None, Cut.DRIPPED))

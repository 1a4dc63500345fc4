"""How an upstream's answer is laid out (RFC 9112, sections 4 to 7). Strict, because a client believes what is passed on.

1. Lines end with CRLF; a head has at most 100 headers and 64 KiB, and no line that is folded, torn, or holds a control character.
2. The status is 100 to 599.
3. An answer to HEAD, a 204 and a 304 have no body, whatever the headers say.
4. `Transfer-Encoding: chunked` outdoes Content-Length, and such a connection is not used again. No other transfer coding is understood.
5. Content-Length is one number, however often it is said.
6. Without either, the body ends with the connection; when nothing came and no close was announced, the answer is torn.
7. Hop-by-hop headers, and those that Connection names, end here (RFC 9110, section 7.6.1).
"""

import re
from dataclasses import dataclass
from enum import Enum

MAX_HEAD, MAX_HEADERS = 64 * 1024, 100
MAX_LINE = 4 * 1024  # of a chunk's size with its extensions
BEGINS = b"HTTP/1."
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    }
)
_TEXT = r"[^\x00-\x08\x0a-\x1f\x7f]*"
_STATUS = re.compile(rf"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ({_TEXT}))?")
_HEADER = re.compile(rf"(?m)^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*({_TEXT})\r$")
_LENGTH = re.compile(r"[0-9]{1,15}")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")


class Malformed(Exception):
    """What the upstream sent is not HTTP as it should be."""


class Framing(Enum):
    """How one knows where a body ends."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


@dataclass(slots=True)
class Head:
    """The head of an answer; `headers` are those that may be passed on, Content-Length only where it holds."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    framing: Framing
    length: int | None  # of the body, or what it would be for GET
    lasts: bool  # the connection may carry another request
    says_close: bool
    is_event_stream: bool
    contradicts: bool  # Content-Length and Transfer-Encoding


def parse_head(data: bytes, method: str) -> Head:
    """The head, up to and with the line end of its last line; raises Malformed."""
    first, _, lines = data.decode("latin-1").partition("\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise Malformed("bad status line")
    found = _HEADER.findall(lines)
    if len(found) != lines.count("\n"):
        raise Malformed("bad header line")
    if len(found) > MAX_HEADERS:
        raise Malformed("too many headers")
    return _framed(status[1] == "1", int(status[2]), status[3] or "", found, method)


def _framed(is_new: bool, status: int, reason: str, found: list[tuple[str, str]], method: str) -> Head:
    kept: list[tuple[str, str]] = []
    named: list[str] = []
    codings: list[str] = []
    lengths: list[str] = []
    event_stream = False
    for pair in found:
        match pair[0].lower():
            case "content-length":
                lengths.append(pair[1])
            case "connection":
                named.append(pair[1])
            case "transfer-encoding":
                codings.append(pair[1])
            case name if name not in HOP_BY_HOP:
                kept.append(pair)
                event_stream = event_stream or (name == "content-type" and pair[1].lower().startswith("text/event-stream"))
    options = {option.strip(" \t").lower() for line in named for option in line.split(",")} if named else set()
    if options - {"close", "keep-alive", ""}:
        kept = [pair for pair in kept if pair[0].lower() not in options]
    length = _one_length(lengths) if lengths else None
    framing = _framing(method, status, codings, length, is_new)
    contradicts = bool(codings and lengths)
    if contradicts:
        length = None
    if length is not None and status not in (204, 304):
        kept.append(("Content-Length", str(length)))
    says_close = "close" in options or not (is_new or "keep-alive" in options)
    lasts = not says_close and not contradicts and framing is not Framing.CLOSE
    return Head(status, reason.rstrip(" \t"), kept, framing, length, lasts, says_close, event_stream, contradicts)


def _framing(method: str, status: int, codings: list[str], length: int | None, is_new: bool) -> Framing:
    if codings and (not is_new or [coding.strip(" \t").lower() for coding in codings] != ["chunked"]):
        raise Malformed("bad transfer coding")
    if method == "HEAD" or status in (204, 304) or status < 200:
        return Framing.NONE
    if codings:
        return Framing.CHUNKED
    return Framing.CLOSE if length is None else Framing.LENGTH


def _one_length(lengths: list[str]) -> int:
    said = {length.strip(" \t") for line in lengths for length in line.split(",")}
    if len(said) != 1:
        raise Malformed("several lengths")
    length = said.pop()
    if not _LENGTH.fullmatch(length):
        raise Malformed("bad length")
    return int(length)


class Chunks:
    """Takes the chunked coding off a body; `ended` once its last byte is there. Trailers are dropped."""

    def __init__(self) -> None:
        self.ended = False
        self.rest = b""  # that cannot be judged yet, or came after the end
        self._left = 0  # bytes of the present chunk
        self._closing = False  # the line end after a chunk is next
        self._trailers: int | None = None  # bytes of them, once they have begun

    def feed(self, data: bytes) -> bytes:
        """What of the body comes with these bytes; raises Malformed."""
        data = self.rest + data if self.rest else data
        body: list[bytes] = []
        at = 0
        while not self.ended:
            if self._left:
                piece = data[at : at + self._left]
                if not piece:
                    break
                body.append(piece)
                self._left -= len(piece)
                self._closing = not self._left
                at += len(piece)
            else:
                end = data.find(b"\r\n", at)
                if (len(data) if end < 0 else end) - at > MAX_LINE:
                    raise Malformed("bad chunk")
                if end < 0:
                    break
                self._take_line(data[at:end])
                at = end + 2
        self.rest = data[at:]
        return b"".join(body)

    def _take_line(self, line: bytes) -> None:
        if self._closing:
            if line:
                raise Malformed("bad chunk")
            self._closing = False
        elif self._trailers is not None:
            self.ended = not line
            self._trailers += len(line) + 2
            if self._trailers > MAX_HEAD:
                raise Malformed("too many trailers")
        elif size := _SIZE.fullmatch(line):
            self._left = int(size[1], 16)
            self._trailers = None if self._left else 0
        else:
            raise Malformed("bad chunk")

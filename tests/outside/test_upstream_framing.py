"""Heads and chunks as bytes, however they are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyclaw.outside.upstream_framing import Chunks, Framing, Malformed, parse_head


def whole(pieces: list[bytes]) -> tuple[bytes, Chunks]:
    chunks = Chunks()
    return b"".join(chunks.feed(piece) for piece in pieces), chunks


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.lists(st.integers(0, 400), max_size=8), st.binary(max_size=5))
def test_chunks_are_the_same_however_they_are_cut(parts: list[bytes], cuts: list[int], behind: bytes) -> None:
    coded = b"".join(b"%x;e=1\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\nX-T: 1\r\n\r\n" + behind
    edges = [0, *sorted(cut for cut in cuts if cut < len(coded)), len(coded)]
    body, chunks = whole([coded[start:end] for start, end in pairwise(edges)])
    assert (body, chunks.ended, chunks.rest) == (b"".join(parts), True, behind)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.integers(1, 100))
def test_chunks_that_break_off_have_not_ended(parts: list[bytes], missing: int) -> None:
    coded = b"".join(b"%X\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    assert not whole([coded[:-missing]])[1].ended


@pytest.mark.parametrize(
    "coded",
    [
        b"\r\n",
        b"x\r\n",
        b"0x5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"5 5\r\nhello\r\n",
        b"5\r\nhelloX\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\nhello\r\n",
        b"5;a\nb\r\nhello\r\n",
        b"1000000000000000\r\n",
        b"5" * 5000,
        b"5;" + b"a" * 5000 + b"\r\n",
        b"0\r\n" + b"X-T: 1\r\n" * 10_000,
    ],
)
def test_a_bad_chunk_is_refused_however_it_is_cut(coded: bytes) -> None:
    with pytest.raises(Malformed):
        whole([coded + b"\r\n"])
    with pytest.raises(Malformed):
        whole([bytes([byte]) for byte in coded + b"\r\n"])


@pytest.mark.parametrize(
    ("lines", "method", "framing", "length", "lasts"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", "GET", Framing.LENGTH, 5, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n", "GET", Framing.LENGTH, 5, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", "HEAD", Framing.NONE, 5, True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED \r\n", "GET", Framing.CHUNKED, None, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n", "GET", Framing.CHUNKED, None, False),
        (b"HTTP/1.1 200 OK\r\n", "GET", Framing.CLOSE, None, False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n", "GET", Framing.LENGTH, 5, False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n", "GET", Framing.LENGTH, 5, True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n", "GET", Framing.LENGTH, 5, False),
        (b"HTTP/1.1 204 No Content\r\n", "GET", Framing.NONE, None, True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n", "GET", Framing.NONE, 5, True),
        (b"HTTP/1.1 100 Continue\r\n", "GET", Framing.NONE, None, True),
    ],
)
def test_a_head_tells_where_its_body_ends(lines: bytes, method: str, framing: Framing, length: int | None, lasts: bool) -> None:
    head = parse_head(lines, method)
    assert (head.framing, head.length, head.lasts) == (framing, length, lasts)


@given(st.binary(max_size=200))
def test_no_bytes_are_read_as_a_head_by_accident(data: bytes) -> None:
    """Whatever the bytes are: a refusal, or headers without anything that could end a line."""
    try:
        head = parse_head(b"HTTP/1.1 200 OK\r\n" + data + b"\r\n", "GET")
    except Malformed:
        return
    assert not any(letter in name + value for name, value in head.headers for letter in "\r\n\0")


def test_a_head_without_headers_is_one() -> None:
    assert parse_head(b"HTTP/1.1 200 \r\n", "GET").reason == ""


@pytest.mark.parametrize("coding", ["identity", "chunked, chunked", "chunked, gzip", "xchunked", ""])
def test_no_other_transfer_coding_is_understood(coding: str) -> None:
    with pytest.raises(Malformed):
        parse_head(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n".encode(), "GET")


def test_http_1_0_has_no_transfer_codings() -> None:
    with pytest.raises(Malformed):
        parse_head(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n", "GET")

"""The output of services as text: offsets in the text are offsets in the bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyclaw.hosting.service_output import as_text, whole_characters

BYTES = st.one_of(st.binary(max_size=40), st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain", "plain"),
        ("é€😀".encode(), "é€😀"),
        (b"a\xffb\x80", "a?b?"),
        (b"\xed\xa0\x80", "???"),  # half of a pair, which is no character in UTF-8
        (b"\x00\x1b[31m", "\x00\x1b[31m"),
    ],
)
def test_bytes_become_text_of_the_same_length(data: bytes, text: str) -> None:
    assert as_text(data) == text


@pytest.mark.parametrize("text", ["é", "€", "😀"])
def test_a_character_is_not_cut(text: str) -> None:
    data = text.encode()
    assert whole_characters(b"a" + data) == b"a" + data
    for cut in range(1, len(data)):
        assert whole_characters(b"a" + data[:cut]) == b"a"


@given(BYTES)
def test_the_text_has_as_many_bytes_in_utf_8(data: bytes) -> None:
    assert len(as_text(data).encode()) == len(data)


@given(BYTES)
def test_at_most_the_beginning_of_one_character_is_held_back(data: bytes) -> None:
    whole = whole_characters(data)
    assert data.startswith(whole)
    assert len(data) - len(whole) < 4


@given(st.text(max_size=40), st.integers(1, 50))
def test_text_that_is_cut_anywhere_arrives_as_it_was(text: str, size: int) -> None:
    data, heard = text.encode(), ""
    size = max(size, 4)
    while data:
        piece = whole_characters(data[:size])
        heard += as_text(piece)
        data = data[len(piece) :]
    assert heard == text

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from skyclaw.outside.outputs import MARK, Kept

CHARACTERS = st.text(alphabet="aé漢🦞\n\0\u0300", max_size=120).map(str.encode)
OUTPUTS = st.lists(CHARACTERS | st.binary(max_size=20), max_size=12).map(b"".join)


def kept(output: bytes, limit: int, cuts: list[int] | None = None) -> Kept:
    stream = Kept(limit)
    edges = [0, *sorted({cut % (len(output) + 1) for cut in cuts or []}), len(output)]
    for start, end in pairwise(edges):
        stream.add(output[start:end])
    return stream


@given(OUTPUTS, st.integers(0, 200), st.lists(st.integers(0, 2_000), max_size=30))
@example("é".encode() * 100, 41, list(range(0, 200, 3)))
@example(b"\x80" * 100, 60, [])
@example(b"\xff" * 50, 100, [])
@example(b"\xf0\x9f\xa6\x9e" * 30, 101, [1, 2, 3])
def test_what_is_kept_is_the_beginning_and_the_end_however_the_output_arrived(output: bytes, limit: int, cuts: list[int]) -> None:
    stream = kept(output, limit, cuts)
    text, truncated = stream.text()
    whole = output.decode("utf-8", "replace")
    assert stream.total == len(output)
    assert len(text) <= limit
    assert (text, truncated) == kept(output, limit).text()
    assert truncated == (len(output) > limit or len(whole.encode()) > limit)
    if not truncated:
        assert text.decode() == whole
    elif limit >= len(MARK):
        assert is_split(text.decode(), whole)
    else:
        assert whole.startswith(text.decode())


def is_split(text: str, whole: str) -> bool:
    """Whether a text is a beginning of the whole, the mark, and an end of it; the whole may hold marks itself."""
    mark = MARK.decode()
    at = text.find(mark)
    while at >= 0:
        if whole.startswith(text[:at]) and whole.endswith(text[at + len(mark) :]):
            return True
        at = text.find(mark, at + 1)
    return False


@given(st.integers(len(MARK), 300), st.integers(1, 1_000))
def test_of_plain_text_not_a_byte_less_than_allowed_is_kept(limit: int, more: int) -> None:
    text, _ = kept(b"x" * (limit + more), limit).text()
    assert len(text) == limit


@given(st.integers(len(MARK), 300), st.integers(1, 300))
def test_of_long_characters_hardly_less_than_allowed_is_kept(limit: int, more: int) -> None:
    text, _ = kept("🦞".encode() * (limit + more), limit).text()
    assert limit - len(text) <= 8
    assert "\ufffd" not in text.decode()


def test_an_output_of_exactly_the_limit_is_whole() -> None:
    assert kept(b"x" * 100, 100).text() == (b"x" * 100, False)


def test_a_limit_without_room_for_the_mark_keeps_only_the_beginning() -> None:
    assert kept(b"abcdefgh", 3).text() == (b"abc", True)
    assert kept("aé".encode(), 2).text() == (b"a", True)
    assert kept(b"abc", 0).text() == (b"", True)


def test_no_output_is_nothing() -> None:
    assert Kept(100).text() == (b"", False)


def test_memory_does_not_grow_with_the_output() -> None:
    stream = Kept(1_000)
    for _ in range(1_000):
        stream.add(b"x" * 1_000)
    assert stream.total == 1_000_000
    assert len(stream._head) + len(stream._tail) <= 2_000

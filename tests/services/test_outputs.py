"""The latest output of instances, bounded in bytes and time."""

import pytest

from skyclaw.services.outputs import FORGET_MS, MOST_BYTES, Outputs, Source


def source(name: str, service: str = "svc") -> Source:
    return Source(name, service, "h", 1)


@pytest.fixture
def outputs() -> Outputs:
    """Of instances a and b, ten bytes of each and fifteen in all."""
    outputs = Outputs(10, 15)
    outputs.know([source("a"), source("b")], 0)
    return outputs


def text(outputs: Outputs, name: str = "a", after: int | None = None, limit: int = 1000) -> tuple[str, int, int]:
    printed = outputs.read(name, after, limit)
    assert printed is not None
    return printed.text, printed.start, printed.end


def test_parts_are_put_together(outputs: Outputs) -> None:
    outputs.put("a", 0, "abc")
    outputs.put("a", 3, "def")
    assert (text(outputs), outputs.wanted("a")) == (("abcdef", 0, 6), 6)


def test_what_comes_twice_is_taken_once(outputs: Outputs) -> None:
    outputs.put("a", 0, "abc")
    outputs.put("a", 0, "abc")
    outputs.put("a", 1, "bcde")
    outputs.put("a", 1, "b")
    assert text(outputs) == ("abcde", 0, 5)


def test_after_a_gap_only_what_comes_then_is_kept(outputs: Outputs) -> None:
    outputs.put("a", 0, "abc")
    outputs.put("a", 100, "xyz")
    assert (text(outputs), text(outputs, after=1), outputs.wanted("a")) == (("xyz", 100, 103), ("xyz", 100, 103), 103)


def test_the_last_bytes_are_kept(outputs: Outputs) -> None:
    outputs.put("a", 0, "0123456789")
    outputs.put("a", 10, "ab")
    assert text(outputs) == ("23456789ab", 2, 12)
    outputs.put("a", 12, "c" * 50)
    assert text(outputs) == ("c" * 10, 52, 62)


def test_of_all_the_one_that_was_silent_for_longest_goes_first(outputs: Outputs) -> None:
    outputs.put("a", 0, "0123456789")
    outputs.put("b", 0, "01234567")
    assert (text(outputs, "a"), text(outputs, "b")) == (("", 10, 10), ("01234567", 0, 8))
    assert outputs.wanted("a") == 10


def test_no_instance_that_is_not_known_is_kept(outputs: Outputs) -> None:
    outputs.put("c", 0, "x")
    assert (outputs.read("c", None, 10), outputs.wanted("c")) == (None, 0)


def test_what_was_not_heard_of_for_long_is_forgotten(outputs: Outputs) -> None:
    outputs.put("a", 0, "0123456789")
    outputs.know([source("b")], FORGET_MS)
    assert outputs.read("a", None, 10) is not None
    outputs.know([source("b")], FORGET_MS + 1)
    assert outputs.read("a", None, 10) is None
    outputs.put("b", 0, "0123456789")
    outputs.know([source("a")], FORGET_MS + 1)
    outputs.put("a", 0, "01234")
    assert text(outputs, "b") == ("0123456789", 0, 10)


def test_the_instances_of_one_service_are_found(outputs: Outputs) -> None:
    outputs.know([source("c", "other")], 0)
    outputs.put("a", 0, "x")
    assert [one.instance_id for one in outputs.of("svc")] == ["b", "a"]
    assert [one.instance_id for one in outputs.of("other")] == ["c"]


def test_a_piece_ends_between_two_characters_and_the_next_begins_there(outputs: Outputs) -> None:
    outputs.put("a", 0, "aé€😀")
    found, at = "", 0
    while at < outputs.wanted("a"):
        piece, start, end = text(outputs, after=at, limit=4)
        assert start == at < end
        found, at = found + piece, end
    assert found == "aé€😀"


def test_what_begins_within_a_character_begins_with_the_next_one() -> None:
    outputs = Outputs(4)
    outputs.know([source("a")], 0)
    outputs.put("a", 0, "€€")
    assert text(outputs) == ("€", 3, 6)
    assert text(outputs, limit=4) == ("€", 3, 6)


def test_an_offset_that_is_not_reached_yet_has_nothing(outputs: Outputs) -> None:
    outputs.put("a", 0, "abc")
    assert text(outputs, after=50) == ("", 3, 3)


def test_as_much_is_kept_as_is_promised() -> None:
    outputs = Outputs()
    outputs.know([source("a")], 0)
    outputs.put("a", 0, "x" * (MOST_BYTES + 1))
    assert text(outputs, limit=MOST_BYTES * 2)[1:] == (1, MOST_BYTES + 1)

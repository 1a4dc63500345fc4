from dataclasses import dataclass
from typing import Any, ClassVar, get_type_hints

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyclaw import events as events_module
from skyclaw.codec import CODEC, Codec, UnsupportedEvent
from skyclaw.events import (
    ALL,
    Event,
    HostForgotten,
    JobEnqueued,
    JobLeaseExpired,
    JobReleased,
    JobRevived,
    OwnershipTaken,
    RequestAnswered,
    stream_of,
)

whole = st.integers(-(2**53), 2**53)
pairs = st.lists(st.tuples(st.text(), st.text())).map(tuple)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: whole,
    str: st.text(),
    int | None: st.none() | whole,
    str | None: st.none() | st.text(),
    tuple[str, ...]: st.lists(st.text()).map(tuple),
    tuple[tuple[str, str], ...]: pairs,
    tuple[tuple[tuple[str, ...], int], ...]: st.lists(st.tuples(st.lists(st.text()).map(tuple), whole)).map(tuple),
}


def events(cls: type[Event]) -> st.SearchStrategy[Event]:
    """Any event of this class."""
    hints = {name: kind for name, kind in get_type_hints(cls).items() if name != "version"}
    return st.builds(cls, **{name: events(kind) if kind is JobEnqueued else VALUES[kind] for name, kind in hints.items()})


@pytest.mark.parametrize("cls", ALL)
def test_every_event_is_read_back_as_it_was_written(cls: type[Event]) -> None:
    @settings(max_examples=50, deadline=None)
    @given(events(cls))
    def check(event: Event) -> None:
        name, version, data = CODEC.encode(event)
        assert (name, version) == (cls.__name__, cls.version)
        read = CODEC.decode(name, version, data)
        assert read == event
        assert type(read) is cls
        hash(read)  # no list is left in it

    check()


def test_all_lists_every_event_class() -> None:
    named = {value for value in vars(events_module).values() if isinstance(value, type) and issubclass(value, Event)}
    assert named - {Event} == set(ALL)


@dataclass(frozen=True, slots=True)
class Moved(Event):
    """Something moved; version 2 named its parts, version 3 gave it a speed."""

    version: ClassVar[int] = 3
    parts: tuple[str, ...]
    speed: int


UPCASTERS = {
    ("Moved", 1): lambda values: {"parts": values["what"].split(",")},
    ("Moved", 2): lambda values: {**values, "speed": 5},
}


@pytest.mark.parametrize(
    ("version", "data"),
    [(1, '{"what":"a,b"}'), (2, '{"parts":["a","b"]}'), (3, '{"parts":["a","b"],"speed":5}')],
)
def test_an_event_of_an_older_version_is_brought_to_the_present_one(version: int, data: str) -> None:
    assert Codec([Moved], UPCASTERS).decode("Moved", version, data) == Moved(("a", "b"), 5)


def test_an_event_is_written_in_the_present_version() -> None:
    codec = Codec([Moved], UPCASTERS)
    assert codec.encode(Moved(("a",), 1))[1] == 3
    assert codec.decode(*codec.encode(Moved(("a",), 1))) == Moved(("a",), 1)


def test_an_unknown_event_is_not_dropped() -> None:
    with pytest.raises(UnsupportedEvent, match="event JobTeleported of version 1 was written by a newer Skyclaw"):
        CODEC.decode("JobTeleported", 1, "{}")


@pytest.mark.parametrize("cls", ALL)
def test_an_event_of_a_newer_version_is_not_guessed_at(cls: type[Event]) -> None:
    with pytest.raises(UnsupportedEvent, match=f"{cls.__name__} of version {cls.version + 1}"):
        CODEC.decode(cls.__name__, cls.version + 1, "{}")


def test_a_codec_knows_only_what_it_was_given() -> None:
    name, version, data = CODEC.encode(OwnershipTaken("n", "founded"))
    with pytest.raises(UnsupportedEvent):
        Codec([Moved], UPCASTERS).decode(name, version, data)


def test_fields_that_were_added_with_a_default_may_be_missing_in_the_text() -> None:
    text = '{"job_id":"j1","kind":"shell","payload":"{}","required":["gpu"]}'
    assert CODEC.decode("JobEnqueued", 1, text) == JobEnqueued("j1", "shell", "{}", ("gpu",))


def test_a_payload_is_kept_to_the_letter() -> None:
    payload = '{ "kind":"shell",\t"é": "\\u0000\\ud83d", "n": 1.0 }'
    event = JobEnqueued("j1", "shell", payload, ())
    name, version, data = CODEC.encode(event)
    assert orjson.loads(data)["payload"] == payload
    assert CODEC.decode(name, version, data) == event


def test_an_event_belongs_to_the_stream_of_its_job_its_host_or_the_log() -> None:
    asked = JobEnqueued("j1", "shell", "{}", ())
    assert stream_of(asked) == "j1"
    assert stream_of(JobReleased("j2", "x")) == "j2"
    assert stream_of(JobRevived("j3", asked, 1, 1, 1, 1)) == "j3"
    assert stream_of(RequestAnswered("/x", "k", "d", ("j1",))) == "log"


def test_a_job_stays_in_its_own_stream_when_a_host_is_named_too() -> None:
    assert stream_of(JobLeaseExpired("j1", "h1")) == "j1"
    assert stream_of(HostForgotten("h1")) == "h1"

"""Messages survive the wire as they are, and nothing that is not quite a message becomes one."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyclaw.cluster import wire
from skyclaw.cluster.messages import Ack, Append, Ask, Campaign, Copy, Grant, Message, News, Pull, Pulled, Shape
from skyclaw.errors import Invalid
from skyclaw.records import Epoch, Record, sealed

A_LOG = "0a1b2c3d"
AN_EPOCH = Epoch(0, 3, "node-a#0badcafe")
RECORD = sealed(bytes(32), Record(A_LOG, 1, str(AN_EPOCH), "job_1", "JobEnqueued", 1, 1_700_000_000_000, '{"x":"\\u0000ü"}'))

logs = st.text("0123456789abcdef", min_size=8, max_size=8)
numbers = st.integers(0, wire.LARGEST)
words = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40)
epochs = st.builds(Epoch, numbers, numbers, st.one_of(st.just(""), words))
hashes = st.binary(min_size=32, max_size=32)
shapes = st.builds(Shape, numbers, st.lists(st.tuples(numbers, epochs), max_size=4).map(tuple))


def records(log: str) -> st.SearchStrategy[tuple[Record, ...]]:
    """Records of one log; their data is any text that UTF-8 has a place for."""
    data = st.text(st.characters(exclude_categories=["Cs"]))
    return st.lists(st.builds(Record, st.just(log), numbers, words, words, words, numbers, numbers, data, hashes), max_size=4).map(tuple)


def news(log: str) -> st.SearchStrategy[News]:
    return st.builds(News, st.just(log), epochs, numbers, hashes, records(log), numbers)


def appends(log: str) -> st.SearchStrategy[Append]:
    return st.builds(Append, st.just(log), epochs, numbers, epochs, records(log), numbers)


messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Ask, logs, st.none() | epochs, st.tuples(epochs, numbers)),
    st.builds(Grant, logs, st.none() | epochs, st.booleans(), epochs),
    logs.flatmap(appends),
    st.builds(Ack, logs, epochs, st.booleans(), numbers, epochs, st.none() | shapes),
    st.builds(Campaign, logs, epochs),
    st.builds(Pull, st.lists(st.builds(Copy, logs, shapes, numbers, epochs), max_size=4).map(tuple)),
    st.builds(Pulled, st.lists(logs.flatmap(news), max_size=4).map(tuple)),
)

ONE_OF_EACH: list[Message] = [
    Ask(A_LOG, None, (AN_EPOCH, 7)),
    Grant(A_LOG, AN_EPOCH, True, AN_EPOCH),
    Append(A_LOG, AN_EPOCH, 0, Epoch(0, 0, ""), (RECORD,), 1),
    Ack(A_LOG, AN_EPOCH, False, 4, AN_EPOCH, Shape(9, ((1, AN_EPOCH),))),
    Campaign(A_LOG, AN_EPOCH),
    Pull((Copy(A_LOG, Shape(1, ((1, AN_EPOCH),)), 1, AN_EPOCH),)),
    Pulled((News(A_LOG, AN_EPOCH, 0, bytes(32), (RECORD,), 1),)),
]


def sent(batch: list[Message]) -> Any:
    return orjson.loads(orjson.dumps(wire.pack(batch)))


@given(st.lists(messages, max_size=5))
def test_what_was_sent_is_what_arrives(batch: list[Message]) -> None:
    assert wire.unpack(sent(batch)) == batch


def test_a_record_arrives_with_a_hash_that_still_holds() -> None:
    (arrived,) = wire.unpack(sent([ONE_OF_EACH[2]]))
    assert isinstance(arrived, Append)
    assert sealed(bytes(32), arrived.records[0]) == arrived.records[0]


def damaged(value: Any) -> list[Any]:
    """The same value with one thing in it changed, lost or added, in every place there is."""
    if not isinstance(value, list):
        others: list[Any] = [None, True, -1, 1.5, "", "\ud800", [], {}, 2**60]
        return [other for other in others if other != value or type(other) is not type(value)]
    inside = [[*value[:at], other, *value[at + 1 :]] for at, item in enumerate(value) for other in damaged(item)]
    return [*inside, *([value[:-1]] if value else []), [*value, 0], {}]


def reads(value: Any) -> bool:
    """Whether it is read; whatever else happens to it but BadMessage fails the test."""
    try:
        wire.unpack(value)
    except wire.BadMessage:
        return False
    return True


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda message: type(message).__name__)
def test_a_value_of_another_shape_is_refused_and_nothing_worse_happens(message: Message) -> None:
    (packed,) = sent([message])
    changed = damaged(packed)
    passed = [value for value in changed if reads([value]) and wire.unpack([value]) == [message]]
    assert len(changed) > 20
    assert passed == []


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        "Ask",
        ["Ask", A_LOG],
        [["Unknown"]],
        [[]],
        [[["Ask"]]],
        [["Campaign", A_LOG, [0, True, "n"]]],
        [["Campaign", A_LOG, [0, 1.0, "n"]]],
        [["Campaign", A_LOG, [0, 2**53 + 1, "n"]]],
        [["Campaign", A_LOG, [0, -1, "n"]]],
        [["Campaign", A_LOG, [0, 1, "n\n"]]],
        [["Campaign", A_LOG, [0, 1, "\ud800"]]],
        [["Campaign", A_LOG.upper(), [0, 1, "n"]]],
        [["Campaign", f"{A_LOG}\n", [0, 1, "n"]]],
        [["Append", A_LOG, [0, 1, "n"], 0, [0, 0, ""], [[1, "0.1.n", "s", "T", 1, 1, "\ud800", "00" * 32]], 0]],
        [["Append", A_LOG, [0, 1, "n"], 0, [0, 0, ""], [[1, "0.1.n", "s", "T", 1, 1, "{}", "00" * 31]], 0]],
        [["Campaign", A_LOG, [0, 1, "n"]]] * (wire.MAX_MESSAGES + 1),
    ],
)
def test_what_is_no_message_is_the_senders_fault(value: Any) -> None:
    with pytest.raises(Invalid):
        wire.unpack(value)

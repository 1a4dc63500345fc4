"""Messages on their way to a peer: together, in order, and never in the way of anybody else."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from skyclaw.cluster import wire
from skyclaw.cluster.messages import Ack, Append, Campaign, Message, Pulled
from skyclaw.errors import ServerRefused, Unavailable
from skyclaw.outside import peer_link, peer_outbox
from skyclaw.outside.peer_addresses import Pinned, parse
from skyclaw.outside.peer_channel import Channel, tls_context
from skyclaw.outside.peer_link import Hearing, PeerLink
from skyclaw.outside.peer_outbox import Outbox
from skyclaw.records import Epoch, Record
from tests.support.scripted_server import Asked, Hangup, Reply, ScriptedServer, serving

LOG, OTHER_LOG, OWN, PEER = "0a1b2c3d", "ffffffff", "node-a#00000001", "node-b#00000002"
EPOCH, LATER = Epoch(0, 1, OWN), Epoch(0, 2, OWN)
TLS = tls_context(None)
PATIENCE_S = 30.0


def record(seq: int, data: str = "{}", epoch: Epoch = EPOCH) -> Record:
    return Record(LOG, seq, str(epoch), "log", "X", 1, 1, data, bytes(32))


def append(*records: Record, prev: int = 0, commit: int = 0) -> Append:
    return Append(LOG, EPOCH, prev, EPOCH, records, commit)


def campaign(number: int) -> Campaign:
    return Campaign(LOG, Epoch(0, number, OWN))


class Heard:
    """What a link has told; `until` waits for something of it."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, list[Message]]] = []
        self.undelivered: list[str] = []
        self.refused: list[ServerRefused] = []
        self._came = threading.Condition()

    @property
    def hearing(self) -> Hearing:
        return Hearing(
            lambda node, messages: self._note(self.messages, (node, list(messages))),
            lambda node: self._note(self.undelivered, node),
            lambda _, refusal: self._note(self.refused, refusal),
        )

    def until(self, condition: Callable[[], bool]) -> None:
        with self._came:
            assert self._came.wait_for(condition, PATIENCE_S), "waited in vain"

    def _note(self, where: list[Any], what: Any) -> None:
        with self._came:
            where.append(what)
            self._came.notify_all()


class Other:
    """The coordinator at the other end: hands what comes to `answer` and sends what that returns."""

    def __init__(self, answer: Callable[[list[Message]], Sequence[Message]] = lambda _: ()) -> None:
        self.batches: list[list[Message]] = []
        self.answer = answer
        self.came = threading.Condition()

    def __call__(self, asked: Asked) -> Reply:
        said = asked.json
        assert (asked.path, said["from"], said["to"]) == (peer_link.PATH, OWN, PEER)
        batch = wire.unpack(said["messages"])
        with self.came:
            self.batches.append(batch)
            self.came.notify_all()
        return Reply(say={"from": PEER, "to": OWN, "messages": wire.pack(self.answer(batch))})

    def until(self, condition: Callable[[], bool]) -> None:
        with self.came:
            assert self.came.wait_for(condition, PATIENCE_S), "waited in vain"


def after(event: threading.Event) -> Callable[[list[Message]], Sequence[Message]]:
    """Answers nothing, and not before the event."""

    def answer(_: list[Message]) -> Sequence[Message]:
        event.wait(PATIENCE_S)
        return ()

    return answer


def link_to(server: ScriptedServer | str, heard: Heard, answer_s: float = 20.0) -> PeerLink:
    url = server if isinstance(server, str) else server.url
    return PeerLink(OWN, PEER, Channel(Pinned(parse(url), ("127.0.0.1",)), "token", TLS), heard.hearing, answer_s)


def test_messages_arrive_and_what_is_answered_comes_back() -> None:
    ack, heard = Ack(LOG, EPOCH, True, 1, EPOCH), Heard()
    other = Other(lambda _: [ack])
    with serving(other) as server:
        link = link_to(server, heard)
        link.start()
        link.send([append(record(1)), campaign(1)])
        heard.until(lambda: bool(heard.messages))
        link.stop()
    assert heard.messages == [(PEER, [ack])]
    assert other.batches == [[append(record(1)), campaign(1)]]


def test_one_request_is_under_way_at_a_time_and_the_next_takes_all_that_came_meanwhile() -> None:
    go_on, heard = threading.Event(), Heard()
    other = Other(lambda _: [campaign(9)] if go_on.wait(PATIENCE_S) else [])
    with serving(other) as server:
        link = link_to(server, heard)
        link.start()
        link.send([campaign(0)])
        other.until(lambda: len(other.batches) == 1)
        for number in range(1, 50):
            link.send([campaign(number)])
        go_on.set()
        heard.until(lambda: len(heard.messages) == 2)
        link.stop()
        assert {asked.connection for asked in server.asked} == {1}
    assert other.batches == [[campaign(0)], [campaign(number) for number in range(1, 50)]]


def test_a_slow_peer_delays_neither_the_caller_nor_another_peer() -> None:
    over, heard, quick = threading.Event(), Heard(), Other()
    slow = Other(after(over))
    with serving(slow) as slow_server, serving(quick) as server:
        links = [link_to(slow_server, heard, answer_s=60.0), link_to(server, heard)]
        for link in links:
            link.start()
        links[0].send([campaign(1)])
        slow.until(lambda: len(slow.batches) == 1)
        links[0].send([campaign(2)])
        links[1].send([campaign(3)])
        quick.until(lambda: len(quick.batches) == 1)
        before = time.monotonic()
        links[0].stop()
        assert time.monotonic() - before < PATIENCE_S  # bounded, though the answer never came
        links[1].stop()
        over.set()
    assert heard.undelivered == []


def test_a_peer_that_does_not_answer_in_time_has_got_nothing_as_far_as_we_know() -> None:
    over, heard = threading.Event(), Heard()
    with serving(Other(after(over))) as server:
        link = link_to(server, heard, answer_s=0.1)
        link.start()
        link.send([campaign(1)])
        heard.until(lambda: heard.undelivered == [PEER])
        over.set()
        link.stop()


def test_after_a_failure_what_was_queued_is_gone_and_what_comes_later_is_delivered() -> None:
    heard, arrived, go_on, other = Heard(), threading.Event(), threading.Event(), Other()

    def script(asked: Asked) -> Reply:
        if not arrived.is_set():
            arrived.set()
            go_on.wait(PATIENCE_S)
        if not heard.undelivered:
            raise Hangup
        return other(asked)

    with serving(script) as server:
        link = link_to(server, heard)
        link.start()
        link.send([campaign(1)])
        assert arrived.wait(PATIENCE_S)
        link.send([campaign(2)])
        go_on.set()
        heard.until(lambda: heard.undelivered == [PEER])
        link.send([campaign(3)])
        other.until(lambda: bool(other.batches))
        link.stop()
    assert other.batches == [[campaign(3)]]


def test_a_peer_that_was_heard_of_is_not_waited_for_any_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda *_: 10_000.0)  # a pause of many minutes
    heard, other = Heard(), Other()
    with serving(lambda _: Reply()) as taken:
        port = int(taken.url.rpartition(":")[2])
    link = link_to(taken.url, heard)
    link.start()
    link.send([campaign(1)])
    heard.until(lambda: len(heard.undelivered) == 1)
    with serving(other, port):
        link.send([campaign(2)])
        link.wake()
        other.until(lambda: bool(other.batches))
        link.stop()
    assert other.batches == [[campaign(2)]]


def test_a_peer_that_comes_back_is_found_again() -> None:
    heard, other = Heard(), Other()
    with serving(lambda _: Reply()) as taken:
        port = int(taken.url.rpartition(":")[2])
    link = link_to(taken.url, heard)
    link.start()
    link.send([campaign(1)])
    heard.until(lambda: len(heard.undelivered) == 1)
    with serving(other, port):
        link.send([campaign(2)])
        other.until(lambda: bool(other.batches))
        link.stop()


def test_whoever_answers_for_another_node_is_told_of() -> None:
    heard = Heard()
    refusal = {"error": "this is another node", "code": "wrong_node", "details": {"node": "node-c#3"}}
    with serving(lambda _: Reply(409, refusal)) as server:
        link = link_to(server, heard)
        link.start()
        link.send([campaign(1)])
        heard.until(lambda: bool(heard.refused))
        link.stop()
    assert (heard.refused[0].code, heard.refused[0].details["node"]) == ("wrong_node", "node-c#3")
    assert heard.undelivered[:1] == [PEER]


@pytest.mark.parametrize("failure", [Unavailable(), ZeroDivisionError()])
def test_an_answer_that_cannot_be_heard_now_is_lost_and_the_link_goes_on(failure: Exception) -> None:
    heard, other = Heard(), Other(lambda _: [campaign(9)])

    def deaf(_node: str, _messages: Sequence[Message]) -> None:
        raise failure

    with serving(other) as server:
        channel = Channel(Pinned(parse(server.url), ("127.0.0.1",)), "token", TLS)
        link = PeerLink(OWN, PEER, channel, replace(heard.hearing, on_messages=deaf))
        link.start()
        for number in (1, 2):
            link.send([campaign(number)])
            other.until(lambda: other.batches[-1:] == [[campaign(number)]])  # noqa: B023  # it is called at once
        link.stop()
    assert heard.undelivered == []


@pytest.mark.parametrize(
    "said",
    [
        {"from": "node-c#3", "to": OWN, "messages": []},
        {"from": PEER, "to": "node-c#3", "messages": []},
        {"from": PEER, "to": OWN, "messages": [["Campaign"]]},
        {"from": PEER, "to": OWN},
        {},
    ],
)
def test_an_answer_that_is_not_the_peers_counts_for_nothing(said: dict[str, Any]) -> None:
    heard = Heard()
    with serving(lambda _: Reply(say=said)) as server:
        link = link_to(server, heard)
        link.start()
        link.send([campaign(1)])
        heard.until(lambda: bool(heard.undelivered))
        link.stop()
    assert heard.messages == []


def test_what_is_larger_as_json_than_it_was_thought_goes_in_several_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_link, "BODY_BYTES", 2_000)
    heard, other = Heard(), Other()
    with serving(other) as server:
        link = link_to(server, heard)
        link.send([append(record(seq, '{"x":"' + "y" * 900 + '"}')) for seq in range(1, 5)])
        link.start()
        other.until(lambda: len(other.batches) == 4)
        link.stop()
    assert [batch[0].records[0].seq for batch in other.batches if isinstance(batch[0], Append)] == [1, 2, 3, 4]


class TestOutbox:
    """What waits."""

    def test_a_heartbeat_takes_the_place_of_the_one_before(self) -> None:
        outbox = Outbox()
        other = Append(OTHER_LOG, EPOCH, 0, EPOCH, (), 0)
        newer = Append(LOG, LATER, 0, EPOCH, (), 0)
        outbox.put([append(commit=1), other, campaign(1), newer])
        outbox.put([append(prev=2, commit=2)])
        assert outbox.take() == [other, campaign(1), newer, append(prev=2, commit=2)]
        assert (outbox.take(), len(outbox)) == ([], 0)

    def test_records_are_never_taken_for_a_heartbeat(self) -> None:
        outbox = Outbox()
        outbox.put([append(record(1)), append(record(1)), append()])
        assert outbox.take() == [append(record(1)), append(record(1)), append()]

    def test_when_it_is_full_the_oldest_go(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(peer_outbox, "MAX_MESSAGES", 3)
        outbox = Outbox()
        outbox.put(campaign(number) for number in range(10))
        assert outbox.take() == [campaign(7), campaign(8), campaign(9)]

    def test_or_when_it_holds_too_much(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(peer_outbox, "MAX_BYTES", 5_000)
        outbox = Outbox()
        outbox.put([append(record(seq, "x" * 2_000)) for seq in range(1, 5)])
        outbox.put([append(record(5, "x" * 9_000))])
        assert [message.records[0].seq for message in outbox.take() if isinstance(message, Append)] == [5]
        outbox.put([append(record(6, "x" * 2_000)), append(record(7, "x" * 2_000))])
        assert len(outbox.take()) == 2  # what was taken or dropped counts no more

    def test_a_batch_has_at_most_a_thousand_records(self) -> None:
        outbox = Outbox()
        records = [record(seq) for seq in range(1, 2_501)]
        outbox.put([append(*records[:600]), append(*records[600:1_200]), campaign(1)])
        assert [len(batch) for batch in (outbox.take(), outbox.take(), outbox.take())] == [1, 2, 0]

    def test_an_append_that_is_too_large_is_cut_into_appends_that_follow_each_other(self) -> None:
        outbox = Outbox()
        records = [record(seq, epoch=EPOCH if seq <= 1_000 else LATER) for seq in range(1, 2_501)]
        outbox.put([append(*records, commit=7), campaign(1)])
        parts = [outbox.take() for _ in range(3)]
        assert parts[0] == [append(*records[:1_000], commit=7)]
        assert parts[1] == [Append(LOG, EPOCH, 1_000, EPOCH, tuple(records[1_000:2_000]), 7)]
        assert parts[2] == [Append(LOG, EPOCH, 2_000, LATER, tuple(records[2_000:]), 7), campaign(1)]

    def test_a_batch_has_at_most_four_mebibytes_unless_one_record_is_larger(self) -> None:
        outbox, large = Outbox(), "ü" * 1_100_000
        outbox.put([append(record(1, large), record(2, large), record(3, large * 3)), Pulled(())])
        sizes = [[len(message.records) for message in outbox.take() if isinstance(message, Append)] for _ in range(4)]
        assert sizes == [[1], [1], [1], []]

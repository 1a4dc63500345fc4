"""Whose messages count where coordinators have a token of their own."""

import random

import pytest

from actors.stored_copies import StoredPast, durable_copy
from actors.trusting import anybody, trusted
from skyclaw.cluster.messages import Append, Ask, Grant, Message, News, Pull, Pulled
from skyclaw.cluster.replication import Node, Pace
from skyclaw.records import GENESIS_EPOCH, Epoch
from skyclaw.store.memory import MemoryEventLog

EPOCH = Epoch(1, 1, "stranger")
UNKNOWN = "ffffffff"


@pytest.fixture
def node() -> Node:
    """Alone in its log."""
    store = MemoryEventLog("own")
    node = Node(store.node, [durable_copy(store, store.log, 0)], StoredPast(store), Pace(), random.random)
    node.found(store.log, 0)
    return node


def from_stranger(node: Node, message: Message) -> list[Message]:
    return list(trusted([message], "stranger", node, lambda _: False))


def changing(log: str) -> list[Message]:
    return [Append(log, EPOCH, 0, GENESIS_EPOCH, (), 0), Ask(log, EPOCH, (EPOCH, 9)), Grant(log, EPOCH, True, EPOCH)]


def test_a_node_that_neither_the_log_nor_the_operator_names_changes_nothing(node: Node) -> None:
    (log,) = node.logs
    assert [from_stranger(node, message) for message in changing(log)] == [[], [], []]
    kept, dropped = News(UNKNOWN, EPOCH, 0, bytes(32), (), 0), News(log, EPOCH, 0, bytes(32), (), 0)
    assert from_stranger(node, Pulled((dropped, kept))) == [Pulled((kept,))]


def test_of_an_unknown_log_anybody_may_tell_and_everybody_may_ask(node: Node) -> None:
    for message in (*changing(UNKNOWN), Pull(())):
        assert from_stranger(node, message) == [message]


def test_whom_the_log_or_the_operator_names_is_heard(node: Node) -> None:
    (log,) = node.logs
    for message in changing(log):
        assert list(trusted([message], node.name, node, lambda _: False)) == [message]
        assert list(trusted([message], "stranger", node, lambda name: name == "stranger")) == [message]
        assert list(trusted([message], "stranger", node, anybody)) == [message]

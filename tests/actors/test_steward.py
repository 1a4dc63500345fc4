"""What the Steward asks for, round by round."""

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest

from actors.log_views import LogSeen, VoterSeen
from actors.replicator_messages import Reconfigure, Transfer
from actors.steward import SETTLED_BEATS, Neighbour, Steward
from skyclaw.cluster.configuration import Configuration
from skyclaw.cluster.membership import Policy

BEAT_MS = 100
LOG = LogSeen("aaaaaaaa", "a", "0.1.a", "a", 50, 50, ("a",), 1, owned=True, in_contact=True, settled=True, gained_at=0)


@dataclass
class Network:
    leaving: bool = False
    cannot_write: bool = False
    stuck: dict[str, str] = field(default_factory=dict)
    known: list[Neighbour] = field(default_factory=list)
    departed: int = 0

    def neighbours(self) -> list[Neighbour]:
        return self.known

    def depart(self) -> None:
        self.departed += 1


class Desk:
    """A Steward of node a, whose clock and world a test moves."""

    def __init__(self, *logs: LogSeen, witness: bool = False) -> None:
        self.logs, self.network, self.now = list(logs), Network(), 10_000
        self.orders: list[object] = []
        policy = Policy(None, fresh_ms=350)
        told = self.orders.append
        self.steward = Steward("a", policy, BEAT_MS, lambda: self.logs, self.network, told, lambda: self.now, witness)

    def round(self) -> list[object]:
        self.orders.clear()
        self.steward.run_once()
        return list(self.orders)


def near(node: str, end: int = 50) -> Neighbour:
    return Neighbour(node, 10, {LOG.log: end})


def voting(*nodes: str, end: int = 50, heard_at: int = 9_950) -> LogSeen:
    """The log with these further voters, as its owner hears of them."""
    return replace(LOG, voters=("a", *nodes), copies=2, followers=tuple(VoterSeen(node, end, heard_at) for node in nodes))


def test_two_level_neighbours_become_voters() -> None:
    desk = Desk(LOG)
    desk.network.known = [near("b"), near("c")]
    assert desk.round() == [Reconfigure(LOG.log, Configuration(frozenset("abc"), 2))]


@pytest.mark.parametrize("obstacle", [{"owned": False}, {"settled": False}, {"in_contact": False}])
def test_nothing_is_asked_for_a_log_that_is_not_settled_here(obstacle: dict[str, bool]) -> None:
    desk = Desk(replace(LOG, **obstacle))
    desk.network.known = [near("b"), near("c")]
    assert desk.round() == []


def test_a_log_goes_back_to_its_founder_once_that_is_level_and_time_has_passed() -> None:
    desk = Desk(replace(voting("b", "c"), founder="b", gained_at=9_900))
    desk.network.known = [near("b"), near("c")]
    assert desk.round() == []
    desk.now += SETTLED_BEATS * BEAT_MS
    desk.logs = [replace(voting("b", "c", heard_at=desk.now), founder="b", gained_at=9_900)]
    assert desk.round() == [Transfer(LOG.log, "b")]


def test_a_log_that_nobody_takes_is_offered_ever_more_seldom() -> None:
    desk = Desk(replace(voting("b", "c"), founder="b"))
    desk.network.known = [near("b"), near("c")]
    offers = []
    for _ in range(400):
        desk.now += BEAT_MS
        desk.logs = [replace(voting("b", "c", heard_at=desk.now), founder="b")]
        offers += [desk.now] * len(desk.round())
    pauses = [later - earlier for earlier, later in pairwise(offers)]
    assert pauses[:5] == [500, 1000, 2000, 4000, 8000]


def test_a_silent_founder_gets_nothing_and_one_that_leaves_neither() -> None:
    desk = Desk(replace(voting("b", "c", heard_at=1_000), founder="b"))
    desk.network.known = [near("b"), near("c")]
    assert desk.round() == []
    desk.logs = [replace(voting("b", "c"), founder="b")]
    desk.network.known = [replace(near("b"), leaving=True), near("c")]
    assert desk.round() == [Reconfigure(LOG.log, Configuration(frozenset("ac"), 2))]


@pytest.mark.parametrize("trouble", [{"leaving": True}, {"cannot_write": True}, {"stuck": {LOG.log: "newer"}}])
def test_whoever_leaves_cannot_write_or_does_not_understand_a_log_gives_it_to_a_level_voter(trouble: dict[str, Any]) -> None:
    desk = Desk(voting("b", "c"))
    desk.network = Network(known=[near("b"), near("c")], **trouble)
    desk.steward._network = desk.network
    assert desk.round() == [Transfer(LOG.log, "b")]


def test_a_witness_owns_nothing_for_long() -> None:
    desk = Desk(replace(voting("b", "c"), founder="z"), witness=True)
    desk.network.known = [near("b"), near("c")]
    assert desk.round() == [Transfer(LOG.log, "b")]


def test_whoever_leaves_says_goodbye_when_nothing_holds_it() -> None:
    desk = Desk(voting("b", "c"))
    desk.network.known = [near("b"), near("c")]
    desk.network.leaving = True
    desk.round()
    assert desk.network.departed == 0
    desk.logs = [replace(LOG, owner="b", voters=("b", "c"), owned=False)]
    assert desk.round() == []
    assert desk.network.departed == 1


def with_lost_voter(lost: str, now: int) -> LogSeen:
    """The log with a voter that was never heard of, beside one that is well."""
    return replace(voting("b", lost), followers=(VoterSeen("b", 50, now - 10), VoterSeen(lost, 0, None)))


def test_a_voter_that_nobody_knows_is_replaced_after_a_minute() -> None:
    desk = Desk(with_lost_voter("lost#1", 10_000))
    desk.network.known = [near("b"), near("d#1")]
    assert desk.round() == []
    desk.now = 61_000
    desk.logs = [with_lost_voter("lost#1", desk.now)]
    assert desk.round() == [Reconfigure(LOG.log, Configuration(frozenset({"a", "b", "d#1"}), 2))]


@pytest.mark.parametrize(("name", "replaced"), [("bob", True), ("node", False)])
def test_a_silent_voter_is_replaced_by_its_next_self_at_once_if_it_has_a_name(name: str, replaced: bool) -> None:
    desk = Desk(with_lost_voter(f"{name}#1", 10_000))
    desk.network.known = [near("b"), near(f"{name}#2")]
    voters = Configuration(frozenset({"a", "b", f"{name}#2"}), 2)
    assert desk.round() == ([Reconfigure(LOG.log, voters)] if replaced else [])


def test_two_machines_of_one_name_that_are_both_heard_of_vote_both() -> None:
    desk = Desk(voting("bob#1", "bob#2"))
    desk.network.known = [near("bob#1"), near("bob#2")]
    assert desk.round() == []

"""Who should vote in a log."""

import pytest

from skyclaw.cluster.configuration import Configuration
from skyclaw.cluster.membership import REPLACE_AFTER_MS, Member, Policy, wanted

END = 5000
OPEN, TWO, THREE = Policy(), Policy(copies=2), Policy(copies=3)


def conf(voters: str, copies: int) -> Configuration:
    return Configuration(frozenset(voters), copies)


def level(node: str) -> Member:
    return Member(node, END, 0)


def behind(node: str) -> Member:
    return Member(node, 0, 0)


def silent(node: str, ms: float = REPLACE_AFTER_MS + 1) -> Member:
    return Member(node, END, ms)


@pytest.mark.parametrize(
    ("present", "members", "policy", "expected"),
    [
        pytest.param(conf("a", 1), [], OPEN, conf("a", 1), id="alone"),
        pytest.param(conf("a", 1), [], TWO, conf("a", 1), id="alone, and nobody to help"),
        pytest.param(conf("a", 1), [level("b")], OPEN, conf("a", 1), id="two are one copy unless somebody asks for more"),
        pytest.param(conf("a", 1), [level("b")], TWO, conf("ab", 2), id="two, as the operator said"),
        pytest.param(conf("a", 1), [level("b"), behind("c")], OPEN, conf("a", 1), id="one that lags is not counted"),
        pytest.param(conf("a", 1), [level("b"), level("c")], OPEN, conf("abc", 2), id="three that are level"),
        pytest.param(conf("ab", 2), [level("b"), level("c")], TWO, conf("abc", 2), id="a third joins two"),
        pytest.param(conf("abc", 2), [level("b"), level("c"), level("d")], OPEN, conf("abc", 2), id="a fourth need not vote"),
        pytest.param(conf("a", 1), [level(x) for x in "bcde"], THREE, conf("abcde", 3), id="three copies have five voters"),
        pytest.param(
            conf("abc", 2), [level("b"), silent("c")], OPEN, conf("abc", 2), id="a silent voter stays while nobody can replace it"
        ),
        pytest.param(conf("abc", 2), [level("b"), silent("c"), level("d")], OPEN, conf("abd", 2), id="a silent voter is replaced"),
        pytest.param(conf("abc", 2), [level("b"), silent("c", 5000), level("d")], OPEN, conf("abc", 2), id="not before its time"),
        pytest.param(conf("abc", 2), [level("b"), silent("c"), behind("d")], OPEN, conf("abc", 2), id="not by one that lags"),
        pytest.param(
            conf("abc", 2), [silent("b"), silent("c"), level("d")], OPEN, conf("abd", 2), id="one loss is made good, the other stays"
        ),
        pytest.param(conf("abc", 2), [level("b")], Policy(copies=1), conf("abc", 2), id="never lowered"),
    ],
)
def test_the_wanted_voters(present: Configuration, members: list[Member], policy: Policy, expected: Configuration) -> None:
    assert wanted(present, "a", END, members, policy) == expected


def test_a_voter_whose_address_belongs_to_a_newer_node_is_replaced_at_once() -> None:
    lost = Member("b#1", END, 1, replaced=True)
    present = Configuration(frozenset({"a", "b#1", "c"}), 2)
    assert wanted(present, "a", END, [lost, level("b#2"), level("c")], OPEN) == Configuration(frozenset({"a", "b#2", "c"}), 2)


def test_a_voter_that_leaves_goes_even_when_nobody_takes_its_place() -> None:
    leaving = Member("b", END, 0, leaving=True)
    assert wanted(conf("abc", 2), "a", END, [leaving, level("c")], OPEN) == conf("ac", 2)
    assert wanted(conf("abc", 2), "a", END, [leaving, level("c"), level("d")], OPEN) == conf("acd", 2)


def test_the_last_two_part_and_the_one_that_stays_goes_on_alone() -> None:
    leaving = Member("b", END, 0, leaving=True)
    assert wanted(conf("ab", 2), "a", END, [leaving], TWO) == conf("a", 1)


def test_other_labels_come_first() -> None:
    present = Configuration(frozenset({"home#1"}), 1)
    members = [level("home#2"), level("office#1"), level("shed#1")]
    assert wanted(present, "home#1", END, members, OPEN).voters == {"home#1", "office#1", "shed#1"}


def test_whoever_leaves_or_is_replaced_does_not_count_as_level() -> None:
    going = Member("b", END, 0, leaving=True)
    gone = Member("c", END, 0, replaced=True)
    assert wanted(conf("a", 1), "a", END, [going, gone], OPEN) == conf("a", 1)


def test_an_owner_that_leaves_and_votes_alone_gives_its_place_to_a_level_node() -> None:
    assert wanted(conf("a", 1), "a", END, [behind("b"), level("c")], OPEN, own_leaves=True) == conf("c", 1)
    assert wanted(conf("a", 1), "a", END, [behind("b")], OPEN, own_leaves=True) == conf("a", 1)

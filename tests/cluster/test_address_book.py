"""Who gets into the book, who is asked when, and who falls out of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyclaw.cluster import address_book as bounds
from skyclaw.cluster.address_book import AddressBook, Peer
from skyclaw.cluster.peer_status import PeerStatus, Told, pack, unpack
from skyclaw.cluster.wire import BadMessage

OWN, OWN_URL = "own#00000001", "http://own:1"
B, B_URL = "b#00000001", "http://b:1"
SENDER = "192.168.1.7"
MINUTE = bounds.NEW_WITHIN_MS


def book(*configured: str) -> AddressBook:
    return AddressBook(OWN, OWN_URL, configured, 0)


def status(node: str = B, number: int = 1, url: str | None = B_URL, told: tuple[Told, ...] = ()) -> PeerStatus:
    return PeerStatus(node, node.partition("#")[0], "0a1b2c3d", url, number, True, False, {"0a1b2c3d": number}, {}, told)


def admitted(number: int = 1) -> AddressBook:
    """A book in which b is a peer that was heard of at 0."""
    one = book()
    one.prove(B_URL, B, "b", 0)
    one.hear(status(number=number), 0)
    return one


class TestHints:
    """Addresses that are yet to be proved."""

    def test_configured_ones_are_there_from_the_beginning_but_for_the_own(self) -> None:
        one = book(B_URL, OWN_URL)
        assert [(hint.url, hint.configured, hint.due) for hint in one.hints.values()] == [(B_URL, True, 0)]

    def test_five_new_ones_a_minute_are_taken(self) -> None:
        one = book()
        taken = [one.suggest(f"http://{number}:1", f"s{number}", 0) for number in range(7)]
        assert taken == [True] * 5 + [False] * 2
        assert not one.suggest("http://x:1", "s", MINUTE - 1)
        assert one.suggest("http://x:1", "s", MINUTE)

    def test_configured_ones_do_not_count(self) -> None:
        one = book(*(f"http://configured-{number}:1" for number in range(20)))
        assert all(one.suggest(f"http://{number}:1", f"s{number}", 0) for number in range(5))

    def test_one_source_may_name_eight(self) -> None:
        one = book()
        taken = [one.suggest(f"http://{number}:1", "s", number * MINUTE) for number in range(10)]
        assert taken == [True] * 8 + [False] * 2
        assert one.suggest("http://x:1", "t", 10 * MINUTE)

    def test_what_is_known_is_no_news(self) -> None:
        one = admitted()
        one.suggest("http://c:1", "s", 0)
        assert [one.suggest(url, "s", MINUTE) for url in (OWN_URL, B_URL, "http://c:1")] == [False, False, False]

    def test_each_failure_doubles_the_pause_up_to_a_limit(self) -> None:
        one = book(B_URL)
        one.suggest("http://c:1", "s", 0)
        pauses = []
        for _ in range(20):
            one.fail(B_URL, "silent", 0)
            one.fail("http://c:1", "silent", 0)
            pauses.append((one.hints[B_URL].due, one.hints["http://c:1"].due))
        assert pauses[:3] == [(250, 250), (500, 500), (1_000, 1_000)]
        assert pauses[-1] == (bounds.LONGEST_CONFIGURED_PAUSE_MS, bounds.LONGEST_PAUSE_MS)
        assert one.hints[B_URL].reason == "silent"

    def test_what_nobody_configured_is_tried_for_an_hour(self) -> None:
        one = book(B_URL)
        one.suggest("http://c:1", "s", 0)
        one.forget(bounds.HINT_MS - 1)
        assert set(one.hints) == {B_URL, "http://c:1"}
        one.forget(bounds.HINT_MS)
        assert set(one.hints) == {B_URL}

    def test_whatever_turns_out_to_be_oneself_is_left_alone_from_then_on(self) -> None:
        one = book(B_URL)
        assert one.prove(B_URL, OWN, "own", 0) is None
        assert not one.hints
        assert not one.suggest(B_URL, "s", 0)

    def test_what_became_of_a_named_one_can_be_seen_and_it_is_not_tried_again(self) -> None:
        one = book()
        one.evict([B])
        one.suggest(B_URL, "s", 0)
        one.prove(B_URL, B, "b", 1)
        one.suggest("http://me:1", "s", 0)
        one.prove("http://me:1", OWN, "own", 1)
        assert [(hint.reason, hint.label, hint.due) for hint in one.hints.values()] == [
            ("it was evicted", "b", bounds.HINT_MS),
            ("it is this coordinator itself", "own", bounds.HINT_MS),
        ]
        assert not one.suggest("http://me:1", "s", 2)
        assert one.suggest(B_URL, "s", 2)  # another one may be there by now
        assert one.hints[B_URL].due == 2

    def test_one_that_was_named_by_mistake_is_forgotten(self) -> None:
        one = book(B_URL)
        one.suggest("http://c:1", "s", 0)
        for url in ("http://c:1", B_URL, "http://unknown:1"):
            one.forget_hint(url)
        assert list(one.hints) == [B_URL]


class TestRefusal:
    """Peers that say that we were turned out."""

    def test_they_are_asked_once_a_minute_until_one_hears_us_again(self) -> None:
        one = admitted()
        one.be_refused(B, 100)
        peer = one.peers[B]
        assert (peer.refuses, peer.in_doubt, peer.due) == (True, False, 100 + bounds.REFUSED_PAUSE_MS)
        one.hear(status(number=2), 200)
        assert not one.peers[B].refuses

    def test_a_restart_of_theirs_changes_nothing(self) -> None:
        one = admitted()
        one.be_refused(B, 100)
        one.fail(B_URL, "silent", 200)
        assert one.peers[B].reason == "silent"
        one.prove(B_URL, B, "b", 300)
        assert one.peers[B].refuses

    def test_strangers_do_not_count(self) -> None:
        one = book()
        one.be_refused(B, 0)
        assert not one.peers


class TestPeers:
    """Coordinators that proved themselves."""

    def test_a_proof_makes_a_peer_that_is_asked_at_once(self) -> None:
        one = book(B_URL)
        assert one.prove(B_URL, B, "b", 5) == Peer(B, "b", B_URL, True, 5, 5)
        assert (list(one.peers), list(one.hints)) == ([B], [])

    def test_nobody_else_makes_one(self) -> None:
        one = book()
        assert not one.hear(status(), 0)
        one.learn(Told(B, B_URL, 9), SENDER, 0)
        assert not one.peers

    def test_the_newest_status_counts(self) -> None:
        one = admitted(number=5)
        assert not one.hear(status(number=5), 1)
        assert not one.hear(status(number=4), 1)
        assert one.hear(status(number=6), 2)
        peer = one.peers[B]
        assert (peer.number, peer.heard, peer.positions) == (6, 2, {"0a1b2c3d": 6})

    def test_a_node_whose_clock_was_set_back_is_heard_all_the_same(self) -> None:
        one = admitted(number=10_000_000)
        assert not one.hear(status(number=10_000_000 - bounds.JUMP + 1), 1)
        assert one.hear(status(number=10_000_000 - bounds.JUMP), 1)

    def test_there_are_at_most_sixty_four_but_for_the_configured_ones(self) -> None:
        one = book(B_URL)
        for number in range(bounds.MAX_PEERS + 3):
            one.prove(f"http://{number}:1", f"n#{number}", "n", 0)
        assert len(one.peers) == bounds.MAX_PEERS
        assert one.prove(B_URL, B, "b", 0) is not None

    def test_one_that_was_silent_for_seven_days_is_forgotten(self) -> None:
        one = admitted()
        one.forget(bounds.FORGOTTEN_MS - 1)
        assert list(one.peers) == [B]
        one.forget(bounds.FORGOTTEN_MS)
        assert (list(one.peers), list(one.hints)) == ([], [])

    def test_a_configured_one_stays_a_hint(self) -> None:
        one = book(B_URL)
        one.prove(B_URL, B, "b", 0)
        one.forget(bounds.FORGOTTEN_MS)
        assert (list(one.peers), list(one.hints)) == ([], [B_URL])

    def test_a_failed_attempt_raises_doubt_and_a_proof_ends_it(self) -> None:
        one = admitted()
        one.fail(B_URL, "silent", 100)
        assert (one.peers[B].in_doubt, one.peers[B].due) == (True, 350)
        one.fail(B_URL, "silent", 350)
        assert one.peers[B].due == 850 - 250
        one.prove(B_URL, B, "b", 900)
        assert (one.peers[B].in_doubt, one.peers[B].due) == (False, 900)

    def test_who_proves_itself_again_and_again_but_never_answers_is_asked_less_often(self) -> None:
        one, now, pauses = admitted(), 0, []
        for _ in range(8):
            one.fail(B_URL, "refused", now)
            one.prove(B_URL, B, "b", now)
            pauses.append(one.peers[B].due - now)
            now = one.peers[B].due
        assert pauses[0] == 0
        assert pauses[-1] == bounds.LONGEST_CONFIGURED_PAUSE_MS
        one.hear(status(number=2), now)
        one.fail(B_URL, "silent", now)
        one.prove(B_URL, B, "b", now)
        assert one.peers[B].due == now

    def test_an_evicted_node_never_comes_back(self) -> None:
        one = admitted()
        one.evict([B])
        assert (list(one.peers), one.prove(B_URL, B, "b", 1), one.hear(status(number=9), 1)) == ([], None, False)
        assert not one.learn(Told(B, "http://b:2", 99), SENDER, 1)
        assert not one.peers

    def test_but_its_configured_address_may_be_anothers_later(self) -> None:
        one = book(B_URL)
        one.prove(B_URL, B, "b", 0)
        one.evict([B])
        one.prove(B_URL, B, "b", 1)
        assert "evicted" in one.hints[B_URL].reason
        assert one.prove(B_URL, "b#00000002", "b", 2) is not None

    def test_one_that_left_may_come_back(self) -> None:
        one = admitted()
        one.drop(B)
        assert not one.peers
        assert one.learn(Told(B, B_URL, 1), SENDER, 1)


class TestAddresses:
    """Which node is where."""

    def test_a_higher_number_moves_a_node_once_it_has_proved_itself_there(self) -> None:
        one = admitted(number=5)
        assert not one.learn(Told(B, "http://b:2", 5), SENDER, 1)
        assert one.learn(Told(B, "http://b:2", 6), SENDER, 1)
        assert one.peers[B].url == B_URL
        one.prove("http://b:2", B, "b", 2)
        assert (one.peers[B].url, list(one.hints)) == ("http://b:2", [])

    def test_of_two_nodes_at_one_address_the_one_that_proved_itself_last_is_there(self) -> None:
        one = admitted()
        one.prove(B_URL, "b#00000002", "b", 1)
        assert list(one.peers) == ["b#00000002"]

    def test_a_claim_to_a_peers_address_is_looked_into_when_its_number_is_higher(self) -> None:
        one = admitted(number=5)
        assert not one.learn(Told("c#00000001", B_URL, 5), SENDER, 1)
        assert not one.peers[B].in_doubt
        assert one.learn(Told("c#00000001", B_URL, 6), SENDER, 1)
        assert (one.peers[B].in_doubt, one.peers[B].due) == (True, 1)

    def test_of_two_addresses_of_one_node_the_configured_one_stays_while_it_works(self) -> None:
        one = book(B_URL)
        one.prove(B_URL, B, "b", 0)
        one.prove("http://b:2", B, "b", 1)
        assert one.peers[B].url == B_URL
        one.fail(B_URL, "silent", 2)
        one.prove("http://b:2", B, "b", 3)
        assert one.peers[B].url == "http://b:2"

    def test_others_are_told_of_those_who_were_heard_of_lately(self) -> None:
        one = admitted(number=5)
        assert one.told(bounds.TOLD_MS - 1) == (Told(B, B_URL, 5),)
        assert one.told(bounds.TOLD_MS) == ()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 120), st.integers(0, 9), st.integers(0, 20_000)), max_size=300))
def test_the_book_stays_within_its_bounds_whatever_is_said(said: list[tuple[int, int, int, int]]) -> None:
    one, now = book(B_URL), 0
    for what, who, where, later in said:
        now += later
        node, url = f"n#{who}", f"http://{who}-{where}:1"
        match what:
            case 0:
                one.suggest(url, f"s{where}", now)
            case 1:
                one.learn(Told(node, url, now), f"s{where}", now)
            case 2:
                one.prove(url, node, "n", now)
            case 3:
                one.fail(url, "silent", now)
        assert len(one.peers) <= bounds.MAX_PEERS + 1
        assert len(one.hints) <= bounds.MAX_HINTS + 1
        assert len({peer.url for peer in one.peers.values()}) == len(one.peers)
        assert not {peer.url for peer in one.peers.values()} & set(one.hints)


names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30)
urls = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=30)
numbers = st.integers(0, 2**53)
tags = st.text("0123456789abcdef", min_size=8, max_size=8)
statuses = st.builds(
    PeerStatus,
    names,
    names,
    st.none() | tags,
    st.none() | urls,
    numbers,
    st.booleans(),
    st.booleans(),
    st.dictionaries(tags, numbers, max_size=3),
    st.dictionaries(names, numbers, max_size=3),
    st.lists(st.builds(Told, names, urls, numbers), max_size=3).map(tuple),
    st.booleans(),
)


@given(statuses)
def test_a_status_arrives_as_it_was_sent(sent: PeerStatus) -> None:
    assert unpack(pack(sent)) == sent
    assert unpack({**pack(sent), "of a later version": 1}) == sent


@pytest.mark.parametrize(
    "wrong",
    [
        {"node": ""},
        {"node": "a\n"},
        {"node": None},
        {"label": 1},
        {"log": "0a1b2c3D"},
        {"url": "http://a b"},
        {"url": "x" * 2_049},
        {"number": -1},
        {"number": True},
        {"number": "1"},
        {"ready": 1},
        {"witness": None},
        {"leaving": 0},
        {"positions": []},
        {"positions": {"x": 1}},
        {"positions": {"0a1b2c3d": -1}},
        {"hosts": {"h": 1.5}},
        {"hosts": {str(number): 1 for number in range(4_097)}},
        {"peers": [["a", "http://a"]]},
        {"peers": [["a", "", 1]]},
        {"peers": [["a", "http://a", 1]] * 65},
        {"peers": {}},
    ],
)
def test_a_status_of_another_shape_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadMessage):
        unpack({**pack(status()), **wrong})
    with pytest.raises(BadMessage):
        unpack([])

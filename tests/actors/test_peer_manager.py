"""How coordinators find each other, prove themselves, and stay in touch: with real sockets."""

import contextlib
import http.client
import json
import logging
import resource
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.peers import Came, NoDiscovery, NoRoom, NotWaiting, OwnAddress, Unannounced
from skyclaw.cluster.address_book import MAX_HINTS, MAX_PEERS, NEW_HINTS
from skyclaw.cluster.messages import Campaign, News, Pull, Pulled
from skyclaw.cluster.peer_status import Told
from skyclaw.outside.peer_addresses import BadPeerUrl, Network, Pinned, check
from skyclaw.outside.peer_channel import PeerSilent
from skyclaw.records import GENESIS_EPOCH, Epoch
from skyclaw.trust.peer_proofs import proof, proven_token
from tests.support.peer_stage import LOG, PATIENCE_S, TOKEN, Stage, pull_of, until
from tests.support.scripted_server import Asked, Hangup, Reply, ScriptedServer, serving

OLD_TOKEN = "the-token-before-this-one"  # noqa: S105 made up
Open = Callable[..., Stage]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Starts stages, and stops them at the end."""
    stages: list[Stage] = []

    def start(name: str, **config: Any) -> Stage:
        stages.append(Stage(name, **config))
        return stages[-1].start()

    yield start
    for stage in reversed(stages):
        stage.stop()


def tokens_seen(server: ScriptedServer) -> set[str | None]:
    return {asked.headers.get("x-skyclaw-token") for asked in server.asked}


def test_two_coordinators_of_which_one_knows_the_other_admit_each_other(opened: Open) -> None:
    b = opened("b")
    a = opened("a", peer_urls=(b.url,))
    until(lambda: a.knows(b) and b.knows(a))
    assert (a.peers.url_of(b.node), b.peers.url_of(a.node)) == (b.url, a.url)
    assert a.peers.url_of(b.node) is not None
    assert a.peers.url_of("c#00000001") is None
    assert [peer.configured for peer in (*a.peers.peers(), *b.peers.peers())] == [True, False]


def test_a_third_one_is_found_through_the_first(opened: Open) -> None:
    a = opened("a")
    b, c = opened("b", peer_urls=(a.url,)), opened("c", peer_urls=(a.url,))
    until(lambda: a.knows(b, c) and b.knows(a, c) and c.knows(a, b))


def test_a_list_of_peers_may_name_oneself_and_those_who_start_later(opened: Open) -> None:
    spare = Stage("b")
    a = opened("a", peer_urls=(spare.url,))
    until(lambda: "not tried" not in a.reason_for(spare.url))
    spare.stop()
    b = opened("b", port=int(spare.url.rpartition(":")[2]), peer_urls=(a.url, spare.url))
    until(lambda: a.knows(b) and b.knows(a))
    until(lambda: not b.peers.hints())


def test_what_one_says_of_itself_is_known_to_the_other_soon(opened: Open) -> None:
    b = opened("b")
    a = opened("a", peer_urls=(b.url,))
    until(lambda: a.knows(b) and b.knows(a))
    b.memory.positions, b.memory.ready, b.memory.heard_hosts = {LOG: 7}, False, {"h1": 12}
    b.peers.changed()
    until(lambda: [(peer.positions, peer.ready, peer.log, peer.label) for peer in a.peers.peers()] == [({LOG: 7}, False, LOG, "b")])
    until(lambda: a.memory.hosts.get(b.node) == {"h1": 12})


def test_messages_travel_over_the_link(opened: Open) -> None:
    b = opened("b")
    a = opened("a", peer_urls=(b.url,))
    until(lambda: a.knows(b) and b.knows(a))
    call = Campaign(LOG, Epoch(0, 1, a.node))
    a.peers.send(b.node, [call])
    until(lambda: (a.node, [call]) in b.memory.arrived)
    a.peers.send("nobody#00000001", [call])  # is lost, quietly


def test_what_the_other_answers_at_once_comes_back(opened: Open) -> None:
    b = opened("b")
    a = opened("a", peer_urls=(b.url,))
    until(lambda: a.knows(b))
    call, back = Campaign(LOG, Epoch(0, 1, a.node)), Campaign(LOG, Epoch(0, 2, b.node))
    b.memory.answer = lambda _node, _messages, _wait_ms: [back]
    a.peers.send(b.node, [call])
    until(lambda: (b.node, [back]) in a.memory.arrived)


def test_a_clients_request_is_passed_on_with_our_token(opened: Open) -> None:
    b = opened("b")
    a = opened("a", peer_urls=(b.url,))
    until(lambda: a.knows(b))
    headers = {"X-Skyclaw-Token": "the client's own"}
    answer = a.peers.client.forward(b.url, "GET", "/v1/network/peers?x=1", headers, None, PATIENCE_S)
    assert (answer.status, json.loads(answer.body)["nodeId"]) == (200, "b")
    with pytest.raises(PeerSilent, match="not a peer"):
        a.peers.client.forward(a.url, "GET", "/", {}, None, PATIENCE_S)


class TestPulling:
    """Asking for what is committed elsewhere."""

    def test_page_after_page_comes_until_there_is_nothing_more(self, opened: Open) -> None:
        b = opened("b")

        def page(_node: str, messages: Any, _wait_ms: int) -> list[Pulled]:
            (message,) = messages
            end = message.copies[0].commit
            return [Pulled((News(LOG, GENESIS_EPOCH, end, bytes(32), (), end + 1),) if end < 20 else ())]

        b.memory.answer = page
        a = opened("a", peer_urls=(b.url,))
        a.memory.pull = pull_of(0)
        until(lambda: a.memory.pull == pull_of(20))
        assert [message for node, messages in b.memory.arrived for message in messages][:3] == [pull_of(0), pull_of(1), pull_of(2)]

    def test_a_question_may_be_kept_until_there_is_news(self, opened: Open) -> None:
        asked, news = threading.Event(), threading.Event()
        b = opened("b")

        def keep(_node: str, _messages: Any, wait_ms: int) -> list[Pulled]:
            asked.set()
            news.wait(wait_ms / 1000)
            return [Pulled((News(LOG, GENESIS_EPOCH, 0, bytes(32), (), 1),) if news.is_set() else ())]

        b.memory.answer = keep
        a = opened("a", peer_urls=(b.url,), sync_ms=5_000)
        a.memory.pull = pull_of(0)
        assert asked.wait(PATIENCE_S)
        news.set()
        until(lambda: a.memory.pull == pull_of(1))

    def test_nothing_is_asked_when_there_is_nothing_to_ask(self, opened: Open) -> None:
        b = opened("b")
        a = opened("a", peer_urls=(b.url,))
        until(lambda: a.knows(b) and b.knows(a))
        before = a.peers.peers()[0].number
        until(lambda: a.peers.peers()[0].number > before)
        assert not any(isinstance(message, Pull) for _, messages in b.memory.arrived for message in messages)


class TestTrust:
    """Who gets the token, and who never does."""

    def test_a_stranger_who_cannot_prove_itself_gets_no_token(self, opened: Open) -> None:
        lies = {"nodeId": "x", "node": "x#00000001", "proof": "0" * 64, "proofs": ["0" * 64]}
        with serving(lambda asked: Reply(say={**lies, "url": f"http://{asked.headers['host']}"})) as stranger:
            a = opened("a", peer_urls=(stranger.url,))
            until(lambda: "its proof does not hold" in a.reason_for(stranger.url))
            assert tokens_seen(stranger) == {None}
            assert all(asked.path.startswith("/v1/network/proof?nonce=") for asked in stranger.asked)
        assert a.knows()

    def test_whoever_passes_the_question_on_to_a_real_one_gets_no_token(self, opened: Open) -> None:
        b = opened("b")

        def relay(asked: Asked) -> Reply:
            connection = http.client.HTTPConnection("127.0.0.1", int(b.url.rpartition(":")[2]), timeout=PATIENCE_S)
            headers = {"x-skyclaw-token": asked.headers["x-skyclaw-token"]} if "x-skyclaw-token" in asked.headers else {}
            connection.request(asked.method, asked.path, asked.body, headers)
            answer = connection.getresponse()
            return Reply(answer.status, raw=answer.read())

        with serving(relay) as between:
            a = opened("a", peer_urls=(between.url,))
            until(lambda: b.url in a.reason_for(between.url))
            until(lambda: a.knows(b))  # it is found where it says it is
            assert a.peers.url_of(b.node) == b.url
            assert tokens_seen(between) == {None}

    def test_one_with_another_token_is_not_admitted(self, opened: Open) -> None:
        b = opened("b", tokens=("another-token-altogether",))
        a = opened("a", peer_urls=(b.url,))
        until(lambda: "another token" in a.reason_for(b.url))
        assert (a.knows(), b.knows()) == (True, True)

    def test_while_the_token_is_exchanged_old_and_new_go_together(self, opened: Open) -> None:
        old = opened("old", tokens=(OLD_TOKEN,))
        both = opened("both", tokens=(TOKEN, OLD_TOKEN), peer_urls=(old.url,))
        new = opened("new", tokens=(TOKEN,), peer_urls=(both.url,), discovery=False)
        until(lambda: both.knows(old, new) and old.knows(both) and new.knows(both))
        call = Campaign(LOG, Epoch(0, 1, "n"))
        for to in (old, new):
            both.peers.send(to.node, [call])
            to.peers.send(both.node, [call])
        until(lambda: all((both.node, [call]) in to.memory.arrived for to in (old, new)))
        until(lambda: all((one.node, [call]) in both.memory.arrived for one in (old, new)))

    def test_a_coordinator_of_the_typescript_version_is_no_peer(self, opened: Open) -> None:
        with serving(lambda _: Reply(404, {"error": "not found"})) as other:
            a = opened("a", peer_urls=(other.url,))
            until(lambda: "no coordinator of this kind" in a.reason_for(other.url))
            assert tokens_seen(other) == {None}

    def test_one_that_announces_no_address_says_so(self, opened: Open) -> None:
        b = opened("b", url=None)
        a = opened("a", peer_urls=(b.url,))
        until(lambda: "SKYCLAW_COORDINATOR_PUBLIC_URL" in a.reason_for(b.url))

    def test_two_without_a_token_are_open_to_each_other(self, opened: Open) -> None:
        b = opened("b", tokens=())
        a = opened("a", tokens=(), peer_urls=(b.url,))
        until(lambda: a.knows(b) and b.knows(a))


def join(stage: Stage, url: str, sender: str) -> None:
    with contextlib.suppress(BadPeerUrl, NoRoom):
        stage.peers.join(url, sender)


class TestStrangers:
    """What is announced is a wish, and does not come true by itself."""

    def test_no_trap_that_is_announced_or_gossiped_is_ever_contacted(self, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        """The names resolve to this machine, where somebody listens."""
        tried: list[str] = []

        def check_here(text: str, sender: str | None, networks: Iterable[Network], *, configured: bool) -> Pinned:
            tried.append(text)
            return check(text, sender, networks, lambda _host, _port: ["127.0.0.1"], configured=configured)

        monkeypatch.setattr("actors.peer_errands.check", check_here)
        with serving(lambda _: Reply()) as canary:
            a, port = opened("a"), canary.url.rpartition(":")[2]
            for host in ("127.0.0.1", "127.1", "2130706433", "0", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "100.64.0.1"):
                with pytest.raises(BadPeerUrl):
                    a.peers.join(f"http://{host}:{port}", "203.0.113.9")
            a.peers.join(f"http://trap.example:{port}", "203.0.113.9")
            until(lambda: f"http://trap.example:{port}" in tried)
            until(lambda: "this machine" in a.reason_for(f"http://trap.example:{port}"))
            assert canary.asked == []

    def test_nor_is_one_that_a_peer_tells_of(self, opened: Open) -> None:
        with serving(lambda _: Reply()) as canary:
            b = opened("b")
            a, port = opened("a", peer_urls=(b.url,)), canary.url.rpartition(":")[2]
            until(lambda: a.knows(b))
            hosts = ("127.0.0.1", "127.1", "[::1]", "0.0.0.0", "169.254.169.254", "100.64.0.1", "192.0.2.1")  # noqa: S104 only a text
            told = tuple(Told(f"x#{number:08}", f"http://{host}:{port}", 10**15) for number, host in enumerate(hosts))
            for number, one in enumerate(told):
                said = replace(b.peers.status(), number=10**15 + number, url=one.url, peers=told)
                a.peers.post.tell(Came(said, "203.0.113.9"))
            a.peers.refuse(["somebody#00000001"])
            until(lambda: a.peers.evicted("somebody#00000001"))  # what was said before has been dealt with
            assert a.peers.hints() == []
            assert a.peers.url_of(b.node) == b.url
            a.peers.post.tell(Came(replace(b.peers.status(), number=10**16, peers=told), "127.0.0.1"))
            until(lambda: bool(canary.asked))  # from this machine, this machine may be told of
            assert {hint.url for hint in a.peers.hints()} <= {canary.url, f"http://[::1]:{port}"}

    def test_ten_thousand_joins_fill_neither_table_nor_memory(self, opened: Open) -> None:
        a = opened("a")
        for number in range(500):
            join(a, f"http://198.51.{number % 250}.{number // 250}:1", f"203.0.113.{number % 250}")
        until(lambda: a.peers.post.ref is not None and a.peers.post.ref.actor_inbox.empty())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(10_000):
            join(a, f"http://{(number >> 8) + 11}.0.{number & 255}.1:8787", f"203.0.{number % 250}.9")
        until(lambda: a.peers.post.ref is not None and a.peers.post.ref.actor_inbox.empty())
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert len(a.peers.hints()) <= min(5, MAX_HINTS)
        assert len(a.peers.peers()) <= MAX_PEERS
        assert grown < 10 * 1024, f"{grown} KiB"

    def test_hearsay_does_not_make_a_peer(self, opened: Open) -> None:
        with serving(lambda _: Reply(404, {"error": "not found"})) as nobody:
            b = opened("b")
            a = opened("a", peer_urls=(b.url,))
            until(lambda: a.knows(b) and b.knows(a))
            b.peers.join(nobody.url, "127.0.0.1")
            until(lambda: bool(nobody.asked))
            assert tokens_seen(nobody) == {None}
            assert a.knows(b)

    def test_without_discovery_only_the_configured_ones_are_known(self, opened: Open) -> None:
        b = opened("b", discovery=False)
        a = opened("a", peer_urls=(b.url,))
        until(lambda: a.knows(b) and (b.peers.status().number > 0))
        a.peers.changed()
        number = a.peers.peers()[0].number
        until(lambda: a.peers.peers()[0].number > number)
        with pytest.raises(NoDiscovery):
            b.peers.join(a.url, "127.0.0.1")
        b.peers.refuse(["somebody#00000001"])
        until(lambda: b.peers.evicted("somebody#00000001"))  # what was said before has been dealt with
        assert b.knows()
        assert not b.peers.hints()


class TestComingAndGoing:
    """Peers restart, move, leave, and are turned out."""

    def test_one_that_starts_again_is_found_again(self, opened: Open) -> None:
        b = opened("b")
        port = int(b.url.rpartition(":")[2])
        a = opened("a", peer_urls=(b.url,))
        until(lambda: a.knows(b))
        b.stop()
        until(lambda: a.peers.peers()[0].in_doubt)
        again = opened("b", port=port)
        until(lambda: a.knows(again) and not a.peers.peers()[0].in_doubt)
        call = Campaign(LOG, Epoch(0, 1, a.node))

        def arrives() -> bool:
            a.peers.send(b.node, [call])
            return (a.node, [call]) in again.memory.arrived

        until(arrives)

    def test_another_node_at_the_same_address_takes_the_place_of_the_one_before(self, opened: Open) -> None:
        b = opened("b")
        port = int(b.url.rpartition(":")[2])
        a = opened("a", peer_urls=(b.url,))
        until(lambda: a.knows(b))
        b.stop()
        reborn = opened("b", node="b#00000002", port=port)
        until(lambda: a.knows(reborn))
        assert a.peers.url_of(b.node) is None

    def test_a_node_that_moved_is_followed(self, opened: Open) -> None:
        a = opened("a")
        b = opened("b", peer_urls=(a.url,))
        until(lambda: a.knows(b))
        b.stop()
        moved = opened("b", peer_urls=(a.url,))
        until(lambda: a.peers.url_of(b.node) == moved.url)

    def test_an_evicted_node_is_sent_nothing_and_not_admitted_again(self, opened: Open) -> None:
        b = opened("b")
        a = opened("a", peer_urls=(b.url,))
        until(lambda: a.knows(b) and b.knows(a))
        a.peers.evict(b.node)
        until(lambda: a.knows() and a.peers.evicted(b.node))
        assert a.memory.evicted == [b.node]
        until(lambda: f"PeerLink {b.node}" not in [thread.name for thread in threading.enumerate()])
        with pytest.raises(PeerSilent):
            a.peers.client.channel(b.url)
        arrived = len(b.memory.arrived)
        a.peers.send(b.node, [Campaign(LOG, Epoch(0, 1, a.node))])
        until(lambda: b.peers.turned_out)  # it still tries, and is refused
        assert len(b.memory.arrived) == arrived
        assert a.knows()
        assert "evicted" in a.reason_for(b.url)

    def test_whoever_was_turned_out_knows_it_and_asks_only_now_and_then(self, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
        b = opened("b")
        a = opened("a", peer_urls=(b.url,))
        until(lambda: a.knows(b) and b.knows(a))
        caplog.clear()
        a.peers.evict(b.node)
        until(lambda: b.peers.turned_out and b.peers.peers()[0].due > b.clock() + 30_000)
        assert (b.peers.picture.links, b.peers.peers()[0].in_doubt) == ({}, False)
        assert ["turned out of the network" in trouble for trouble in b.peers.troubles] == [True]
        b.peers.changed()
        b.peers.refuse(["somebody#00000001"])
        until(lambda: b.peers.evicted("somebody#00000001"))  # what was said before has been dealt with
        assert b.peers.peers()[0].due > b.clock() + 30_000
        said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert [line for line in said if line.startswith("turned_out")] == [f"turned_out node={b.node} by=['{a.node}']"]
        assert not [line for line in said if line.startswith(("peer_silent", "peer_in_doubt"))]

    def test_whoever_reads_of_its_own_eviction_knows_it_too(self, opened: Open) -> None:
        a = opened("a")
        a.peers.refuse([a.node])
        until(lambda: a.peers.turned_out)

    def test_one_that_leaves_is_dropped_by_all(self, opened: Open) -> None:
        b = opened("b")
        a = opened("a", peer_urls=(b.url,))
        until(lambda: a.knows(b) and b.knows(a))
        b.memory.leaving = True
        b.peers.changed()
        until(lambda: a.peers.peers()[0].leaving)
        b.peers.depart()
        until(lambda: a.knows())
        until(lambda: "announces no address" in a.reason_for(b.url))

    def test_a_manager_that_died_starts_again_with_everybody(self, opened: Open) -> None:
        b = opened("b")
        a = opened("a", peer_urls=(b.url,))
        until(lambda: a.knows(b))
        a.stop_manager()
        assert a.knows()
        a.start_manager()
        until(lambda: a.knows(b))

    def test_stopping_takes_a_bounded_time_whatever_the_peers_do(self, opened: Open) -> None:
        over = threading.Event()

        def slow(_asked: Asked) -> Reply:
            over.wait(PATIENCE_S)
            raise Hangup

        with serving(slow) as one, serving(slow) as two:
            a = opened("a", peer_urls=(one.url, two.url))
            until(lambda: bool(one.asked and two.asked))
            a.stop_manager()
            over.set()

    def test_a_slow_one_delays_nobody_else(self, opened: Open) -> None:
        over = threading.Event()

        def slow(_asked: Asked) -> Reply:
            over.wait(PATIENCE_S)
            raise Hangup

        with serving(slow) as stuck:
            b = opened("b")
            b.memory.answer = lambda _node, _messages, _wait_ms: ()
            a = opened("a", peer_urls=(stuck.url, b.url))
            until(lambda: bool(stuck.asked) and a.knows(b) and b.knows(a))
            assert not over.is_set()
            over.set()


class TestOwnAddress:
    """What is announced must lead here."""

    def test_one_that_leads_to_another_coordinator_is_announced_no_more(self, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
        a = opened("a")
        copied = opened("copied", url=a.url)
        until(lambda: copied.peers.elsewhere == "a")
        assert copied.peers.troubles == [f"SKYCLAW_COORDINATOR_PUBLIC_URL={a.url} leads to another coordinator (a)"]
        assert (copied.peers.url, copied.peers.status().url) == (None, None)
        with pytest.raises(Unannounced):
            copied.peers.proof("0" * 32)
        said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert said == [f"own_address_elsewhere url={a.url} node={a.node}"]
        assert (a.peers.elsewhere, a.peers.troubles, a.peers.url) == ("", [], a.url)

    def test_whoever_has_peers_and_no_address_says_so(self, opened: Open) -> None:
        (trouble,) = opened("a", url=None, peer_urls=("http://127.0.0.1:1",)).peers.troubles
        assert "set SKYCLAW_COORDINATOR_PUBLIC_URL" in trouble
        assert opened("b", url=None).peers.troubles == []


class TestHintsOfTheOperator:
    """What became of an address that was named."""

    def test_one_that_is_the_own_under_another_name_is_shown_as_such(self, opened: Open) -> None:
        a = opened("a")
        other_name = a.url.replace("127.0.0.1", "localhost")
        a.peers.join(other_name, "127.0.0.1")
        until(lambda: a.reason_for(other_name) == "it is this coordinator itself")
        assert a.knows()
        with pytest.raises(OwnAddress):
            a.peers.join(other_name, "127.0.0.1")

    def test_one_too_many_is_refused(self, opened: Open) -> None:
        a = opened("a")
        for number in range(NEW_HINTS):
            a.peers.join(f"http://127.0.0.1:{number + 1}", "127.0.0.1")
        until(lambda: len(a.peers.hints()) == NEW_HINTS)
        with pytest.raises(NoRoom):
            a.peers.join("http://127.0.0.1:9", "127.0.0.1")
        a.peers.join("http://127.0.0.1:1", "127.0.0.1")  # is known

    def test_a_wrong_one_is_forgotten(self, opened: Open) -> None:
        a = opened("a")
        a.peers.join("http://127.0.0.1:1", "127.0.0.1")
        until(lambda: "refused" in a.reason_for("http://127.0.0.1:1"))
        a.peers.forget("http://127.0.0.1:1/")
        until(lambda: not a.peers.hints())
        with pytest.raises(NotWaiting):
            a.peers.forget("http://127.0.0.1:1")


def test_a_peer_that_only_starts_is_not_complained_about(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    a = opened("a", peer_urls=("http://127.0.0.1:1",))
    until(lambda: a.peers.hints()[0].tries > 2)
    said = [record.levelno for record in caplog.records if record.getMessage().startswith("peer_not_admitted")]
    assert said == [logging.INFO]


@given(st.sampled_from([TOKEN, OLD_TOKEN, ""]), st.text(), st.text(), st.text())
def test_a_proof_holds_for_what_it_was_made_for_and_nothing_else(token: str, nonce: str, url: str, node: str) -> None:
    made = [proof(token, nonce, url, node)]
    mine = (TOKEN, OLD_TOKEN) if token else ()
    assert proven_token(mine, nonce, url, node, made) == token
    for other in ((nonce + "x", url, node), (nonce, url + "x", node), (nonce, url, node + "x")):
        assert proven_token(mine, *other, made) is None
    assert proven_token(("another",), nonce, url, node, made) is None
    assert proven_token(mine, nonce, url, node, ["", "ü", "0" * 64]) is None


def test_the_first_live_token_is_the_one_to_show() -> None:
    made = [proof(token, "n", "u", "x") for token in (OLD_TOKEN, TOKEN)]
    assert proven_token((TOKEN, OLD_TOKEN), "n", "u", "x", made) == TOKEN

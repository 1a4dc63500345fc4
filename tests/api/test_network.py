"""The routes between coordinators, on a real server: who may use them, and what they answer to whatever comes."""

import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from falcon import Response, testing

from api import replication
from api.bodies import REPLICATE_LIMIT
from skyclaw.cluster import peer_status, wire
from skyclaw.cluster.messages import Ack, Campaign
from skyclaw.cluster.peer_status import PeerStatus
from skyclaw.records import Epoch
from skyclaw.trust.peer_proofs import proof
from tests.api.in_process import Client
from tests.support.peer_stage import LOG, PATIENCE_S, TOKEN, Stage, pull_of, until
from tests.support.scripted_server import Reply, serving

PEER_TOKEN = "only-for-coordinators"  # noqa: S105 made up
NONCE = "0123456789abcdef" * 2
OTHER = "other#00000009"
CALL = Campaign(LOG, Epoch(0, 1, OTHER))


@pytest.fixture
def stage() -> Iterator[Stage]:
    one = Stage("a").start()
    yield one
    one.stop()


def ask(stage: Stage, method: str, path: str, body: Any = None, token: str | None = TOKEN) -> tuple[int, Any]:
    """Status and JSON of an answer; `body` may be bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", int(stage.url.rpartition(":")[2]), timeout=PATIENCE_S)
    headers = {"content-type": "application/json", **({"x-skyclaw-token": token} if token else {})}
    connection.request(method, path, body if isinstance(body, bytes) else None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    said = json.loads(answer.read())
    connection.close()
    return answer.status, said


def messages(stage: Stage, *what: Any, **more: Any) -> dict[str, Any]:
    return {"from": OTHER, "to": stage.node, "messages": wire.pack(what), **more}


class TestPeers:
    """GET /v1/network/peers."""

    def test_shows_itself_its_peers_and_who_waits(self, stage: Stage) -> None:
        b = Stage("b", peer_urls=(stage.url, "http://127.0.0.1:1")).start()
        until(lambda: stage.knows(b) and b.knows(stage) and bool(b.reason_for("http://127.0.0.1:1")))
        b.memory.positions = {LOG: 3}
        b.peers.changed()
        until(lambda: bool(stage.peers.peers()[0].positions))
        status, said = ask(stage, "GET", "/v1/network/peers")
        assert (status, said["nodeId"], said["self"], said["peers"]) == (200, "a", stage.url, [b.url])
        (one,) = said["coordinators"]
        assert one.pop("lastSeenMs") > 0
        assert one.pop("lastSeenAt").endswith("Z")
        assert one == {
            "node": b.node,
            "label": "b",
            "url": b.url,
            "log": LOG,
            "ready": True,
            "witness": False,
            "leaving": False,
            "configured": False,
            "reachable": True,
            "positions": {LOG: 3},
        }
        assert said["waiting"] == []
        (waiting,) = ask(b, "GET", "/v1/network/peers")[1]["waiting"]
        assert (waiting["url"], waiting["configured"]) == ("http://127.0.0.1:1", True)
        b.stop()


class TestJoining:
    """POST /v1/network/join."""

    def test_answers_as_the_typescript_version_does_and_looks_later(self, stage: Stage) -> None:
        b = Stage("b").start()
        status, said = ask(stage, "POST", "/v1/network/join", {"url": f"{b.url}/"})
        assert (status, said) == (200, {"ok": True, "nodeId": "a", "self": stage.url, "peers": []})
        until(lambda: stage.knows(b))
        assert ask(stage, "POST", "/v1/network/join", {"url": b.url})[1]["peers"] == [b.url]
        b.stop()

    def test_the_own_address_is_refused(self, stage: Stage) -> None:
        status, said = ask(stage, "POST", "/v1/network/join", {"url": f"{stage.url}/"})
        assert (status, said["code"]) == (409, "own_address")

    def test_a_wrong_one_can_be_seen_and_forgotten(self, stage: Stage) -> None:
        wrong = "http://127.0.0.1:1"
        assert ask(stage, "POST", "/v1/network/join", {"url": wrong, "forget": False})[0] == 200
        until(lambda: "refused" in stage.reason_for(wrong))
        assert [one["url"] for one in ask(stage, "GET", "/v1/network/peers")[1]["waiting"]] == [wrong]
        assert ask(stage, "POST", "/v1/network/join", {"url": wrong, "forget": True})[0] == 200
        until(lambda: ask(stage, "GET", "/v1/network/peers")[1]["waiting"] == [])
        status, said = ask(stage, "POST", "/v1/network/join", {"url": wrong, "forget": True})
        assert (status, said["code"]) == (404, "not_waiting")

    def test_what_the_settings_name_is_not_forgotten(self) -> None:
        one = Stage("a", peer_urls=("http://127.0.0.1:1",)).start()
        until(lambda: bool(one.peers.hints()))
        status, said = ask(one, "POST", "/v1/network/join", {"url": "http://127.0.0.1:1", "forget": True})
        one.stop()
        assert (status, said["code"]) == (409, "configured")
        assert "SKYCLAW_PEER_URLS" in said["error"]

    @pytest.mark.parametrize(
        ("body", "code"), [({"url": "http://127.1", "forget": True}, "bad_peer_url"), ({"url": "x", "forget": 1}, None)]
    )
    def test_forgetting_needs_an_address_and_a_yes(self, stage: Stage, body: dict[str, Any], code: str | None) -> None:
        status, said = ask(stage, "POST", "/v1/network/join", body)
        assert (status, code in (None, said["code"])) == (400, True)

    def test_an_address_is_required(self, stage: Stage) -> None:
        for body in ({}, {"url": None}):
            status, said = ask(stage, "POST", "/v1/network/join", body)
            assert (status, said["error"]) == (400, "url is required")

    @pytest.mark.parametrize(
        "url",
        [
            "ftp://x",
            "http://",
            "http://[::1",
            "//x",
            "x",
            "http://" + "x" * 2_042,
            "http://127.1:{port}",
            "http://2130706433:{port}",
            "http://0:{port}/",
            "http://[::ffff:127.0.0.1]:{port}",
            "http://0.0.0.0:{port}",
            "http://169.254.169.254/",
            "http://user@127.0.0.1:{port}",
            "http://127.0.0.1:{port}/v1",
        ],
    )
    def test_a_bad_address_is_refused_and_nobody_is_contacted(self, stage: Stage, url: str) -> None:
        with serving(lambda _: Reply()) as canary:
            status, said = ask(stage, "POST", "/v1/network/join", {"url": url.format(port=canary.url.rpartition(":")[2])})
            assert (status, said["code"]) == (400, "bad_peer_url")
            assert not stage.peers.hints()
            assert canary.asked == []


class TestProof:
    """GET /v1/network/proof."""

    def test_is_open_and_shows_no_token(self, stage: Stage) -> None:
        status, said = ask(stage, "GET", f"/v1/network/proof?nonce={NONCE}", token=None)
        expected = proof(TOKEN, NONCE, stage.url, stage.node)
        assert (status, said) == (200, {"nodeId": "a", "node": stage.node, "url": stage.url, "proof": expected, "proofs": [expected]})

    @pytest.mark.parametrize("query", ["", "?nonce=", "?nonce=xyz", f"?nonce={NONCE}0", f"?nonce={NONCE.upper()}", "?nonce=%0a" + "0" * 31])
    def test_needs_a_nonce(self, stage: Stage, query: str) -> None:
        status, said = ask(stage, "GET", f"/v1/network/proof{query}", token=None)
        assert (status, said["code"]) == (400, "bad_nonce")

    def test_needs_an_address_of_its_own(self) -> None:
        one = Stage("a", url=None).start()
        status, said = ask(one, "GET", f"/v1/network/proof?nonce={NONCE}")
        one.stop()
        assert (status, said["code"]) == (409, "unannounced")
        assert "SKYCLAW_COORDINATOR_PUBLIC_URL" in said["error"]


class TestLeavingAndEviction:
    """POST /v1/network/leave and /evict."""

    def test_without_a_node_this_one_leaves(self, stage: Stage) -> None:
        assert ask(stage, "POST", "/v1/network/leave")[0] == 200
        assert ask(stage, "POST", "/v1/network/leave", {"node": stage.node})[0] == 200
        assert stage.memory.left == 2

    def test_with_one_that_one_is_dropped(self, stage: Stage) -> None:
        b = Stage("b", peer_urls=(stage.url,)).start()
        until(lambda: stage.knows(b))
        b.stop()
        assert ask(stage, "POST", "/v1/network/leave", {"node": b.node}) == (200, {"ok": True, "nodeId": "a"})
        until(lambda: stage.knows())
        assert stage.memory.left == 0

    def test_an_evicted_node_is_heard_no_more(self, stage: Stage) -> None:
        assert ask(stage, "POST", "/v1/network/evict", {"node": OTHER}) == (200, {"ok": True, "nodeId": "a", "evicted": OTHER})
        assert stage.memory.evicted == [OTHER]
        until(lambda: stage.peers.evicted(OTHER))
        said = PeerStatus(OTHER, "other", None, None, 1, True, False, {}, {})
        for path, body in (
            ("/v1/replicate/messages", messages(stage, CALL)),
            ("/v1/replicate/pull", messages(stage, pull_of(0))),
            ("/v1/network/status", peer_status.pack(said)),
        ):
            status, answer = ask(stage, "POST", path, body)
            assert (status, answer["code"]) == (403, "evicted")
        assert stage.memory.arrived == []

    def test_nobody_evicts_itself(self, stage: Stage) -> None:
        status, said = ask(stage, "POST", "/v1/network/evict", {"node": stage.node})
        assert (status, said["code"]) == (409, "own_node")
        assert ask(stage, "POST", "/v1/network/evict", {})[0] == 400


class TestStatus:
    """POST /v1/network/status."""

    def test_is_answered_with_ones_own(self, stage: Stage) -> None:
        stage.memory.positions, stage.memory.heard_hosts = {LOG: 4}, {"h": 1}
        said = PeerStatus(OTHER, "other", None, None, 1, True, True, {}, {})
        status, answer = ask(stage, "POST", "/v1/network/status", peer_status.pack(said))
        own = peer_status.unpack(answer)
        assert (status, own.node, own.url, own.positions, own.hosts) == (200, stage.node, stage.url, {LOG: 4}, {"h": 1})
        assert peer_status.unpack(ask(stage, "POST", "/v1/network/status", peer_status.pack(said))[1]).number > own.number

    @pytest.mark.parametrize("body", [{}, {"node": OTHER}, b"{", b"[]"])
    def test_must_be_a_status(self, stage: Stage, body: Any) -> None:
        assert ask(stage, "POST", "/v1/network/status", body)[0] == 400


class TestMessages:
    """POST /v1/replicate/messages and /pull."""

    def test_messages_are_handed_on_and_answered(self, stage: Stage) -> None:
        ack = Ack(LOG, Epoch(0, 1, OTHER), True, 3, Epoch(0, 1, OTHER))
        stage.memory.answer = lambda _node, _messages, _wait_ms: [ack]
        status, said = ask(stage, "POST", "/v1/replicate/messages", messages(stage, CALL, CALL))
        assert (status, said["from"], said["to"], wire.unpack(said["messages"])) == (200, stage.node, OTHER, [ack])
        assert stage.memory.arrived == [(OTHER, [CALL, CALL])]

    @pytest.mark.parametrize("path", ["/v1/replicate/messages", "/v1/replicate/pull"])
    def test_what_is_for_another_node_is_not_taken(self, stage: Stage, path: str) -> None:
        status, said = ask(stage, "POST", path, {**messages(stage, pull_of(0)), "to": OTHER})
        assert (status, said["code"], said["details"]) == (409, "wrong_node", {"node": stage.node})
        assert stage.memory.arrived == []

    def test_nobody_speaks_in_the_name_of_the_one_who_listens(self, stage: Stage) -> None:
        acknowledged = Ack(LOG, Epoch(0, 1, stage.node), True, 3, Epoch(0, 1, stage.node))
        status, said = ask(stage, "POST", "/v1/replicate/messages", {**messages(stage, acknowledged), "from": stage.node})
        assert (status, said["code"]) == (409, "wrong_node")
        assert stage.memory.arrived == []

    @pytest.mark.parametrize(
        "change",
        [
            {"from": None},
            {"from": ""},
            {"from": "a\n"},
            {"to": None},
            {"messages": None},
            {"messages": {}},
            {"messages": [["Campaign"]]},
            {"messages": [["Campaign", LOG, [0, 1.5, "n"]]]},
            {"messages": [["Nothing"]]},
        ],
    )
    @pytest.mark.parametrize("path", ["/v1/replicate/messages", "/v1/replicate/pull"])
    def test_what_is_no_message_is_refused(self, stage: Stage, path: str, change: dict[str, Any]) -> None:
        status, said = ask(stage, "POST", path, {**messages(stage, CALL), **change})
        assert (status, said["code"]) == (400, "bad_message")
        assert stage.memory.arrived == []

    @pytest.mark.parametrize("text", [b"{", b'{"a":NaN}', b'{"from":"\\ud800"}', b"\xff", b"[" * 100_000, b"\xef\xbb\xbf{}", b"[]"])
    def test_what_is_no_json_is_refused(self, stage: Stage, text: bytes) -> None:
        status, said = ask(stage, "POST", "/v1/replicate/messages", text)
        assert (status, said["code"]) == (400, "invalid_json")

    @pytest.mark.parametrize("wait_ms", [-1, "5", 1.5, True, None])
    def test_how_long_to_wait_is_a_number(self, stage: Stage, wait_ms: Any) -> None:
        assert ask(stage, "POST", "/v1/replicate/pull", messages(stage, pull_of(0), waitMs=wait_ms))[0] == 400

    def test_one_pull_is_asked_at_a_time(self, stage: Stage) -> None:
        for what in ((), (CALL,), (pull_of(0), pull_of(0))):
            assert ask(stage, "POST", "/v1/replicate/pull", messages(stage, *what))[0] == 400

    def test_a_pull_waits_for_at_most_five_seconds(self, stage: Stage) -> None:
        waits: list[int] = []

        def note(_node: str, _messages: Any, wait_ms: int) -> tuple[()]:
            waits.append(wait_ms)
            return ()

        stage.memory.answer = note
        for asked in (0, 300, 60_000):
            assert ask(stage, "POST", "/v1/replicate/pull", messages(stage, pull_of(0), waitMs=asked))[0] == 200
        ask(stage, "POST", "/v1/replicate/pull", messages(stage, pull_of(0)))
        assert waits == [0, 300, replication.MAX_WAIT_MS, 0]

    def test_only_so_many_pulls_wait_at_a_time(self, stage: Stage) -> None:
        over, waits = threading.Event(), list[int]()

        def park(_node: str, _messages: Any, wait_ms: int) -> tuple[()]:
            waits.append(wait_ms)
            if wait_ms:
                over.wait(PATIENCE_S)
            return ()

        stage.memory.answer = park
        pulls = replication.ReplicationPull(stage.peers, stage.memory)
        body = json.dumps(messages(stage, pull_of(0), waitMs=100)).encode()

        def pull() -> None:
            request = testing.create_req(method="POST", path="/", body=body, headers={"content-type": "application/json"})
            pulls.on_post(request, Response())

        threads = [threading.Thread(target=pull, daemon=True) for _ in range(replication.MAX_PARKED)]
        for thread in threads:
            thread.start()
        until(lambda: len(waits) == replication.MAX_PARKED)
        pull()
        assert waits == [100] * replication.MAX_PARKED + [0]
        over.set()
        for thread in threads:
            thread.join(PATIENCE_S)
        pull()
        assert waits[-1] == 100

    def test_eight_mebibytes_are_taken_and_no_more(self, stage: Stage) -> None:
        text = json.dumps(messages(stage, CALL)).encode()
        assert ask(stage, "POST", "/v1/replicate/messages", text.ljust(REPLICATE_LIMIT))[0] == 200
        status, said = ask(stage, "POST", "/v1/replicate/messages", text.ljust(REPLICATE_LIMIT + 1))
        assert (status, said["code"]) == (413, "payload_too_large")


class TestSnapshots:
    """POST /v1/replicate/snapshot: the way coordinators of the TypeScript version replicate."""

    def test_one_with_nothing_new_is_fine(self, stage: Stage) -> None:
        for body in ({}, {"nodeId": "x", "hosts": [], "jobs": [], "services": []}):
            assert ask(stage, "POST", "/v1/replicate/snapshot", body) == (200, {"ok": True, "changed": False, "nodeId": "a"})

    def test_one_with_what_is_known_is_fine(self, stage: Stage) -> None:
        client = Client(stage.inside)
        client.register()
        client.enqueue()
        client.post("/v1/services", {"name": "web", "command": "serve"})
        assert ask(stage, "POST", "/v1/replicate/snapshot", client.get("/v1/state").json)[0] == 200

    @pytest.mark.parametrize("name", ["hosts", "jobs", "services"])
    def test_one_with_unknown_records_is_refused_with_the_way_to_take_them_over(self, stage: Stage, name: str) -> None:
        status, said = ask(
            stage, "POST", "/v1/replicate/snapshot", {name: [{"id": "job_5eed5eed-0000-4000-8000-000000000000", "version": 9}]}
        )
        assert (status, said["code"]) == (409, "foreign_snapshot")
        assert "skyclaw import" in said["error"]

    @pytest.mark.parametrize("body", [{"jobs": {}}, {"jobs": [1]}, {"jobs": [{}]}, {"hosts": [{"id": 1}]}, {"services": [{"id": "a b"}]}])
    def test_what_are_no_records_is_refused(self, stage: Stage, body: Any) -> None:
        assert ask(stage, "POST", "/v1/replicate/snapshot", body)[0] == 400


ROUTES = [
    ("POST", "/v1/replicate/messages"),
    ("POST", "/v1/replicate/pull"),
    ("POST", "/v1/replicate/snapshot"),
    ("POST", "/v1/network/status"),
    ("POST", "/v1/network/join"),
    ("POST", "/v1/network/leave"),
    ("POST", "/v1/network/evict"),
    ("GET", "/v1/network/peers"),
]
OF_PEERS = ROUTES[:5]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_the_token_nothing_is_open_but_the_proof(stage: Stage, method: str, path: str) -> None:
    for token in (None, "wrong"):
        assert ask(stage, method, path, token=token)[0] == 401
    assert ask(stage, method, path)[0] in (200, 400)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_where_coordinators_have_their_own_token_the_shared_one_does_not_do(method: str, path: str) -> None:
    one = Stage("a", peer_tokens=(PEER_TOKEN, "another-live-one")).start()
    status, said = ask(one, method, path)
    assert status == 403 if (method, path) in OF_PEERS else status in (200, 400)
    assert said.get("code") == "forbidden" or status != 403
    assert ask(one, method, path, token="wrong")[0] == ask(one, method, path, token=None)[0] == 401  # noqa: S106 made up
    for token in (PEER_TOKEN, "another-live-one"):
        assert ask(one, method, path, token=token)[0] in (200, 400)
    one.stop()


def test_coordinators_with_a_token_of_their_own_find_each_other() -> None:
    b = Stage("b", peer_tokens=(PEER_TOKEN,)).start()
    a = Stage("a", peer_tokens=(PEER_TOKEN,), peer_urls=(b.url,)).start()
    until(lambda: a.knows(b) and b.knows(a))
    a.stop()
    b.stop()

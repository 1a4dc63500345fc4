"""/v1/network/logs, on real servers of coordinators that know each other: what they show, and whom they let take a log over."""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from actors.log_views import LogSeen, VoterSeen
from api.app import create_app
from api.parts import Alone, HealthSeen, Parts
from skyclaw.errors import Undecided
from skyclaw.outside.peer_channel import PeerSilent, Reply
from skyclaw.records import GENESIS_HASH
from skyclaw.store.event_log import EMPTY, Head
from tests.support.peer_stage import PATIENCE_S, TOKEN, Stage, until

LOG = "5eed5eed"
SEEN = LogSeen(LOG, "b#00000001", "0.3.b#00000001", "a#00000001", 20, 18, ("a#00000001", "b#00000001"), 2, False, True, True, 0)


class Logs:
    """The logs of one coordinator, and the orders it was given."""

    def __init__(self) -> None:
        self.seen: list[LogSeen] = [SEEN]
        self.heads = {LOG: Head(20, "0.3.b#00000001", GENESIS_HASH)}
        self.forced: list[tuple[str, frozenset[str], int, str]] = []
        self.transferred: list[tuple[str, str]] = []
        self.failure: Exception | None = None

    def views(self) -> list[LogSeen]:
        return self.seen

    def head(self, log: str) -> Head:
        return self.heads.get(log, EMPTY)

    def force(self, log: str, voters: frozenset[str], copies: int, operator: str) -> str:
        if self.failure is not None:
            raise self.failure
        self.forced.append((log, voters, copies, operator))
        return "1.1.a#00000001"

    def transfer(self, log: str, to: str) -> None:
        self.transferred.append((log, to))


class Others(Alone):
    """The way to the other coordinators of a stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def forward(self, node: str, method: str, target: str, headers: Any, body: bytes, timeout_s: float) -> Reply:
        url = self._stage.peers.url_of(node)
        if url is None:
            raise PeerSilent("not a peer")
        return self._stage.peers.client.forward(url, method, target, headers, body, timeout_s)


class LogStage(Stage):
    """A coordinator with logs to look at."""

    def __init__(self, name: str, **config: Any) -> None:
        super().__init__(name, **config)
        self.logs, self.name = Logs(), name

    def start(self) -> "LogStage":
        super().start()
        desk, archive, health = self.inside, self.inside.archive, HealthSeen(ok=True, ready=True)
        parts = Parts(desk, archive, self.name, LOG, (TOKEN,), self.clock, lambda: health, network=self.peers)
        self._app = create_app(replace(parts, replication=self.memory, cluster=Others(self), logs_admin=self.logs))
        return self

    def ask(self, method: str, path: str, body: Any = None, token: str = TOKEN) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", int(self.url.rpartition(":")[2]), timeout=PATIENCE_S)
        headers = {"content-type": "application/json", "x-skyclaw-token": token}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        said = json.loads(answer.read())
        connection.close()
        return answer.status, said

    def force(self, log: str = LOG, **more: Any) -> tuple[int, Any]:
        body = {"voters": [self.node, "b#00000001"], "copies": 2, "reason": "both disks died", "operator": "kim", **more}
        return self.ask("POST", f"/v1/network/logs/{log}/force", body)


@contextmanager
def together(*names: str) -> Iterator[list[LogStage]]:
    """Coordinators that have admitted each other."""
    stages: list[LogStage] = []
    try:
        for name in names:
            stages.append(LogStage(name, peer_urls=tuple(stage.url for stage in stages)).start())
        for stage in stages:
            until(lambda stage=stage: stage.knows(*(other for other in stages if other is not stage)))  # type: ignore[misc]
        yield stages
    finally:
        for stage in stages:
            stage.stop()


@pytest.fixture
def both() -> Iterator[list[LogStage]]:
    with together("a", "b") as stages:
        yield stages


@pytest.fixture
def a(both: list[LogStage]) -> LogStage:
    return both[0]


@pytest.fixture
def b(both: list[LogStage]) -> LogStage:
    return both[1]


def test_every_log_is_shown_as_it_is_seen_here(a: LogStage) -> None:
    status, said = a.ask("GET", "/v1/network/logs")
    assert (status, said["node"], said["nodeId"]) == (200, a.node, "a")
    (log,) = said["logs"]
    assert log == {
        "log": LOG,
        "owner": "b#00000001",
        "ownerLabel": "b",
        "epoch": "0.3.b#00000001",
        "founder": "a#00000001",
        "end": 20,
        "committed": 18,
        "lastEpoch": "0.3.b#00000001",
        "lastPosition": 20,
        "voters": ["a#00000001", "b#00000001"],
        "copies": 2,
        "owned": False,
        "inContact": None,
        "settled": True,
        "lag": {},
    }


def test_only_the_owner_knows_whether_it_is_in_contact(a: LogStage) -> None:
    a.logs.seen = [replace(SEEN, owner=a.node, owned=True), replace(SEEN, log="aaaaaaaa", owner=a.node, owned=True, in_contact=False)]
    assert [log["inContact"] for log in a.ask("GET", "/v1/network/logs")[1]["logs"]] == [True, False]


def test_neither_the_owner_has_a_lag_nor_anybody_who_is_gone(a: LogStage, b: LogStage) -> None:
    b.memory.positions = {LOG: 11}
    b.peers.changed()
    until(lambda: a.peers.peers()[0].positions == {LOG: 11})
    a.logs.seen = [replace(SEEN, owner=b.node)]
    assert a.ask("GET", "/v1/network/logs")[1]["logs"][0]["lag"] == {}
    followers = (VoterSeen("c#00000001", 5, None), VoterSeen("gone#00000001", 2, None))
    a.logs.seen = [replace(SEEN, owner=a.node, owned=True, voters=(a.node, "c#00000001"), followers=followers)]
    assert a.ask("GET", "/v1/network/logs")[1]["logs"][0]["lag"] == {b.node: 7, "c#00000001": 15}


def test_the_lag_of_voters_is_the_owners_that_of_others_what_they_said_last(a: LogStage, b: LogStage) -> None:
    b.memory.positions = {LOG: 11}
    b.peers.changed()
    until(lambda: a.peers.peers()[0].positions == {LOG: 11})
    a.logs.seen = [replace(SEEN, owner="c#00000003", voters=(b.node, "c#00000003"))]
    assert a.ask("GET", "/v1/network/logs")[1]["logs"][0]["lag"] == {b.node: 7}
    followers = (VoterSeen(b.node, 19, 5.0), VoterSeen("c#00000003", 2, None))
    a.logs.seen = [replace(SEEN, owned=True, owner=a.node, voters=(a.node, b.node, "c#00000003"), followers=followers)]
    assert a.ask("GET", "/v1/network/logs")[1]["logs"][0]["lag"] == {b.node: 1, "c#00000003": 18}


def test_an_owner_that_nobody_knows_has_no_label(a: LogStage) -> None:
    a.logs.seen = [replace(SEEN, owner="gone#00000009"), replace(SEEN, log="00000000", owner="")]
    said = a.ask("GET", "/v1/network/logs")[1]["logs"]
    assert ["ownerLabel" in log for log in said] == [False, False]
    assert (said[1]["lastEpoch"], said[1]["lastPosition"]) == ("", 0)


def test_a_forced_takeover_names_the_new_epoch_and_who_wanted_it(a: LogStage) -> None:
    status, said = a.force()
    assert (status, said["epoch"], said["before"], said["log"]) == (200, "1.1.a#00000001", "0.3.b#00000001", LOG)
    assert a.logs.forced == [(LOG, frozenset({a.node, "b#00000001"}), 2, "kim: both disks died")]


@pytest.mark.parametrize(
    ("head", "better"),
    [
        (Head(21, "0.3.b#00000001", GENESIS_HASH), True),
        (Head(19, "0.4.c#00000003", GENESIS_HASH), True),
        (Head(20, "0.3.b#00000001", GENESIS_HASH), False),
        (Head(99, "0.2.a#00000001", GENESIS_HASH), False),
        (EMPTY, False),
    ],
)
def test_a_better_copy_that_can_be_reached_forbids_it(a: LogStage, b: LogStage, head: Head, better: bool) -> None:
    b.logs.heads[LOG] = head
    status, said = a.force()
    assert status == (409 if better else 200)
    if better:
        assert (said["code"], said["details"]) == ("better_copy", {"node": b.node, "position": head.seq, "epoch": head.epoch})
        assert b.node in said["error"]
        assert a.logs.forced == []
        assert a.force(fromBehind=True)[0] == 200
    assert len(a.logs.forced) == 1


def test_a_coordinator_that_has_no_copy_or_talks_nonsense_forbids_nothing(a: LogStage, b: LogStage) -> None:
    b.logs.seen = []
    assert a.force()[0] == 200
    b.logs.seen, b.logs.heads = [SEEN], {LOG: Head(99, "not an epoch", GENESIS_HASH)}
    assert a.force()[0] == 200


@pytest.mark.parametrize(
    ("voters", "copies", "status", "code"),
    [
        (["b#00000001"], 1, 409, "wrong_voters"),
        (["a#00000001", "b#0000000l"], 1, 409, "wrong_voters"),
        (["a#00000001"], 2, 400, "invalid"),
        (["a#00000001"], 0, 400, "invalid"),
        ([], 1, 400, "invalid"),
        (["a#00000001", 7], 1, 400, "invalid"),
        ("a#00000001", 1, 400, "invalid"),
    ],
)
def test_voters_that_could_never_commit_are_refused(a: LogStage, voters: Any, copies: int, status: int, code: str) -> None:
    said = a.force(voters=voters, copies=copies)
    assert (said[0], said[1]["code"]) == (status, code)
    assert a.logs.forced == []


def test_voters_who_cannot_be_reached_do_not_count_as_copies() -> None:
    with together("a", "b") as (a, b):
        b.stop()
        until(lambda: a.peers.peers()[0].in_doubt)
        status, said = a.force()
        assert (status, said["code"], said["details"]) == (409, "wrong_voters", {"silent": [b.node]})
        assert a.force(copies=1)[0] == 200


@pytest.mark.parametrize("left_out", ["voters", "copies", "reason"])
def test_voters_copies_and_reason_are_required(a: LogStage, left_out: str) -> None:
    body: dict[str, Any] = {left_out: None}
    status, said = a.force(**body)
    assert (status, list(said["details"])) == (400, [left_out])


def test_a_log_that_is_not_here_cannot_be_forced(a: LogStage) -> None:
    assert (a.force(log="ffffffff")[0], a.force(log="ffffffff")[1]["code"]) == (404, "unknown_log")


def test_an_outcome_that_is_not_known_is_not_told_as_done(a: LogStage) -> None:
    a.logs.failure = Undecided()
    status, said = a.force()
    assert (status, said["details"]["written"]) == (503, "unknown")


def test_only_the_owner_hands_a_log_over_and_only_to_a_voter(a: LogStage, b: LogStage) -> None:
    path = f"/v1/network/logs/{LOG}/transfer"
    assert a.ask("POST", path, {"to": b.node})[1]["code"] == "not_owned"
    a.logs.seen = [replace(SEEN, owned=True, owner=a.node)]
    assert a.ask("POST", path, {"to": "c#00000003"})[1]["code"] == "wrong_voters"
    assert a.logs.transferred == []
    assert a.ask("POST", path, {"to": b.node}) == (200, {"ok": True, "nodeId": "a", "log": LOG, "to": b.node})
    assert a.logs.transferred == [(LOG, b.node)]
    assert a.ask("POST", path, {})[0] == 400


def test_nobody_without_the_token_sees_or_forces_anything(a: LogStage) -> None:
    assert a.ask("GET", "/v1/network/logs", token="wrong")[0] == 401  # noqa: S106
    assert a.ask("POST", f"/v1/network/logs/{LOG}/force", {}, token="wrong")[0] == 401  # noqa: S106

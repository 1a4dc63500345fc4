"""`skyclaw force-takeover`: what it shows before anything happens, and what it then asks for."""

import getpass
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.entrypoints.conftest import Call, Said
from tests.entrypoints.small_coordinator import refusal
from tests.entrypoints.small_network import LOG, OTHER, A, B, C, SmallNetwork, log_view, peer
from tests.support.scripted_server import ScriptedServer, serving

GONE = "cellar#00000004"
NOWHERE = "http://127.0.0.1:1"
TOKEN = "a-token-for-these-tests"  # noqa: S105 made up
Force = Callable[..., Said]


@pytest.fixture
def small() -> SmallNetwork:
    """The coordinator that is asked."""
    return SmallNetwork()


@pytest.fixture
def other() -> SmallNetwork:
    """A peer of it that can be reached."""
    return SmallNetwork(B)


@pytest.fixture
def servers(small: SmallNetwork, other: SmallNetwork) -> Iterator[list[ScriptedServer]]:
    with ExitStack() as stack:
        both = [stack.enter_context(serving(one.script)) for one in (small, other)]
        small.peers = [peer(B, both[1].url), peer(GONE, NOWHERE, reachable=False)]
        small.logs = [log_view(owner=GONE, voters=[A, B, GONE]), log_view(OTHER, GONE)]
        other.logs = [log_view(owner=GONE, voters=[A, B, GONE], end=19)]
        yield both


@pytest.fixture
def force(call: Call, servers: list[ScriptedServer]) -> Force:
    """Runs the command with all it needs, but for what is given."""

    def run(*words: str, **options: str) -> Said:
        given = {"log": LOG, "voters": "kitchen,attic", "copies": "2", "reason": "both disks died", **options}
        typed = [f"--{name}={value}" for name, value in given.items() if value]
        return call("force-takeover", *typed, *words, SKYCLAW_COORDINATOR_URL=servers[0].url, SKYCLAW_TOKEN=TOKEN)

    return run


def test_without_i_know_it_shows_the_copies_and_does_nothing(
    force: Force, small: SmallNetwork, other: SmallNetwork, servers: list[ScriptedServer]
) -> None:
    said = force()
    assert said.code == 2
    rows = [line.split() for line in said.out.splitlines()]
    assert rows[0] == ["NODE", "URL", "LAST", "EPOCH", "END/COMMITTED", "STATE"]
    assert rows[1] == [A, servers[0].url, "0.3", GONE, "20/20", "voter"]
    assert rows[2] == [B, servers[1].url, "0.3", GONE, "19/19", "voter"]
    assert rows[3][:4] == [GONE, NOWHERE, "-", "-"]
    assert "not reached: no coordinator answers" in said.out
    assert f"[skyclaw] what only {GONE} had, who voted and cannot be seen now, is lost for good" in said.err
    assert said.err.endswith("[skyclaw] nothing was done; the same command with --i-know takes the log over\n")
    assert small.posted == other.posted == []


def test_the_others_are_asked_with_the_token(force: Force, servers: list[ScriptedServer]) -> None:
    force()
    assert [asked.headers["x-skyclaw-token"] for asked in servers[1].asked] == [TOKEN]


@pytest.mark.parametrize("token", [None, "another-token", TOKEN])
def test_one_whose_address_is_in_doubt_sees_the_token_only_after_a_proof(
    force: Force, small: SmallNetwork, other: SmallNetwork, servers: list[ScriptedServer], token: str | None
) -> None:
    small.peers[0]["reachable"] = False
    other.proves = (token, servers[1].url) if token else None
    said = force()
    shown = [asked.path for asked in servers[1].asked if "x-skyclaw-token" in asked.headers]
    assert shown == (["/v1/network/logs"] if token == TOKEN else [])
    assert (f"{B} " in said.out, "19/19" in said.out) == (True, token == TOKEN)


def test_with_i_know_it_is_asked_for_with_who_and_why(force: Force, small: SmallNetwork) -> None:
    said = force("--i-know")
    assert said.code == 0
    ((path, body),) = small.posted
    assert path == f"/v1/network/logs/{LOG}/force"
    assert body == {
        "voters": [B, A],
        "copies": 2,
        "reason": "both disks died",
        "operator": getpass.getuser(),
        "fromBehind": False,
    }
    assert said.out.splitlines()[-1] == f"kitchen owns log {LOG} from now on, in epoch 1.1.{A}"


@pytest.mark.parametrize("better", [{"end": 21}, {"lastEpoch": f"0.4.{A}", "end": 3}])
def test_a_better_copy_elsewhere_is_shown_first_and_named(
    force: Force, small: SmallNetwork, other: SmallNetwork, better: dict[str, Any]
) -> None:
    other.logs = [log_view(owner=GONE, **better)]
    small.refusal = refusal(409, "better_copy", f"{B} has a better copy")
    said = force("--i-know")
    assert said.code == 6
    assert said.out.splitlines()[1].startswith(B)
    assert f"{B} has a better copy: what it has beyond position 20 would be lost; do it there instead" in said.err
    assert "--from-behind does it here all the same" in said.err
    small.refusal = None
    assert force("--i-know", "--from-behind").code == 0
    assert [body["fromBehind"] for _, body in small.posted] == [False, True]


def test_an_owner_that_is_at_work_is_pointed_out(force: Force, other: SmallNetwork) -> None:
    other.logs = [log_view(owner=B, owned=True, inContact=True)]
    assert f"{B} owns the log and is at work: nothing needs to be forced" in force().err


def test_more_copies_than_voters_that_can_be_seen_is_pointed_out(force: Force) -> None:
    said = force(voters="kitchen,cellar").err
    assert f"2 copies need 2 voters that are there; of {GONE}, {A}, only {A} can be seen from here" in said
    assert f"1 copy needs a voter that is there; of {GONE}, none can be seen from here" in force(voters="cellar", copies="1").err
    assert "from here" not in force().err


def test_a_peer_without_a_copy_is_no_copy(force: Force, other: SmallNetwork) -> None:
    other.logs = []
    assert "has no copy" in force().out


def test_who_may_go_on_to_serve_the_log_is_named(force: Force, small: SmallNetwork) -> None:
    assert f"[skyclaw] {GONE} may go on to serve the log until hearing of it" in force().err
    small.peers.pop()
    small.logs = [log_view(owner=B, voters=[A, B])]
    assert "may go on" not in force().err


class TestAllLogs:
    """force-takeover --log=all."""

    @pytest.fixture(autouse=True)
    def three(self, small: SmallNetwork, servers: list[ScriptedServer]) -> None:  # noqa: ARG002 which set the logs before
        owners = {LOG: GONE, "cccc3333": B, OTHER: ""}
        small.logs = [log_view(log, owner, voters=[A, B, GONE]) for log, owner in owners.items()]

    def test_those_whose_owner_cannot_be_seen_are_shown_and_one_word_is_enough(self, force: Force, small: SmallNetwork) -> None:
        shown = force(log="all")
        assert shown.code == 2
        assert [line for line in shown.out.splitlines() if line.startswith("log ")] == [f"log {LOG}:", f"log {OTHER}:"]
        assert f"[skyclaw] log {OTHER}: what only {GONE} had" in shown.err
        assert (small.posted, shown.err.splitlines()[-1].partition("; ")[2]) == ([], "the same command with --i-know takes them over")
        done = force("--i-know", log="all")
        assert done.code == 0
        assert [path for path, _ in small.posted] == [f"/v1/network/logs/{log}/force" for log in (LOG, OTHER)]
        assert done.out.splitlines()[-2:] == [f"kitchen owns log {log} from now on, in epoch 1.1.{A}" for log in (LOG, OTHER)]

    def test_one_that_is_refused_does_not_keep_the_others(self, force: Force, small: SmallNetwork) -> None:
        small.refusal = refusal(409, "better_copy", f"{B} has a better copy")
        said = force("--i-know", log="all")
        assert said.code == 6
        assert [f"log {log} was not taken over: {B} has a better copy" in said.err for log in (LOG, OTHER)] == [True, True]
        told = json.loads(force("--i-know", "--json", log="all").out)
        assert [(log["log"], log["done"], log["error"]) for log in told["logs"]] == [
            (LOG, False, f"{B} has a better copy"),
            (OTHER, False, f"{B} has a better copy"),
        ]

    def test_a_log_that_the_asked_one_owned_last_and_does_not_own_now_is_among_them(self, force: Force, small: SmallNetwork) -> None:
        small.logs = [log_view(LOG, A, owned=False), log_view(OTHER, A, owned=True)]
        assert force("--i-know", log="all").code == 0
        assert [path for path, _ in small.posted] == [f"/v1/network/logs/{LOG}/force"]

    def test_without_more_words_the_asked_one_alone_is_to_vote(self, small: SmallNetwork, force: Force) -> None:
        small.logs = [log_view(LOG, GONE)]
        assert force(log="all", voters="", copies="", reason="").code == 2
        assert force("--i-know", log="all", voters="", copies="").code == 0
        assert (small.posted[0][1]["voters"], small.posted[0][1]["copies"]) == ([A], 1)

    def test_where_every_owner_is_seen_there_is_nothing_to_do(self, force: Force, small: SmallNetwork) -> None:
        small.logs = [log_view(owned=True)]
        said = force("--i-know", log="all")
        assert (said.code, said.out, small.posted) == (0, "", [])
        assert "nothing needs to be forced" in said.err
        assert json.loads(force("--json", log="all").out) == {"logs": []}


def test_json_tells_all_of_it(force: Force, small: SmallNetwork) -> None:
    said = force("--json")
    told = json.loads(said.out)
    assert (said.code, told["done"], told["log"], [copy["node"] for copy in told["copies"]]) == (2, False, LOG, [A, B, GONE])
    assert told["copies"][0]["held"] == small.logs[0]
    assert told["copies"][2]["held"] is None
    assert len(told["dangers"]) == 2
    told = json.loads(force("--json", "--i-know").out)
    assert (told["done"], told["epoch"]) == (True, f"1.1.{A}")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"log": ""}, "requires --log;"),
        ({"reason": ""}, "requires --reason;"),
        ({"log": "ffff"}, f"--log=ffff is no log at kitchen; it has copies of: {LOG}, {OTHER}"),
        ({"log": "aa"}, "--log=aa is not unique"),
        ({"copies": "two"}, "--copies=two is not a whole number"),
        ({"copies": "0"}, "from 1 to 64"),
        ({"voters": "kitchen,shed"}, "no coordinator is called shed"),
        ({"reason": "x\x1b[2J"}, "--reason must be at most 256 printable characters"),
        ({"reason": "x" * 257}, "--reason must be at most 256 printable characters"),
    ],
)
def test_wrong_input_is_told_and_nothing_is_done(force: Force, small: SmallNetwork, options: dict[str, str], sentence: str) -> None:
    said = force("--i-know", **options)
    assert said.code == 2
    assert sentence in said.err
    assert small.posted == []


def test_the_beginning_of_a_log_and_ambiguous_labels(force: Force, small: SmallNetwork) -> None:
    assert force("--i-know", log="aaaa").code == 0
    small.peers.append(peer(C, NOWHERE))
    assert f"attic is not unique; type more of one of these: {B}, {C}" in force("--i-know").err
    assert len(small.posted) == 1


def test_several_coordinators_are_one_too_many(call: Call, servers: list[ScriptedServer]) -> None:
    typed = ("--log", LOG, "--voters", "kitchen", "--copies", "1", "--reason", "x")
    said = call("force-takeover", *typed, SKYCLAW_COORDINATOR_URLS=",".join(server.url for server in servers))
    assert said.code == 2
    assert "is about one coordinator" in said.err

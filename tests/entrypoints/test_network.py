"""The verbs about the network of coordinators, against a coordinator that only knows its network."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skyclaw.entrypoints import network
from tests.entrypoints.conftest import Call, Said
from tests.entrypoints.small_coordinator import refusal
from tests.entrypoints.small_network import LOG, OTHER, A, B, C, SmallNetwork, log_view, peer
from tests.entrypoints.test_tables import on_a_terminal
from tests.support.scripted_server import Asked, Reply, ScriptedServer, serving

NEXT = "http://127.0.0.1:9"


@pytest.fixture
def small() -> SmallNetwork:
    return SmallNetwork()


@pytest.fixture
def server(small: SmallNetwork) -> Iterator[ScriptedServer]:
    with serving(small.script) as server:
        yield server


@pytest.fixture
def ask(call: Call, server: ScriptedServer) -> Call:
    """Runs a command line against the small network."""

    def run(*words: str, **settings: str) -> Said:
        return call(*words, **{"SKYCLAW_COORDINATOR_URL": server.url, **settings})

    return run


class TestPeers:
    """skyclaw peers."""

    def test_coordinators_logs_and_those_not_admitted_are_listed(self, small: SmallNetwork, ask: Call) -> None:
        small.peers = [peer(B, "http://10.0.0.2:8787"), peer(C, "http://10.0.0.3:8787", ready=False, witness=True)]
        small.peers.append(peer("cellar#00000004", "http://10.0.0.4:8787", reachable=False))
        small.waiting = [{"url": "http://10.0.0.9:8787", "configured": True, "reason": "its proof does not hold: it has another token"}]
        small.logs = [log_view(lag={B: 0, C: 7}, committed=18), log_view(OTHER, "", voters=["gone#00000009"], copies=1)]
        small.logs.append(log_view("cccc3333", B, voters=["cellar#00000004", "kitchen#565c0002", A]))
        said = ask("peers")
        rows = [line.split() for line in said.out.splitlines()]
        assert rows[0] == ["LABEL", "NODE", "URL", "STATE", "WITNESS", "SEEN"]
        assert rows[1][:4] == ["kitchen", A, "http://10.0.0.1:8787", "asked"]
        assert rows[2][:4] == ["attic", B, "http://10.0.0.2:8787", "ready"]
        assert rows[3][:6] == ["attic", C, "http://10.0.0.3:8787", "catching", "up", "yes"]
        assert rows[4][:4] == ["cellar", "cellar#00000004", "http://10.0.0.4:8787", "silent"]
        assert rows[6] == ["LOG", "OWNER", "EPOCH", "END/COMMITTED", "LAG", "VOTERS", "COPIES"]
        assert rows[7] == [LOG, "kitchen#0000", "0.3", "20/18", C, "7", "kitchen#0000,", B, "2"]
        assert rows[8] == [OTHER, "nobody", "0.0", "20/20", "none", "gone", "(not", "seen)", "1"]
        voters = "cellar (not seen), kitchen#565c (not seen), kitchen#0000"
        assert rows[9] == ["cccc3333", B, "0.3", "20/20", "none", *voters.split(), "2"]
        assert said.err == "[skyclaw] not admitted: http://10.0.0.9:8787: its proof does not hold: it has another token\n"
        assert said.code == 0

    def test_json_has_everything(self, small: SmallNetwork, ask: Call) -> None:
        small.peers = [peer(B, NEXT)]
        said = json.loads(ask("peers", "--json").out)
        assert (said["node"], said["nodeId"], said["coordinators"], said["waiting"], said["logs"]) == (
            A,
            "kitchen",
            small.peers,
            [],
            small.logs,
        )

    def test_a_name_that_steers_terminals_does_not(self, small: SmallNetwork, ask: Call) -> None:
        small.peers = [peer("x\x1b[2J#00000004", NEXT)]
        small.waiting = [{"url": NEXT, "configured": True, "reason": "\x1b]0;pwn\x07"}]
        said = ask("peers")
        assert "\x1b" not in said.out + said.err
        assert "\\x1b" in said.out
        assert "\\x1b" in said.err

    def test_on_a_terminal_it_fits(self, small: SmallNetwork, server: ScriptedServer, environ: dict[str, str], tmp_path: Path) -> None:
        small.peers = [peer(B, "http://a-long-name-of-a-machine.example.org:8787")]
        env = {**environ, "SKYCLAW_COORDINATOR_URL": server.url}
        for width in (60, 80, 120):
            lines = on_a_terminal(width, ("peers",), env, tmp_path)
            assert max(map(len, lines)) <= width
            assert any(line.startswith(f"{LOG} ") and " 20/20 " in line for line in lines)


class TestJoin:
    """skyclaw join."""

    def test_the_address_is_told_and_watched_until_it_is_admitted(
        self, small: SmallNetwork, call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(network, "JOIN_S", 60.0)
        monkeypatch.setattr(network, "LOOK_S", 0.001)
        looks: list[str] = []

        def script(asked: Asked) -> Reply:
            if asked.path == "/v1/network/peers":
                looks.append(asked.path)
                small.waiting = [{"url": NEXT, "configured": False, "reason": "not tried yet"}] if len(looks) < 3 else []
                small.peers = [peer(B, NEXT)] if len(looks) >= 3 else []
            return small.script(asked)

        with serving(script) as watched:
            said = call("join", "HTTP://127.0.0.1:009/", SKYCLAW_COORDINATOR_URL=watched.url)
        assert said == Said(0, f"kitchen has admitted {NEXT}\n", "")
        assert (small.posted, len(looks)) == ([("/v1/network/join", {"url": NEXT})], 3)

    @pytest.mark.parametrize(
        ("url", "waiting", "reason"),
        [
            (NEXT, [{"url": NEXT, "configured": False, "reason": "connection refused"}], "connection refused"),
            (NEXT, [{"url": "http://127.0.0.1:8", "configured": False, "reason": "x"}], "it is not looked at"),
            (NEXT, [], "it is not looked at"),
        ],
    )
    def test_why_it_is_not_admitted_in_time_is_told(
        self, small: SmallNetwork, ask: Call, monkeypatch: pytest.MonkeyPatch, url: str, waiting: list[Any], reason: str
    ) -> None:
        monkeypatch.setattr(network, "JOIN_S", 0.0)
        small.waiting = waiting
        said = ask("join", url)
        assert (said.code, said.out) == (1, "")
        assert said.err.startswith(f"[skyclaw] kitchen has not admitted {url}: {reason}")
        told = json.loads(ask("join", url, "--json").out)
        assert (told["admitted"], told["reason"].startswith(reason)) == (False, True)

    def test_an_address_can_be_given_up(self, small: SmallNetwork, ask: Call) -> None:
        assert ask("join", "--forget", NEXT) == Said(0, f"kitchen has forgotten {NEXT}\n", "")
        assert small.posted == [("/v1/network/join", {"url": NEXT, "forget": True})]
        small.refusal = refusal(400, "invalid", "forget is not known", forget=["is not known"])
        said = ask("join", "--forget", NEXT)
        assert (said.code, said.out) == (6, "")
        assert "of a version that cannot forget addresses" in said.err
        small.refusal = refusal(400, "bad_peer_url", "the address of a coordinator must be like http://192.168.1.4:8787")
        assert "must be like" in ask("join", "--forget", NEXT).err

    def test_a_refused_address_is_a_refusal(self, small: SmallNetwork, ask: Call) -> None:
        small.refusal = refusal(400, "bad_peer_url", "the address of a coordinator must be like http://192.168.1.4:8787")
        said = ask("join", "ftp://x")
        assert (said.code, said.out) == (6, "")
        assert "must be like http://192.168.1.4:8787" in said.err

    def test_it_takes_one_address(self, ask: Call) -> None:
        assert ask("join").code == 2
        assert ask("join", NEXT, NEXT).code == 2


class TestLeave:
    """skyclaw leave."""

    def test_it_waits_until_nothing_is_left_and_says_how_far_it_is(
        self, small: SmallNetwork, ask: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(network, "PAUSE_S", 0.001)
        rest, gone = log_view(OTHER, B, voters=[B]), log_view(owner=B, voters=[B, C])
        small.gives_up = [[log_view(), rest], [log_view(), rest], [log_view(owner=B), rest], [gone, rest]]
        said = ask("leave")
        assert said.code == 0
        assert small.posted == [("/v1/network/leave", {})]
        assert said.out == "kitchen votes nowhere and owns nothing: it can be stopped\n"
        lines = said.err.splitlines()
        assert [line.partition(";")[0] for line in lines] == [
            f"[skyclaw] kitchen still votes in {LOG} and owns {LOG}",
            f"[skyclaw] kitchen still votes in {LOG}",
        ]

    def test_json_is_one_object_at_the_end(self, small: SmallNetwork, ask: Call) -> None:
        small.logs = []
        assert json.loads(ask("leave", "--json").out) == {"node": A, "nodeId": "kitchen", "left": True}

    def test_which_coordinator_leaves_is_not_left_to_chance(self, small: SmallNetwork, ask: Call, server: ScriptedServer) -> None:
        said = ask("leave", SKYCLAW_COORDINATOR_URLS=f"{server.url},{NEXT}")
        assert said.code == 2
        assert f"SKYCLAW_COORDINATOR_URLS={server.url} skyclaw leave" in said.err
        assert small.posted == []

    def test_a_refusal_is_told_and_nothing_awaited(self, small: SmallNetwork, ask: Call) -> None:
        small.refusal = refusal(409, "refused", "there is nobody else to take the logs")
        said = ask("leave")
        assert (said.code, said.out) == (6, "")
        assert "there is nobody else" in said.err

    def test_ctrl_c_says_that_the_coordinator_goes_on(self, small: SmallNetwork, environ: dict[str, str], tmp_path: Path) -> None:
        looked = threading.Event()

        def script(asked: Asked) -> Reply:
            if asked.path == "/v1/network/logs":
                looked.set()
            return small.script(asked)

        with serving(script) as watched:
            process = subprocess.Popen(
                [sys.executable, "-m", "skyclaw", "leave"],
                cwd=tmp_path,
                env={**environ, "SKYCLAW_COORDINATOR_URL": watched.url},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            assert process.stderr is not None
            assert looked.wait(60)
            assert b"still votes" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (130, b"")
        assert b"goes on leaving; skyclaw leave waits for it again" in err


class TestEvict:
    """skyclaw evict."""

    @pytest.fixture(autouse=True)
    def three(self, small: SmallNetwork) -> None:
        small.peers = [peer(B, NEXT), peer(C, NEXT)]
        small.logs = [log_view(voters=[A, B, "cellar#00000004"])]

    @pytest.mark.parametrize(("typed", "node"), [(B, B), ("attic#00000003", C), ("cellar", "cellar#00000004"), ("kit", A)])
    def test_it_is_known_by_label_id_or_the_beginning_of_it(self, small: SmallNetwork, ask: Call, typed: str, node: str) -> None:
        assert ask("evict", typed, "--yes").code == 0
        assert small.posted == [("/v1/network/evict", {"node": node})]

    def test_the_beginning_that_is_shown_is_enough(self, small: SmallNetwork, ask: Call) -> None:
        small.logs = [log_view(voters=[A, B, "attic#565c0001"])]
        assert "attic#565c (not seen)" in ask("peers").out
        assert ask("evict", "attic#565c", "--yes").code == 0
        assert small.posted == [("/v1/network/evict", {"node": "attic#565c0001"})]

    @pytest.mark.parametrize(
        ("typed", "sentence"), [("attic", f"attic is not unique; type more of one of these: {B}, {C}"), ("shed", "shed;")]
    )
    def test_nobody_is_guessed(self, small: SmallNetwork, ask: Call, typed: str, sentence: str) -> None:
        said = ask("evict", typed, "--yes")
        assert said.code == 2
        assert sentence in said.err
        assert small.posted == []

    def test_without_a_terminal_it_has_to_be_said_twice(self, small: SmallNetwork, ask: Call) -> None:
        said = ask("evict", B)
        assert said.code == 2
        assert f"{B} will be refused by all coordinators, for good; add --yes to do it" in said.err
        assert small.posted == []

    @pytest.mark.parametrize(("typed", "code"), [(b"y\n", 0), (b"YES\n", 0), (b"n\n", 2), (b"\n", 2), (b"\x04", 2)])
    def test_on_a_terminal_it_asks(
        self, small: SmallNetwork, server: ScriptedServer, environ: dict[str, str], tmp_path: Path, typed: bytes, code: int
    ) -> None:
        own, its = os.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "skyclaw", "evict", B],
            cwd=tmp_path,
            env={**environ, "SKYCLAW_COORDINATOR_URL": server.url},
            stdin=its,
            stdout=its,
            stderr=its,
        )
        os.close(its)
        seen = b""
        while b"[y/N]" not in seen:
            seen += os.read(own, 4096)
        os.write(own, typed)
        assert process.wait(60) == code
        os.close(own)
        assert [path for path, _ in small.posted] == (["/v1/network/evict"] if code == 0 else [])

    def test_a_coordinator_does_not_evict_itself(self, small: SmallNetwork, ask: Call) -> None:
        small.refusal = refusal(409, "own_node", "a coordinator cannot turn itself out")
        said = ask("evict", A, "--yes")
        assert (said.code, said.err.rstrip().rpartition("; ")[2]) == (6, "skyclaw leave does that")


@pytest.mark.parametrize("words", [("peers",), ("leave",), ("evict", "attic", "--yes")])
def test_a_coordinator_that_knows_no_network_says_so(call: Call, words: tuple[str, ...]) -> None:
    nothing: Any = lambda _: refusal(404, "not_found", "not found")  # noqa: E731
    with serving(nothing) as server:
        said = call(*words, SKYCLAW_COORDINATOR_URL=server.url)
    assert (said.code, said.out) == (6, "")
    assert "request failed (404): not found" in said.err

"""`skyclaw import`: from a server that answers as a coordinator of the TypeScript version does, into a coordinator of ours."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skyclaw.outside import foreign_state
from tests.entrypoints.conftest import Call, Said
from tests.entrypoints.small_coordinator import refusal
from tests.support.real_processes import TOKEN, CoordinatorProcess
from tests.support.scripted_server import Asked, Hangup, Reply, ScriptedServer, serving

STATE = Path(__file__).parents[2] / "fixtures" / "typescript" / "state.json"
THEIRS = "the-token-of-the-old-one"
NOWHERE = "http://127.0.0.1:1"


class OldCoordinator:
    """A coordinator of the TypeScript version: its answers as they are described, refusals included."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = json.loads(STATE.read_text(encoding="utf-8"))
        self.token: str | None = THEIRS
        self.raw: bytes | None = None

    def script(self, asked: Asked) -> Reply:
        if self.token and asked.headers.get("x-skyclaw-token") != self.token:
            return Reply(401, {"error": "unauthorized"})
        if asked.path == "/health":
            return Reply(say={"ok": True, "nodeId": self.state["nodeId"]})
        if asked.path == "/v1/state":
            return Reply(say=self.state, raw=self.raw)
        return Reply(404, {"error": "not found"})


class Taker:
    """Takes pages as /v1/import does, and keeps them."""

    def __init__(self) -> None:
        self.pages: list[dict[str, Any]] = []
        self.known: set[str] = set()
        self.services: dict[str, dict[str, Any]] = {}
        self.before: Callable[[Asked], Reply | None] = lambda _: None

    def script(self, asked: Asked) -> Reply:
        if asked.path == "/v1/services":
            return self._services(asked)
        own = self.before(asked)
        if own is not None:
            return own
        page = asked.json
        self.pages.append(page)
        new = {kind: [one["id"] for one in page.get(kind, []) if one["id"] not in self.known] for kind in ("jobs", "hosts")}
        self.known.update(new["jobs"], new["hosts"])
        return Reply(say={"ok": True, "nodeId": "n", "log": "aaaaaaaa", "new": new, "refused": []})

    def _services(self, asked: Asked) -> Reply:
        if asked.method == "GET":
            return Reply(say={"services": [{"name": name} for name in self.services]})
        if asked.json["name"] == "A B":
            return Reply(400, {"error": "name must be a name", "code": "invalid"})
        self.services[asked.json["name"]] = asked.json
        return Reply(say={"service": asked.json})


@pytest.fixture
def former() -> OldCoordinator:
    return OldCoordinator()


@pytest.fixture
def old(former: OldCoordinator) -> Iterator[ScriptedServer]:
    with serving(former.script) as server:
        yield server


@pytest.fixture
def taker() -> Taker:
    return Taker()


@pytest.fixture
def ask(call: Call, old: ScriptedServer, taker: Taker) -> Iterator[Callable[..., Said]]:
    """Imports from the old one into what only keeps the pages."""
    with serving(taker.script) as server:

        def run(*words: str, token: str = THEIRS, url: str = old.url) -> Said:
            return call("import", url, *([f"--token={token}"] if token else []), *words, SKYCLAW_COORDINATOR_URL=server.url)

        yield run


def test_a_whole_coordinator_moves_into_a_real_one_and_moving_again_changes_nothing(
    call: Call, old: ScriptedServer, tmp_path: Path
) -> None:
    coordinator = CoordinatorProcess(tmp_path)
    coordinator.start()
    settings = {"SKYCLAW_COORDINATOR_URL": coordinator.url, "SKYCLAW_TOKEN": TOKEN}
    try:
        said = call("import", old.url, "--token", THEIRS, **settings)
        assert said.code == 0, said.err
        assert said.out == "hosts 3 (3 new), queued 4 (4 new), finished 4 (4 new), services 2 (2 new)\n"
        assert "1 of the queued jobs were running there, and will run here again" in said.err
        states = [coordinator.get("/v1/state")]
        said = call("import", old.url, "--token", THEIRS, **settings)
        assert said.out == "hosts 3 (0 new), queued 4 (0 new), finished 4 (0 new), services 2 (0 new)\n"
        services = coordinator.get("/v1/services")["services"]
        assert [(one["name"], one["command"], one["args"], one["replicas"], one["revision"]) for one in services] == [
            ("my-ts-api", "node", ["dist/server.js"], 1, 1),
            ("broken", "nope", [], 2, 1),
        ]
        coordinator.kill()
        coordinator.start()
        states.append(coordinator.get("/v1/state"))
        assert [[(job["id"], job["version"], job["status"]) for job in state["jobs"]] for state in states[1:]] == [
            [(job["id"], job["version"], job["status"]) for job in states[0]["jobs"]]
        ]
        assert call("import", old.url, "--token", THEIRS, **settings).out.count("(0 new)") == 4
        first = next(job for job in states[0]["jobs"] if job["payload"].get("command") == "bash")
        assert call("logs", first["id"].split("-", 1)[1], **settings).out == "hello\n"
    finally:
        coordinator.stop()


def test_the_old_one_is_only_read_and_our_token_stays_ours(ask: Callable[..., Said], old: ScriptedServer) -> None:
    assert ask().code == 0
    assert [(asked.method, asked.path) for asked in old.asked] == [("GET", "/health"), ("GET", "/v1/state")]
    assert {asked.headers.get("x-skyclaw-token") for asked in old.asked} == {THEIRS}


@pytest.mark.parametrize("token", ["", "wrong"])
def test_another_token_is_asked_for(ask: Callable[..., Said], taker: Taker, token: str) -> None:
    said = ask(token=token)
    assert said.code == 2
    assert "wants another token; give its own one with --token" in said.err
    assert taker.pages == []


def test_an_old_one_without_a_token_needs_none(ask: Callable[..., Said], former: OldCoordinator, old: ScriptedServer) -> None:
    former.token = None
    assert ask(token="").code == 0
    assert all("x-skyclaw-token" not in asked.headers for asked in old.asked)


def test_pages_are_small_and_in_the_order_in_which_jobs_were_created(
    ask: Callable[..., Said], former: OldCoordinator, taker: Taker
) -> None:
    payload = {"kind": "shell", "command": "true"}
    times = [f"2026-11-20T{n // 3600:02d}:{n // 60 % 60:02d}:{n % 60:02d}.000Z" for n in range(450)]
    former.state["jobs"] = [{"id": f"job_{n}", "status": "queued", "createdAt": times[n], "payload": payload} for n in reversed(range(450))]
    former.state["hosts"], former.state["services"] = [], []
    said = ask()
    assert said.out == "hosts 0 (0 new), queued 450 (450 new), finished 0 (0 new), services 0 (0 new)\n"
    assert [len(page["jobs"]) for page in taker.pages] == [200, 200, 50]
    assert [job["id"] for page in taker.pages for job in page["jobs"]] == [f"job_{n}" for n in range(450)]
    assert {page["source"] for page in taker.pages} == {"node-a"}


def test_large_outputs_make_pages_shorter_and_giant_ones_are_cut(ask: Callable[..., Said], former: OldCoordinator, taker: Taker) -> None:
    def job(number: int, length: int) -> dict[str, Any]:
        result = {"durationMs": 1, "exitCode": 0, "stdout": "x" * length, "stderr": ""}
        return {"id": f"job_{number}", "status": "completed", "createdAt": f"{number}", "payload": {"kind": "shell"}, "result": result}

    former.state["jobs"] = [*(job(n, 1_000_000) for n in range(7)), job(7, 9_000_000)]
    assert ask().code == 0
    pages = [page["jobs"] for page in taker.pages if "jobs" in page]
    assert [len(page) for page in pages] == [3, 3, 2]
    stdout = pages[2][1]["result"]["stdout"]
    assert len(stdout) == 1024 * 1024
    assert stdout.endswith("x\n[output truncated]\n")


def test_text_as_javascript_cuts_it_arrives(ask: Callable[..., Said], former: OldCoordinator, taker: Taker) -> None:
    former.state["jobs"] = former.state["jobs"][:1]
    former.state["jobs"][0]["result"]["stdout"] = "half a fox \ud83e"
    former.raw = json.dumps(former.state).encode()
    assert ask().code == 0
    assert taker.pages[-1]["jobs"][0]["result"]["stdout"] == "half a fox \N{REPLACEMENT CHARACTER}"


def test_what_is_refused_is_named_and_makes_the_exit_code_1(ask: Callable[..., Said], taker: Taker) -> None:
    refused = [{"id": f"job_{n}\x1b[2J", "error": "payload.kind is required"} for n in range(12)]
    taker.before = lambda asked: Reply(say={"new": {"jobs": [], "hosts": []}, "refused": refused if "jobs" in asked.json else []})
    said = ask()
    assert (said.code, said.err.count("payload.kind is required")) == (1, 10)
    assert said.out.endswith("services 2 (2 new), refused 12\n")
    assert "and 2 more; --json names them all" in said.err
    assert "\x1b" not in said.err
    assert len(json.loads(ask("--json").out)["refused"]) == 12


def test_a_service_is_deployed_unless_its_name_is_taken_and_the_newest_of_a_name_counts(
    ask: Callable[..., Said], former: OldCoordinator, taker: Taker
) -> None:
    api, *_ = former.state["services"]
    newer = {**api, "createdAt": "2026-11-21T00:00:00.000Z", "command": "newer", "env": {"A": "1"}, "id": "svc_2"}
    former.state["services"] = [newer, api, {**api, "name": "here"}, {**api, "name": "A B", "id": "svc_3"}]
    taker.services["here"] = {"name": "here"}
    said = ask()
    assert (said.code, said.out) == (1, "hosts 3 (3 new), queued 4 (4 new), finished 4 (4 new), services 4 (1 new), refused 1\n")
    assert "refused svc_3: name must be a name" in said.err
    wanted = {"name": "my-ts-api", "command": "newer", "args": ["dist/server.js"], "env": {"A": "1"}, "replicas": 1}
    assert taker.services == {"here": {"name": "here"}, "my-ts-api": {**wanted, "requiredCapabilities": ["service-host"]}}


def test_json_counts_the_same(ask: Callable[..., Said]) -> None:
    assert json.loads(ask("--json").out) == {
        "found": {"hosts": 3, "queued": 4, "finished": 4, "services": 2},
        "new": {"hosts": 3, "queued": 4, "finished": 4, "services": 2},
        "leased": 1,
        "refused": [],
    }


def test_a_coordinator_that_is_away_for_a_moment_is_waited_for(ask: Callable[..., Said], taker: Taker) -> None:
    answers = [Reply(503, {"error": "no owner", "code": "owner_unknown"}, {"retry-after": "0"}), None]

    def before(asked: Asked) -> Reply | None:
        return answers.pop(0) if answers else None

    taker.before = before
    said = ask()
    assert said.code == 0
    assert "queued 4 (4 new)" in said.out


def test_a_full_queue_ends_it_with_the_reason(ask: Callable[..., Said], taker: Taker) -> None:
    taker.before = lambda asked: refusal(429, "queue_full", "9 jobs are queued, the limit is 9") if "jobs" in asked.json else None
    said = ask()
    assert (said.code, said.out) == (6, "")
    assert "the limit is 9" in said.err


def test_one_of_our_own_kind_is_to_be_joined(ask: Callable[..., Said], taker: Taker) -> None:
    ours = {"ok": True, "nodeId": "n", "log": "aaaaaaaa"}
    with serving(lambda _: Reply(say=ours)) as server:
        said = ask(url=server.url)
    assert said.code == 2
    assert f"try: skyclaw join {server.url}" in said.err
    assert taker.pages == []


ELSEWHERE: dict[str, tuple[Callable[[Asked], Reply], int, str]] = {
    "a web site": (lambda _: Reply(raw=b"<html>", content_type="text/html"), 6, "is not a Skyclaw coordinator"),
    "a list": (lambda _: Reply(say=[1]), 6, "is not a Skyclaw coordinator"),
    "an error": (lambda _: Reply(500, {"error": "unknown host: x"}), 6, "request failed (500): unknown host: x"),
}


@pytest.mark.parametrize(("script", "code", "sentence"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_something_else_there_is_told(
    ask: Callable[..., Said], taker: Taker, script: Callable[[Asked], Reply], code: int, sentence: str
) -> None:
    with serving(script) as server:
        said = ask(url=server.url)
    assert (said.code, said.out) == (code, "")
    assert sentence in said.err
    assert taker.pages == []


def test_nobody_there_is_unreachable(ask: Callable[..., Said]) -> None:
    def hang_up(_asked: Asked) -> Reply:
        raise Hangup

    said = ask(url=NOWHERE)
    assert (said.code, said.err.count("\n")) == (5, 1)
    assert said.err.endswith("(connection refused); start the other coordinator, or name its address\n")
    with serving(hang_up) as server:
        assert ask(url=server.url).code == 5


@pytest.mark.parametrize("typed", ["ftp://x", "kitchen", "http://a@b", "http://x/?q=1"])
def test_what_is_no_address_is_a_wrong_command(call: Call, typed: str) -> None:
    said = call("import", typed)
    assert (said.code, said.out) == (2, "")
    assert "is not the address of a coordinator" in said.err


def test_a_state_without_end_is_not_read_to_the_end(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[..., Said], former: OldCoordinator
) -> None:
    monkeypatch.setattr(foreign_state, "MAX_BYTES", 1000)
    assert "answer too large" in ask().err


def test_ctrl_c_says_how_far_it_has_come(
    former: OldCoordinator, old: ScriptedServer, taker: Taker, environ: dict[str, str], tmp_path: Path
) -> None:
    come, go = threading.Event(), threading.Event()

    def hold(asked: Asked) -> Reply | None:
        if "jobs" in asked.json:
            come.set()
            go.wait(60)
        return None

    taker.before = hold
    with serving(taker.script) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "skyclaw", "import", old.url, "--token", THEIRS],
            cwd=tmp_path,
            env={**environ, "SKYCLAW_COORDINATOR_URL": server.url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert come.wait(60)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        go.set()
    assert (process.returncode, out) == (130, b"")
    assert b"so far: hosts 3 (3 new), queued 0 (0 new)" in err
    assert b"the same command goes on from here" in err

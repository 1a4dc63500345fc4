"""What a command advises when nothing answers, when it is not let in, and when a process cannot start."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from skyclaw.entrypoints import cli, dev_file
from skyclaw.errors import DatabaseLocked, ServerRefused
from skyclaw.outside import coordinators, patience
from skyclaw.store.sqlite import open_sqlite
from tests.entrypoints.conftest import Call, Served
from tests.entrypoints.small_coordinator import refusal
from tests.support.scripted_server import Asked, Reply, serving
from tests.support.stand_in_coordinator import coordinating

TOKEN = "the-right-token-of-some-length"  # noqa: S105
NOWHERE = "http://127.0.0.1:1"
JOB = "job_aaaaaaaa-0000-4000-8000-000000000001"


def leave_note(environ: dict[str, str], url: str) -> None:
    dev_file.write(Path(environ["SKYCLAW_HOME"]), dev_file.DevNote(url, TOKEN, os.getpid()))


def test_without_a_dev_a_silent_address_names_the_ways_to_start_one(call: Call) -> None:
    said = call("jobs", SKYCLAW_COORDINATOR_URL=NOWHERE)
    assert said.code == 5
    assert "; start one with: skyclaw coordinator, or try: skyclaw dev; SKYCLAW_COORDINATOR_URL says where it is\n" in said.err


def test_the_variable_that_is_set_is_the_one_that_is_named(call: Call) -> None:
    several = {"SKYCLAW_COORDINATOR_URLS": f"{NOWHERE},http://127.0.0.1:2"}
    assert "; SKYCLAW_COORDINATOR_URLS says where it is\n" in call("jobs", **several).err
    with serving(lambda _: Reply(raw=b"<html>", content_type="text/html")) as other:
        assert "; check SKYCLAW_COORDINATOR_URLS with: skyclaw config\n" in call("jobs", SKYCLAW_COORDINATOR_URLS=other.url).err
        assert "; check SKYCLAW_COORDINATOR_URL with: skyclaw config\n" in call("jobs", SKYCLAW_COORDINATOR_URL=other.url).err


UNSURE = "the outcome is unknown: it may have been written; repeat it with the same idempotency key"


def test_what_may_have_been_done_comes_with_the_words_that_do_it_at_most_once(
    call: Call, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinators, "PATIENCE_S", 0.0)
    served.small.add_job(JOB)

    def script(asked: Asked) -> Reply:
        return refusal(503, "undecided", UNSURE, written="unknown") if asked.method == "POST" else served.small.script(asked)

    with serving(script) as server:
        drawn, own = (call("enqueue-shell", *key, "true", SKYCLAW_COORDINATOR_URL=server.url).err for key in ((), ("--key=it's",)))
        cancelled = call("cancel", JOB, SKYCLAW_COORDINATOR_URL=server.url).err
        key = next(asked.headers["x-idempotency-key"] for asked in server.asked if asked.path == "/v1/jobs")
    failed = "[skyclaw] request failed (503): the outcome is unknown: it may have been written"
    assert drawn == f"{failed}; type it again with --key={key}: it will not be done twice\n"
    assert """ --key='it'"'"'s': """ in own
    assert cancelled == f"{failed}; look whether it was done before you type it again\n"


def test_a_question_that_cannot_be_answered_is_not_about_writing(call: Call) -> None:
    with serving(lambda _: refusal(503, "undecided", UNSURE, written="unknown")) as server:
        said = call("hosts", SKYCLAW_COORDINATOR_URL=server.url)
    sentence = "request failed (503): the coordinator could not answer now; try again in 1 s, skyclaw doctor looks for the cause"
    assert said.err == f"[skyclaw] {sentence}\n"


def test_a_wait_for_the_coordinator_is_told_and_its_end_says_how_long_it_was(
    call: Call, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "TOLD_AFTER_S", 0.0)
    monkeypatch.setattr(coordinators, "PATIENCE_S", 0.2)
    sentence = "too few of the coordinators can be reached; nothing was written, try again"

    def script(asked: Asked) -> Reply:
        reply = refusal(503, "lost_contact", sentence, written=False)
        return Reply(503, reply.say, {"retry-after": "0"}) if asked.method == "POST" else served.small.script(asked)

    with serving(script) as server:
        said = call("enqueue-shell", "true", SKYCLAW_COORDINATOR_URL=server.url)
    told, failed = said.err.splitlines()
    reason = sentence.removesuffix(", try again")
    assert told == f"[skyclaw] waiting: {reason}"
    assert failed.startswith(f"[skyclaw] request failed (503): {reason}; ")
    assert cli._sentence(ServerRefused(503, "lost_contact", sentence, {"triedForS": 30}, 1.0), {}).endswith(
        f"{reason}; given up after 30 s, skyclaw doctor looks for the cause"
    )


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"SKYCLAW_COORDINATOR_URL": NOWHERE}, "SKYCLAW_COORDINATOR_URL"),
        ({"SKYCLAW_COORDINATOR_URL": "", "SKYCLAW_COORDINATOR_URLS": NOWHERE}, "SKYCLAW_COORDINATOR_URLS"),
        ({"SKYCLAW_COORDINATOR_URL": NOWHERE, "SKYCLAW_TOKEN": "x" * 20}, "SKYCLAW_COORDINATOR_URL and SKYCLAW_TOKEN"),
    ],
)
def test_what_hides_a_running_dev_is_to_be_unset(call: Call, environ: dict[str, str], settings: dict[str, str], names: str) -> None:
    leave_note(environ, "http://127.0.0.1:9")
    said = call("jobs", **settings)
    assert said.code == 5
    assert said.err.endswith(f"; skyclaw dev runs at http://127.0.0.1:9: unset {names} to use it\n")


def test_a_dev_that_is_found_but_silent_is_not_called_hidden(call: Call, environ: dict[str, str]) -> None:
    leave_note(environ, NOWHERE)
    for settings in ({}, {"SKYCLAW_TOKEN": TOKEN}):
        said = call("jobs", SKYCLAW_COORDINATOR_URL="", **settings)
        assert said.code == 5
        assert "unset" not in said.err


def test_who_is_not_let_in_hears_of_both_ways(call: Call, environ: dict[str, str], served: Served) -> None:
    served.small.token = TOKEN
    leave_note(environ, served.url)
    said = call("jobs", SKYCLAW_TOKEN="x" * 20)
    assert said.code == 4
    assert "set SKYCLAW_TOKEN or SKYCLAW_TOKEN_FILE to the coordinator's token, or: skyclaw dev runs at" in said.err
    assert "unset SKYCLAW_COORDINATOR_URL and SKYCLAW_TOKEN to use it\n" in said.err
    assert call("jobs", SKYCLAW_COORDINATOR_URL="").code == 0


def test_an_address_in_use_names_the_settings_that_choose_another(call: Call, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = call("coordinator", SKYCLAW_COORDINATOR_PORT=port, SKYCLAW_DATABASE_URL="memory://", SKYCLAW_DB_PATH=str(tmp_path / "x.db"))
    assert said.code == 3
    assert said.err.endswith("SKYCLAW_COORDINATOR_HOST and SKYCLAW_COORDINATOR_PORT name another\n")


def test_a_database_in_use_names_its_setting(tmp_path: Path, environ: dict[str, str]) -> None:
    log = open_sqlite(tmp_path / "x.db", "node")
    try:
        with pytest.raises(DatabaseLocked) as caught:
            open_sqlite(tmp_path / "x.db", "node")
    finally:
        log.close()
    assert cli._sentence(caught.value, environ).endswith("; SKYCLAW_DB_PATH names it")


@pytest.mark.parametrize("verb", ["coordinator", "host"])
def test_a_process_with_json_prints_nothing_but_json(verb: str, environ: dict[str, str], tmp_path: Path) -> None:
    with coordinating() as small:
        env = {**environ, "SKYCLAW_COORDINATOR_URL": small.url, "SKYCLAW_COORDINATOR_PORT": "0", "SKYCLAW_DB_PATH": str(tmp_path / "x.db")}
        words = [sys.executable, "-m", "skyclaw", verb, "--json"]
        with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=30)
    begins = {"coordinator": "coordinator ", "host": "host registered: host_"}[verb]
    said = [json.loads(line)["message"] for line in (first + out).splitlines()]
    assert process.returncode == 0, err
    assert said[0].startswith(begins)
    assert all(json.loads(line) for line in err.splitlines())

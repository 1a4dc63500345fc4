"""Following a job: its output as it was, its exit code as ours, and Ctrl-C."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from skyclaw.entrypoints import waiting
from tests.entrypoints.conftest import Call, Said, Served
from tests.entrypoints.small_coordinator import SmallCoordinator, refusal
from tests.support.scripted_server import Asked, Reply, serving

ID = "job_aaaaaaaa-0000-4000-8000-000000000001"


def test_run_prints_what_the_job_wrote_and_exits_with_its_code(call: Call, served: Served) -> None:
    served.small.at_enqueue = {"status": "failed", "exitCode": 7, "stdout": "out\r\n\x00\x1b[31m\n\n", "stderr": "err: ü\n"}
    assert call("run", "bash", "-c", "exit 7") == Said(7, "out\r\n\x00\x1b[31m\n\n", "err: ü\n")
    assert served.small.posted[0][0]["payload"] == {"kind": "shell", "command": "bash", "args": ["-c", "exit 7"]}


@pytest.mark.parametrize(
    ("status", "result", "code"),
    [
        ("completed", {"exitCode": 0}, 0),
        ("failed", {"exitCode": 139, "signal": "SEGV"}, 139),
        ("failed", {"exitCode": 124, "timedOut": True}, 124),
        ("failed", {"exitCode": 1, "timedOut": True}, 124),
        ("failed", {"exitCode": 126}, 126),
        ("failed", {"exitCode": 256}, 1),
        ("failed", {"exitCode": 0}, 1),
        ("failed", {}, 1),
        ("cancelled", {}, 130),
    ],
)
def test_the_exit_code_is_the_jobs_own_or_says_what_became_of_it(status: str, result: dict[str, object], code: int) -> None:
    assert waiting.exit_code({"status": status, "result": result}) == code
    assert waiting.exit_code({"status": status}) == {"completed": 0, "failed": 1, "cancelled": 130}[status]


def test_an_error_of_the_host_is_said_after_the_output(call: Call, served: Served) -> None:
    served.small.at_enqueue = {"status": "failed", "error": "command not allowed: rm", "exitCode": 126}
    said = call("run", "rm")
    assert said.code == 126
    assert said.err.endswith("failed: command not allowed: rm; the host's SKYCLAW_ALLOWED_COMMANDS does not list it\n")


@pytest.mark.parametrize(
    ("job", "says"),
    [
        ({"error": "cwd not allowed: /x"}, "cwd not allowed: /x; it is not below the host's SKYCLAW_WORK_ROOTS"),
        ({"error": "timed out after 50ms", "timeoutMs": 60}, "timed out after 50ms (the host's SKYCLAW_MAX_TIMEOUT_MS)"),
        ({"error": "timed out after 50ms", "timeoutMs": 50, "result": {"signal": "KILL", "timedOut": True}}, "timed out after 50ms"),
        ({"error": "timed out after 50ms"}, "timed out after 50ms"),
        ({"result": {"signal": "SEGV"}}, "killed by SIGSEGV"),
        ({"error": "oh", "result": {"signal": "35"}}, "oh (killed by signal 35)"),
        ({"error": "something else"}, "something else"),
        ({"result": {"exitCode": 3}}, ""),
    ],
)
def test_a_failure_names_the_setting_or_the_signal_behind_it(job: dict[str, object], says: str) -> None:
    assert waiting.failure(job) == says


def test_output_that_was_cut_is_said_after_it(call: Call, served: Served) -> None:
    served.small.at_enqueue = {"stdout": "x" * 64, "stderr": "", "truncated": True, "stdoutBytes": 1_000, "stderrBytes": 0}
    said = call("run", "true")
    assert said == Said(0, "x" * 64, "[skyclaw] output was cut to 64 of 1000 bytes; SKYCLAW_MAX_OUTPUT_BYTES on the host\n")


def test_a_job_that_stays_in_the_queue_says_why_once_for_each_reason(call: Call, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "REASON_AFTER_S", 0.05)
    monkeypatch.setattr(waiting, "REASON_AGAIN_S", 0.05)
    served.small.add_job(ID)
    reasons = ["no host has gpu", "no host has gpu", "no host has gpu", "it is next in line"]

    def script(asked: Asked) -> Reply:
        if not asked.path.endswith("/explain"):
            return served.small.script(asked)
        reason = reasons.pop(0)
        if not reasons:
            served.small.finish(ID, stdout="done\n")
        return Reply(say={"jobId": ID, "status": "queued", "reasons": [reason, "more"], "hosts": []})

    with serving(script) as server:
        said = call("wait", ID, SKYCLAW_COORDINATOR_URL=server.url)
    assert said == Said(0, "done\n", f"[skyclaw] {ID} waits: no host has gpu\n[skyclaw] {ID} waits: it is next in line\n")


def test_waiting_goes_on_when_no_reason_can_be_had(call: Call, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "REASON_AFTER_S", 0.0)
    served.small.add_job(ID)

    def script(asked: Asked) -> Reply:
        if not asked.path.endswith("/explain"):
            return served.small.script(asked)
        served.small.finish(ID, stdout="done\n")
        return refusal(404, "not_found", "no such route")

    with serving(script) as server:
        assert call("wait", ID, SKYCLAW_COORDINATOR_URL=server.url) == Said(0, "done\n", "")


def test_json_prints_the_job_instead_of_its_output(call: Call, served: Served) -> None:
    served.small.at_enqueue = {"status": "failed", "exitCode": 3, "stdout": "x"}
    said = call("run", "--json", "false")
    assert said.code == 3
    assert '"stdout": "x"' in said.out


def test_wait_follows_a_job_that_is_still_running(call: Call, served: Served) -> None:
    served.small.add_job(ID)

    def finish() -> None:
        assert served.small.waited.wait(10)
        served.small.finish(ID, stdout="done\n")

    thread = threading.Thread(target=finish)
    thread.start()
    assert call("wait", "job_aaaa") == Said(0, "done\n", "")
    thread.join()


def test_a_job_that_no_host_can_run_is_pointed_out_once(call: Call, served: Served) -> None:
    served.small.unschedulable = True
    served.small.at_enqueue = None

    def finish() -> None:
        assert served.small.waited.wait(10)
        served.small.finish(next(iter(served.small.jobs)), "cancelled")

    thread = threading.Thread(target=finish)
    thread.start()
    said = call("run", "--cap=gpu", "true")
    thread.join()
    assert said.code == 130
    assert said.err.count("no known host can run job_") == 1
    assert "skyclaw explain job_" in said.err


def test_a_coordinator_that_is_away_for_a_moment_is_asked_again(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting.time, "sleep", lambda _: None)
    monkeypatch.setattr(waiting, "TROUBLE_AFTER_S", 0.0)
    small = SmallCoordinator()
    small.add_job(ID)
    answers = [*[refusal(503, "unavailable", "not now, try again")] * 2, refusal(500, "error", "oh"), None]

    def flaky(asked: Asked) -> Reply:
        if "waitMs" in asked.path:
            reply = answers.pop(0)
            if reply:
                return reply
            small.finish(ID)
        return small.script(asked)

    with serving(flaky) as server:
        assert call("wait", ID, SKYCLAW_COORDINATOR_URL=server.url) == Said(0, "", "[skyclaw] waiting: not now\n[skyclaw] waiting: oh\n")
    assert answers == []


def test_one_that_stays_away_ends_the_wait_with_the_way_back(call: Call, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE_S", 0.0)
    served.small.add_job(ID)

    def gone(asked: Asked) -> Reply:
        return refusal(503, "unavailable", "not now") if "waitMs" in asked.path else served.small.script(asked)

    with serving(gone) as server:
        said = call("wait", ID, SKYCLAW_COORDINATOR_URL=server.url)
    assert said.code == 6
    assert f"come back with: skyclaw wait {ID}\n" in said.err


def test_a_refusal_while_waiting_is_final(call: Call, served: Served) -> None:
    served.small.add_job(ID)

    def forgetful(asked: Asked) -> Reply:
        return refusal(404, "unknown_job", "gone") if "waitMs" in asked.path else served.small.script(asked)

    with serving(forgetful) as server:
        assert call("wait", ID, SKYCLAW_COORDINATOR_URL=server.url).code == 6


def start(served: Served, environ: dict[str, str], cwd: Path) -> "subprocess.Popen[str]":
    """`skyclaw run` as a process, at the point where it waits for the job."""
    process = subprocess.Popen(
        [sys.executable, "-m", "skyclaw", "run", "sleep", "60"],
        cwd=cwd,
        env={**environ, "SKYCLAW_COORDINATOR_URL": served.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert served.small.waited.wait(30)
    return process


def test_ctrl_c_lets_go_of_the_job_and_says_how_to_come_back(served: Served, environ: dict[str, str], tmp_path: Path) -> None:
    with start(served, environ, tmp_path) as process:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    job_id = next(iter(served.small.jobs))
    assert (process.returncode, out) == (130, "")
    assert err.startswith(f"[skyclaw] detached, the job goes on; come back with: skyclaw wait {job_id} ")
    assert served.small.jobs[job_id]["status"] == "queued"


def test_a_second_ctrl_c_cancels_it(served: Served, environ: dict[str, str], tmp_path: Path) -> None:
    with start(served, environ, tmp_path) as process:
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "detached" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    job_id = next(iter(served.small.jobs))
    assert (process.returncode, err) == (130, f"[skyclaw] {job_id} is cancelled\n")
    assert served.small.jobs[job_id]["status"] == "cancelled"


def test_on_a_terminal_the_output_is_escaped_and_progress_is_shown(served: Served, environ: dict[str, str], tmp_path: Path) -> None:
    served.small.at_enqueue = {"status": "completed", "stdout": "\x1b]0;pwn\x07 ok\n"}
    env = {**environ, "SKYCLAW_COORDINATOR_URL": served.url}
    shown = {words: on_a_terminal([sys.executable, "-m", "skyclaw", "run", *words], env, tmp_path) for words in [("x",), ("--raw", "x")]}
    assert rb"\x1b]0;pwn\x07 ok" in shown["x",]
    assert b"\x1b]0;" not in shown["x",]
    assert b"\x1b]0;pwn\x07 ok" in shown["--raw", "x"]


def test_on_a_terminal_a_line_tells_how_the_job_stands_and_is_taken_away(served: Served, environ: dict[str, str], tmp_path: Path) -> None:
    def finish() -> None:
        assert served.small.waited.wait(30)
        served.small.finish(next(iter(served.small.jobs)), stdout="done\n")

    thread = threading.Thread(target=finish)
    thread.start()
    command = [sys.executable, "-m", "skyclaw", "run", "true"]
    shown = on_a_terminal(command, {**environ, "SKYCLAW_COORDINATOR_URL": served.url}, tmp_path)
    thread.join()
    job_id = next(iter(served.small.jobs)).encode()
    assert b"\r\x1b[2K[skyclaw] " + job_id + b" queued, 0 s" in shown
    assert shown.endswith(b"\r\x1b[2Kdone\r\n")


def on_a_terminal(command: list[str], env: dict[str, str], cwd: Path) -> bytes:
    """Everything a command writes to the terminal it runs on."""
    own, its = os.openpty()
    process = subprocess.Popen(command, cwd=cwd, env=env, stdin=its, stdout=its, stderr=its)
    os.close(its)
    seen = b""
    try:
        while piece := os.read(own, 65_536):
            seen += piece
    except OSError:  # the other end is closed
        pass
    assert process.wait(30) == 0
    os.close(own)
    return seen

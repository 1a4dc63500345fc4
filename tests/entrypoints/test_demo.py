"""`skyclaw demo`: shows a job from enqueue to exit code with real processes, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from skyclaw.entrypoints import demo
from skyclaw.entrypoints.demo_stage import DemoFailed, Stage
from skyclaw.entrypoints.interruption import Interruption
from tests.support.real_processes import wait_until


def start(environ: dict[str, str], folder: Path, *words: str) -> "subprocess.Popen[str]":
    """The demo, with every file it makes below `folder`."""
    env = {**environ, "TMPDIR": str(folder)}
    command = [sys.executable, "-m", "skyclaw", "demo", *words]
    return subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def processes_in(folder: Path) -> list[int]:
    """The processes whose working folder lies below `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(folder):
                found.append(int(entry.name))
        except OSError:  # it ended meanwhile, or is somebody else's
            continue
    return found


def test_it_shows_the_job_its_output_and_its_events_and_cleans_up(environ: dict[str, str], tmp_path: Path) -> None:
    foreign = {"SKYCLAW_TOKEN": "x", "SKYCLAW_COORDINATOR_URL": "http://elsewhere", "SKYCLAW_LEASE_MS": "wrong"}
    out, err = start({**environ, **foreign}, tmp_path).communicate(timeout=90)
    assert err == ""
    for said in (
        "  hello from decentralized skyclaw\n",
        "exit code 0",
        "JobEnqueued",
        "JobLeased",
        "JobCompleted",
        "nothing is left behind",
    ):
        assert said in out
    assert "shell, requires shell" in out
    assert "to demo-host for 60 s" in out
    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []


def test_json_gives_the_job_and_its_events(environ: dict[str, str], tmp_path: Path) -> None:
    process = start(environ, tmp_path, "--json")
    said = json.loads(process.communicate(timeout=90)[0])
    assert process.returncode == 0
    assert said["job"]["status"] == "completed"
    assert [event["type"] for event in said["events"]] == ["JobEnqueued", "JobLeased", "JobCompleted"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(environ: dict[str, str], tmp_path: Path, number: signal.Signals) -> None:
    process = start(environ, tmp_path)
    wait_until(lambda: any(pid != process.pid for pid in processes_in(tmp_path)), "the coordinator runs")
    process.send_signal(number)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "[skyclaw] interrupted\n"
    assert "nothing is left behind" not in out
    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []


def test_a_process_that_ends_by_itself_fails_the_demo_with_its_last_words() -> None:
    with Interruption() as interruption, Stage(os.environ, interruption) as stage:
        stage._start("coordinator", {"SKYCLAW_TRUST": "open"})
        with pytest.raises(
            DemoFailed, match=r"the coordinator ended with exit code 3; the coordinator said: \[skyclaw\] SKYCLAW_TRUST=open"
        ):
            stage.until("never", lambda: None)


@pytest.mark.parametrize(
    ("job", "types"),
    [
        ({"status": "failed", "error": "command not allowed: bash"}, ["JobEnqueued", "JobLeased", "JobFailed"]),
        ({"status": "completed", "result": {"exitCode": 0, "stdout": "something else\n"}}, ["JobEnqueued", "JobLeased", "JobCompleted"]),
        ({"status": "completed", "result": {"exitCode": 0, "stdout": f"{demo.GREETING}\n"}}, ["JobEnqueued", "JobCompleted"]),
    ],
)
def test_a_job_that_went_otherwise_fails_the_demo(job: dict[str, object], types: list[str]) -> None:
    with pytest.raises(DemoFailed):
        demo._check(job, [{"type": name} for name in types])

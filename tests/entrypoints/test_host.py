"""`python -m skyclaw host` as a process of its own, and what it makes of its settings."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from skyclaw.entrypoints import host_means
from skyclaw.entrypoints.host import print_line
from skyclaw.entrypoints.settings import HostSettings, host_settings
from tests.support.scripted_server import Reply
from tests.support.stand_in_coordinator import StandInCoordinator, coordinating


@pytest.fixture
def coordinator() -> Iterator[StandInCoordinator]:
    with coordinating() as coordinator:
        yield coordinator


@contextlib.contextmanager
def host(folder: Path, coordinator: StandInCoordinator, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """A host's process; killed if the test leaves it alive."""
    given = {
        "SKYCLAW_HOME": str(folder / "home"),
        "SKYCLAW_COORDINATOR_URL": coordinator.url,
        "SKYCLAW_HOST_NAME": "one",
        "SKYCLAW_ALLOWED_COMMANDS": "sleep,true",
        "SKYCLAW_CAPABILITIES": "shell",
        "SKYCLAW_HEARTBEAT_MS": "100",
    }
    words = [sys.executable, "-m", "skyclaw", "host"]
    env = {**os.environ, **given, **settings}
    with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_signal_drains_the_host_and_it_ends_well(coordinator: StandInCoordinator, tmp_path: Path) -> None:
    with host(tmp_path, coordinator) as process:
        assert process.stdout is not None
        job_id = coordinator.shell("sleep", "1")
        host_id = process.stdout.readline().split()[3]
        assert process.stdout.readline() == f"[skyclaw] running {job_id} (shell)\n"
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=30)
    draining, completed = printed.splitlines()
    assert draining == "[skyclaw] draining: what runs has up to 30 s to finish; a second signal stops at once"
    assert (process.returncode, completed) == (0, f"[skyclaw] completed {job_id}: ok")
    assert coordinator.jobs[job_id].status == "completed"
    assert list(coordinator.hosts) == [host_id]
    assert [found["mode"] for found in coordinator.hosts.values()] == ["draining"]


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(coordinator: StandInCoordinator, tmp_path: Path, second: signal.Signals) -> None:
    with host(tmp_path, coordinator) as process:
        job_id = coordinator.shell("sleep", "600")
        coordinator.until(lambda: coordinator.jobs[job_id].status == "leased")
        process.send_signal(signal.SIGTERM)
        coordinator.until(lambda: any(found["mode"] == "draining" for found in coordinator.hosts.values()))
        process.send_signal(second)
        assert process.wait(20) == 130
    assert coordinator.jobs[job_id].released == ["host_stops"]


def test_a_host_that_is_refused_says_why_and_ends(coordinator: StandInCoordinator, tmp_path: Path) -> None:
    coordinator.before = lambda _: Reply(401, {"error": "unauthorized", "code": "unauthorized"})
    with host(tmp_path, coordinator) as process:
        printed, said = process.communicate(timeout=30)
    assert (process.returncode, printed) == (4, "")
    assert "unauthorized" in said
    assert "Traceback" not in said


def test_a_killed_hosts_jobs_are_released_to_its_next_life(coordinator: StandInCoordinator, tmp_path: Path) -> None:
    job_id = coordinator.shell("sleep", "2")
    with host(tmp_path, coordinator) as process:
        coordinator.until(lambda: coordinator.jobs[job_id].status == "leased")
        process.kill()
    with host(tmp_path, coordinator):
        coordinator.until_done(job_id)
    assert (coordinator.jobs[job_id].released, len(coordinator.hosts)) == (["new life"], 1)


@pytest.fixture
def settings(tmp_path: Path) -> HostSettings:
    return host_settings({"SKYCLAW_HOME": str(tmp_path), "SKYCLAW_HOST_NAME": "one", "SKYCLAW_MAX_PARALLEL": "3"})


def program(folder: Path, name: str) -> None:
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


def test_openclaw_and_automaton_are_advertised_only_when_they_can_be_run(
    settings: HostSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    program(tmp_path, "openclaw")
    program(tmp_path, "automaton")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    able = replace(settings, capabilities=("automaton", "gpu", "openclaw", "shell"), allowed_commands=("openclaw", "bash"), services=0)
    assert host_means.config(able, host_means.means(able).policy).capabilities == ("gpu", "openclaw", "shell")
    assert "capability_missing capability=automaton cause=command not allowed: automaton" in caplog.text
    (tmp_path / "openclaw").unlink()
    assert host_means.config(able, host_means.means(able).policy).capabilities == ("gpu", "shell")
    assert "capability_missing capability=openclaw cause=command not found: openclaw" in caplog.text
    assert "commands_missing commands=openclaw" in caplog.text


def test_the_start_says_when_the_list_of_commands_is_no_boundary(settings: HostSettings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    host_means.means(replace(settings, allowed_commands=("true", "bash")))
    assert "commands_no_boundary commands=bash" in caplog.text


@pytest.mark.parametrize(("uid", "job_user", "warned"), [(0, None, True), (0, "nobody", False), (1000, None, False)])
def test_the_start_warns_when_jobs_run_as_root(
    settings: HostSettings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    uid: int,
    job_user: str | None,
    warned: bool,
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: uid)
    host_means.means(replace(settings, job_user=job_user))
    assert ("jobs_run_as_root" in caplog.text) == warned


@pytest.mark.parametrize(("isolation", "level"), [("auto", "process"), ("process", "process"), ("none", "none")])
def test_auto_means_processes_with_limits(settings: HostSettings, isolation: str, level: str) -> None:
    chosen = replace(settings, isolation=isolation)
    assert host_means.config(chosen, host_means.means(chosen).policy).labels["isolation"] == level


def test_an_isolation_that_is_not_here_is_refused_at_the_start(coordinator: StandInCoordinator, tmp_path: Path) -> None:
    with host(tmp_path, coordinator, SKYCLAW_ISOLATION="bubblewrap") as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "SKYCLAW_ISOLATION=bubblewrap must be auto or none or process" in said


def test_jobs_of_another_user_have_their_folders_where_that_user_can_go(settings: HostSettings, tmp_path: Path) -> None:
    slot = tmp_path / "hosts" / "0"
    assert host_means.work_parent(settings, slot) == slot / "work"
    elsewhere = host_means.work_parent(replace(settings, job_user="nobody"), slot)
    assert tmp_path not in elsewhere.parents
    assert elsewhere != host_means.work_parent(replace(settings, job_user="nobody"), tmp_path / "hosts" / "1")


def test_a_line_about_a_strange_job_cannot_steer_the_terminal_and_a_closed_stdout_does_not_matter(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    print_line("[skyclaw] running job_1 (\x1b]0;pwn\r\n)")
    assert capsys.readouterr().out == "[skyclaw] running job_1 (\\x1b]0;pwn\\r\\n)\n"

    class Closed:
        def write(self, _: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    print_line("to nobody")


def test_a_folder_that_cannot_be_used_ends_the_start(coordinator: StandInCoordinator, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with host(tmp_path, coordinator) as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "cannot be used" in said

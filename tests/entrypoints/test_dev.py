"""`skyclaw dev`: its environment, its port, its lock; and the whole of it as a process that commands find by themselves."""

import json
import os
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from skyclaw.entrypoints import dev
from skyclaw.entrypoints.gateway_settings import gateway_settings
from skyclaw.entrypoints.settings import coordinator_settings, host_settings
from skyclaw.errors import StartRefused
from tests.support.real_processes import lives, wait_until


def test_all_parts_stay_on_this_machine_with_a_token_and_a_folder_of_their_own(tmp_path: Path) -> None:
    owner = {
        "SKYCLAW_COORDINATOR_HOST": "0.0.0.0",  # noqa: S104 must not matter
        "SKYCLAW_GATEWAY_HOST": "0.0.0.0",  # noqa: S104 must not matter
        "SKYCLAW_COORDINATOR_URL": "http://elsewhere",
        "SKYCLAW_DB_PATH": "/elsewhere.db",
        "SKYCLAW_DATABASE_URL": "postgresql://elsewhere",
        "SKYCLAW_LEASE_MS": "5000",
        "SKYCLAW_MAX_PARALLEL": "3",
    }
    environ = dev.dev_environ(owner, tmp_path)
    coordinator, host = coordinator_settings(environ), host_settings({**environ, "SKYCLAW_COORDINATOR_URL": "http://127.0.0.1:1"})
    assert (coordinator.host, coordinator.db_path, coordinator.database_url) == ("127.0.0.1", tmp_path / "coordinator.db", None)
    assert (coordinator.lease_ms, host.max_parallel, host.home) == (5_000, 3, tmp_path)
    assert (gateway_settings(environ).host, gateway_settings(environ).tokens) == ("127.0.0.1", coordinator.tokens)
    assert len(coordinator.tokens[0]) > 30
    assert coordinator.tokens[0] == host.token != dev.dev_environ(owner, tmp_path)["SKYCLAW_TOKEN"]


def test_a_token_of_the_owner_is_used(tmp_path: Path) -> None:
    owner = {"SKYCLAW_TOKEN": "the-owners-own-token"}
    assert dev.dev_environ(owner, tmp_path)["SKYCLAW_TOKEN"] == owner["SKYCLAW_TOKEN"]


def test_the_next_free_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert port < dev.free_port(port) <= port + dev.NEXT_PORTS
    assert dev.free_port(port) == port


def test_only_one_runs_in_a_folder(tmp_path: Path) -> None:
    with dev._alone_in(tmp_path / "dev"), pytest.raises(StartRefused, match="runs already"):
        dev._alone_in(tmp_path / "dev")
    with dev._alone_in(tmp_path / "dev"):
        pass


@pytest.mark.parametrize("kind", ["file", "system"])
def test_a_home_that_cannot_be_used_is_one_line_and_3(environ: dict[str, str], tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").touch()
    home = {"file": str(tmp_path / "file"), "system": "/sys"}[kind]
    ran = skyclaw({**environ, "SKYCLAW_HOME": "", "HOME": home}, tmp_path, "dev")
    assert (ran.returncode, ran.stdout) == (3, "")
    assert ran.stderr.startswith(f"[skyclaw] {home}/.skyclaw/dev cannot be used: ")
    assert ran.stderr.endswith("; set SKYCLAW_HOME to a folder of your own\n")
    assert ran.stderr.count("\n") == 1


@pytest.fixture
def running(environ: dict[str, str], tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A dev with the home of `environ`, once it has said where it is."""
    env = {**environ, "SKYCLAW_COORDINATOR_PORT": "0", "SKYCLAW_GATEWAY_PORT": "0"}
    command = [sys.executable, "-m", "skyclaw", "dev"]
    with (tmp_path / "dev.err").open("wb") as err:
        process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=err, text=True)
    try:
        note = Path(environ["SKYCLAW_HOME"]) / "dev.json"
        wait_until(lambda: note.exists() or process.poll() is not None, "dev has started")
        assert process.poll() is None, (tmp_path / "dev.err").read_text()
        yield process
    finally:
        process.kill()
        process.communicate()


def skyclaw(environ: dict[str, str], folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "skyclaw", *words]
    return subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_commands_find_a_running_dev_without_any_setting(running: "subprocess.Popen[str]", environ: dict[str, str], tmp_path: Path) -> None:
    note = Path(environ["SKYCLAW_HOME"]) / "dev.json"
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    assert stat.S_IMODE(note.parent.stat().st_mode) == 0o700
    assert json.loads(note.read_text())["pid"] == running.pid
    ran = skyclaw(environ, tmp_path, "run", "bash", "-c", "echo hello; echo oh >&2; exit 3")
    assert (ran.stdout, ran.stderr, ran.returncode) == ("hello\n", "oh\n", 3)
    assert requests.get(f"{json.loads(note.read_text())['url']}/v1/hosts", timeout=5).status_code == 401


def test_a_second_dev_in_the_same_home_is_refused(running: "subprocess.Popen[str]", environ: dict[str, str], tmp_path: Path) -> None:
    second = skyclaw(environ, tmp_path, "dev")
    assert (second.returncode, second.stdout) == (3, "")
    assert "skyclaw dev runs already at http://127.0.0.1:" in second.stderr
    assert f"(process {running.pid})" in second.stderr
    assert running.poll() is None


def test_ctrl_c_stops_all_parts_and_leaves_no_note(running: "subprocess.Popen[str]", environ: dict[str, str]) -> None:
    note = Path(environ["SKYCLAW_HOME"]) / "dev.json"
    url = json.loads(note.read_text())["url"]
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=30)
    assert running.returncode == 0
    assert out.startswith("[skyclaw] ")
    assert f"dev: a coordinator and a host at {url}; a gateway at http://127.0.0.1:" in out
    assert "skyclaw run" in out
    assert not note.exists()
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/health", timeout=5)


def test_the_gateway_of_a_dev_knows_its_coordinator(running: "subprocess.Popen[str]") -> None:
    assert running.stdout is not None
    said = next(line for line in running.stdout if "a gateway at" in line)
    answer = requests.get(f"{said.rpartition(' ')[2].strip()}/health", timeout=30)
    said = answer.json()
    assert (said["ok"], said["services"], said["backends"]) == (True, [], {"known": 0, "ejected": 0, "skipped": 0})


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")
def test_the_service_that_it_suggests_answers_where_it_says(
    running: "subprocess.Popen[str]", environ: dict[str, str], tmp_path: Path
) -> None:
    assert running.stdout is not None
    said = (line.strip() for line in running.stdout)
    deploy = next(line for line in said if line.startswith("skyclaw deploy-service"))
    curl = next(line for line in said if line.startswith("curl"))
    ran = skyclaw(environ, tmp_path, *shlex.split(deploy)[1:])
    assert ran.returncode == 0, ran.stderr

    def answered() -> str:
        answer = requests.get(curl.split()[1], timeout=30)
        return answer.text if answer.ok else ""

    assert wait_until(answered, "the gateway has heard of it") == "hello\n"


def test_a_dev_that_was_killed_is_not_found_any_more(running: "subprocess.Popen[str]", environ: dict[str, str], tmp_path: Path) -> None:
    running.kill()
    running.wait()
    asked = skyclaw({**environ, "SKYCLAW_COORDINATOR_URL": ""}, tmp_path, "config", "--json")
    origin = {row["name"]: row["from"] for row in json.loads(asked.stdout)["settings"]}
    assert origin["SKYCLAW_COORDINATOR_URL"] == "default"
    assert os.path.exists(Path(environ["SKYCLAW_HOME"]) / "dev.json")


def test_services_run_here_too_and_end_with_it(running: "subprocess.Popen[str]", environ: dict[str, str]) -> None:
    note = json.loads((Path(environ["SKYCLAW_HOME"]) / "dev.json").read_text())
    headers = {"x-skyclaw-token": note["token"]}
    service = {"name": "web", "command": "bash", "args": ["-c", "echo pid $$; exec sleep 1000"]}
    deployed = requests.post(f"{note['url']}/v1/services", json=service, headers=headers, timeout=10)
    assert deployed.ok, deployed.text

    def printed() -> str:
        (said,) = requests.get(f"{note['url']}/v1/services/web/log", headers=headers, timeout=10).json()["instances"] or [{"text": ""}]
        return str(said["text"])

    pid = int(wait_until(printed, "the service prints").split()[1])
    assert lives(pid)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)
    assert running.returncode == 0
    assert not lives(pid)

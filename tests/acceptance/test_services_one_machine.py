"""A service on one machine, with real processes: deployed as the README says, shipped as a folder, looked at, updated, removed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.real_processes import lives, wait_until
from tests.support.services import API, SERVER, Town, descendants, kill_instance, needs_node, town

pytestmark = [needs_node, pytest.mark.timeout(240)]
CYCLES = int(os.environ.get("SERVICE_CYCLES", "8"))  # 200 take several minutes


@pytest.fixture
def small_town(tmp_path: Path) -> Iterator[Town]:
    with town(tmp_path) as built:
        yield built


def test_the_three_steps_of_the_readme(small_town: Town) -> None:
    deployed = small_town.skyclaw("deploy-service", "--wait", "--health-path=/health", f"--bundle={API}", "api", "node", "dist/server.js")
    assert deployed.returncode == 0, deployed.stderr
    service = small_town.service()
    assert deployed.stdout == service["id"] + "\n"
    (gateway,) = small_town.gateways
    said = wait_until(lambda: small_town.who(gateway), "the gateway serves it")
    assert (said["service"], said["instance"]) == ("api", service["assignments"][0]["instanceId"])
    assert small_town.who(gateway, service["id"]) == said
    echoed = requests.post(gateway.route("api", "echo"), data=b"\0\xff hello", headers={"content-type": "text/odd"}, timeout=10)
    assert (echoed.content, echoed.headers["content-type"]) == (b"\0\xff hello", "text/odd")
    assert [one["name"] for one in json.loads(small_town.skyclaw("list-services").stdout)["services"]] == ["api"]
    assert "node dist/server.js" in small_town.skyclaw("service", "api").stdout
    assert {"api", service["id"]} <= set(requests.get(f"{gateway.url}/health", timeout=5).json()["services"])


def test_a_folder_is_shipped_to_a_host_that_has_never_seen_it(small_town: Town, tmp_path: Path) -> None:
    (far := tmp_path / "far away" / "app").mkdir(parents=True)
    (far / "server.js").write_text(
        'const name = require("node:fs").readFileSync("name.txt", "utf8");'
        'require("node:http").createServer((_, response) => response.end(JSON.stringify({ name }))).listen(process.env.PORT);'
    )
    (far / "name.txt").write_text("shipped")
    deployed = small_town.skyclaw("deploy-service", "--wait", "--bundle=app", "web", "node", "server.js", cwd=far.parent)
    assert deployed.returncode == 0, deployed.stderr
    wait_until(lambda: small_town.who(small_town.gateways[0], "web") == {"name": "shipped"}, "the shipped folder serves")
    (far / "name.txt").write_text("changed")
    assert small_town.skyclaw("deploy-service", "--wait", "--bundle=app", "web", "node", "server.js", cwd=far.parent).returncode == 0
    wait_until(lambda: small_town.who(small_town.gateways[0], "web") == {"name": "changed"}, "the changed folder serves")
    rolled_back = small_town.skyclaw("rollback", "web", "--wait")
    assert rolled_back.returncode == 0, rolled_back.stderr
    wait_until(lambda: small_town.who(small_town.gateways[0], "web") == {"name": "shipped"}, "the former folder serves")


def test_following_the_logs_shows_what_a_request_makes_it_write(small_town: Town) -> None:
    small_town.wait_serving(small_town.deploy())
    command = [sys.executable, "-m", "skyclaw", "service-logs", "-f", "api"]
    with subprocess.Popen(command, env=small_town.environment, cwd=small_town.folder, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert following.stdout.readline().startswith("version 1 listens on ")
        requests.get(f"{small_town.running()[0]['endpoint']}/", timeout=5)
        assert following.stdout.readline() == "asked who is here\n"
        following.send_signal(signal.SIGINT)
        assert following.wait(30) == 130
    assert small_town.skyclaw("service-logs", "api", "-n", "1").stdout == "asked who is here\n"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"args": ["-e", "process.exit(3)"]}, "3"),
        ({"health": {"path": "/nothing-here", "timeoutMs": 1_500}}, "health"),
        ({"command": "no-such-program"}, "no-such-program"),
        ({"command": "python3"}, "command not allowed: python3"),
    ],
    ids=["ends at once", "never healthy", "missing", "not allowed"],
)
def test_a_bad_version_never_takes_over(small_town: Town, bad: dict[str, object], says: str) -> None:
    good = small_town.deploy(env={"API_VERSION": "good"})
    small_town.wait_serving(good)
    before = small_town.running()[0]["instanceId"]
    reason = small_town.wait_failed(small_town.deploy(**bad), patience_s=90)
    assert says in reason
    small = small_town.service()
    assert (small["goodRevision"], small["revision"], small["status"]) == (good, good, "running")
    assert [one["instanceId"] for one in small_town.running()] == [before]
    assert (small_town.who(small_town.gateways[0]) or {})["version"] == "good"


def test_a_bad_update_ends_the_command_that_waits_for_it_with_1_and_the_reason(small_town: Town) -> None:
    small_town.wait_serving(small_town.deploy())
    waited = small_town.skyclaw("deploy-service", "--wait", "api", "no-such-program")
    assert waited.returncode == 1
    assert "no-such-program" in waited.stderr


def test_an_instance_that_dies_is_started_again_where_it_was(small_town: Town) -> None:
    small_town.wait_serving(small_town.deploy())
    killed = kill_instance(small_town)

    def back() -> bool:
        said = small_town.who(small_town.gateways[0])
        return said is not None and said["instance"] == killed["instanceId"]

    wait_until(back, "the same instance answers again")


def test_scale_stop_restart_and_remove_do_what_they_say(small_town: Town) -> None:
    revision = small_town.deploy()
    small_town.wait_serving(revision)
    assert small_town.skyclaw("scale", "api", "3").returncode == 0
    small_town.wait_serving(revision, 3)
    assert len({one["endpoint"] for one in small_town.running()}) == 3
    assert small_town.skyclaw("stop-service", "api").returncode == 0
    wait_until(lambda: not small_town.service()["assignments"], "all instances have ended")
    gateway = small_town.gateways[0]
    wait_until(lambda: requests.get(gateway.route("api"), timeout=5).status_code == 503, "the gateway has no instance to ask")
    assert small_town.skyclaw("restart", "api", "--wait").returncode == 0
    wait_until(lambda: len(small_town.running()) == 3, "as many as before run")
    assert small_town.skyclaw("remove-service", "api").returncode == 0
    wait_until(lambda: json.loads(small_town.skyclaw("list-services").stdout) == {"services": []}, "the service is forgotten")
    assert no_service_is_left(small_town)


def test_a_host_that_is_stopped_leaves_no_process_of_a_service(small_town: Town) -> None:
    small_town.wait_serving(small_town.deploy(replicas=2), 2)
    processes = [small_town.process_of(one) for one in small_town.running()]
    assert small_town.hosts[0].stop() == 0
    assert [process for process in processes if lives(process)] == []


@pytest.mark.timeout(1_800)
def test_updates_and_rollbacks_leave_no_process_port_or_file(small_town: Town) -> None:
    quick: dict[str, object] = {"drainMs": 0}
    small_town.wait_serving(small_town.deploy(env={"API_VERSION": "old"}, **quick))
    host = small_town.hosts[0].process
    assert host is not None
    processes, files = len(descendants(host.pid)), open_files(host.pid)
    for _ in range(CYCLES):
        small_town.wait_serving(small_town.deploy(env={"API_VERSION": "new"}, **quick))
        small_town.wait_serving(small_town.post("api/rollback", {})["revision"])
    assert (small_town.who(small_town.gateways[0]) or {})["version"] == "old"
    assert len(small_town.service()["revisions"]) <= 10
    assert len(descendants(host.pid)) == processes
    assert open_files(host.pid) <= files + 3
    assert len(instance_folders(small_town)) == 1
    assert small_town.skyclaw("remove-service", "api").returncode == 0
    wait_until(lambda: no_service_is_left(small_town), "nothing of the service is left")


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def instance_folders(small_town: Town) -> list[Path]:
    """The folders of instances in the homes of all hosts."""
    return [folder for folder in small_town.folder.glob("host*/home-*/**/services/ins_*") if folder.is_dir()]


def no_service_is_left(small_town: Town) -> bool:
    """Whether no process of the API, and no folder of an instance, is there any more."""
    found = [below for host in small_town.hosts if host.process for below in descendants(host.process.pid)]
    return not instance_folders(small_town) and not [pid for pid in found if SERVER in command_line(pid)]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""

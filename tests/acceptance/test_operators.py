"""What an operator does with real coordinators: looks, turns out, leaves, forces, brings a backup back."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.real_processes import TOKEN, CoordinatorProcess, clean_environment, wait_until

JOB = {"payload": {"kind": "shell", "command": "true"}}
LABELS = ("kitchen", "attic", "cellar")


class Network:
    """Three coordinators, each of which knows the first."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.all = folder, list[CoordinatorProcess]()
        for label in LABELS:
            self.all.append(self.add(label))

    def add(self, label: str) -> CoordinatorProcess:
        """One more coordinator, not started."""
        home = self.folder / label
        home.mkdir()
        one = CoordinatorProcess(home, SKYCLAW_COORDINATOR_NODE_ID=label, SKYCLAW_PEER_SYNC_MS=200, SKYCLAW_PEER_HEARTBEAT_MS=100)
        one.env["SKYCLAW_COORDINATOR_PUBLIC_URL"] = one.url
        one.env["SKYCLAW_PEER_URLS"] = self.all[0].url if self.all else ""
        return one

    def start(self) -> None:
        for one in self.all:
            one.start()
        wait_until(lambda: all(self.settled(one) for one in self.all), "every log has three voters", 60)

    def kill(self) -> None:
        for one in self.all:
            one.kill()

    def settled(self, one: CoordinatorProcess, voters: int = 3) -> bool:
        logs = one.get("/v1/network/logs")["logs"]
        return len(logs) >= 3 and all(len(log["voters"]) >= voters and log["settled"] and log["owner"] for log in logs)

    def skyclaw(self, at: CoordinatorProcess, *words: str, code: int | None = 0, **settings: object) -> subprocess.CompletedProcess[str]:
        """A command, asked of one of them."""
        env = clean_environment(self.folder / "home", SKYCLAW_COORDINATOR_URL=at.url, SKYCLAW_TOKEN=TOKEN, **settings)
        command = [sys.executable, "-m", "skyclaw", *words]
        done = subprocess.run(command, env=env, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False)
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done

    def peers(self, at: CoordinatorProcess) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.skyclaw(at, "peers", "--json").stdout)
        return found


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    them = Network(tmp_path)
    with ExitStack() as stops:
        stops.callback(them.kill)
        them.start()
        yield them


def test_everybody_and_every_log_is_listed(network: Network) -> None:
    said = network.skyclaw(network.all[1], "peers").stdout
    assert all(one.url in said for one in network.all)
    for label in LABELS:
        assert f" {label} " in said
    known = network.peers(network.all[0])
    assert len({log["owner"] for log in known["logs"]}) == 3
    assert {tuple(log["voters"]) for log in known["logs"]} == {tuple(sorted({known["node"], *(o["node"] for o in known["coordinators"])}))}


def test_one_is_joined_by_hand_and_an_address_where_nobody_is_given_up(network: Network) -> None:
    first, shed = network.all[0], network.add("shed")
    shed.env["SKYCLAW_PEER_URLS"] = ""
    network.all.append(shed)
    missed = network.skyclaw(first, "join", shed.url, code=1)
    assert f"kitchen has not admitted {shed.url}: " in missed.stderr
    assert f"not admitted: {shed.url}" in network.skyclaw(first, "peers").stderr
    assert network.skyclaw(first, "join", "--forget", shed.url).stdout == f"kitchen has forgotten {shed.url}\n"
    wait_until(lambda: f"not admitted: {shed.url}" not in network.skyclaw(first, "peers").stderr, "it is forgotten")
    shed.start()
    admitted = f"kitchen has admitted {shed.url}\n"
    wait_until(lambda: network.skyclaw(first, "join", shed.url, code=None).stdout == admitted, "it is admitted", 60)


def test_one_leaves_and_can_be_stopped_for_good(network: Network) -> None:
    leaving, staying = network.all[2], network.all[0]
    accepted = leaving.post("/v1/jobs", JOB)["job"]["id"]
    said = network.skyclaw(leaving, "leave")
    assert "votes nowhere and owns nothing: it can be stopped" in said.stdout
    leaving.stop()
    assert staying.get(f"/v1/jobs/{accepted}")["job"]["status"] == "queued"
    assert staying.post("/v1/jobs", JOB)["job"]["status"] == "queued"


def test_one_is_turned_out_and_replaced_where_it_voted(network: Network) -> None:
    first, second, third = network.all
    network.all.append(network.add("shed"))
    network.all[3].start()
    wait_until(lambda: len(network.peers(second)["coordinators"]) == 3, "the fourth is known")
    gone = network.peers(third)["node"]
    said = network.skyclaw(second, "evict", "cellar", "--yes")
    assert said.stdout == f"{gone} is turned out; where it votes it is replaced as soon as another one is level\n"
    for one in (first, second):
        wait_until(lambda one=one: gone not in {peer["node"] for peer in network.peers(one)["coordinators"]}, "it is no peer any more")
        wait_until(lambda one=one: all(gone not in log["voters"] for log in one.get("/v1/network/logs")["logs"]), "it votes nowhere", 60)
        assert one.post("/v1/jobs", JOB)["job"]["status"] == "queued"


def test_a_log_that_lost_its_voters_is_forced_where_the_best_copy_is(network: Network) -> None:
    first, second, third = network.all
    accepted = second.post("/v1/jobs", JOB)["job"]["id"]
    log = accepted[4:12]
    wait_until(lambda: first.get(f"/v1/jobs/{accepted}"), "the job is known everywhere")
    second.kill()
    third.kill()
    wanted = ("force-takeover", "--log", log, "--voters", "kitchen", "--copies", "1", "--reason", "two disks died")
    shown = network.skyclaw(first, *wanted, code=2)
    assert "not reached" in shown.stdout
    assert "is lost for good" in shown.stderr
    said = network.skyclaw(first, *wanted, "--i-know")
    assert f"kitchen owns log {log} from now on, in epoch 1.1.kitchen#" in said.stdout
    wait_until(lambda: next(one for one in first.get("/v1/network/logs")["logs"] if one["log"] == log)["inContact"], "it is at work")
    assert first.post(f"/v1/jobs/{accepted}/cancel", {})["job"]["status"] == "cancelled"


def test_a_backup_brought_back_among_others_is_a_new_node_that_catches_up(network: Network) -> None:
    first, _, third = network.all
    for _ in range(3):
        third.post("/v1/jobs", JOB)
    copy, database = str(network.folder / "copy.db"), third.env["SKYCLAW_DB_PATH"]
    network.skyclaw(third, "backup", copy, SKYCLAW_DB_PATH=database)
    late = third.post("/v1/jobs", JOB)["job"]["id"]
    third.kill()
    network.skyclaw(third, "restore", copy, "--replace", SKYCLAW_DB_PATH=database, SKYCLAW_COORDINATOR_NODE_ID="cellar")
    before = {one["node"] for one in network.peers(first)["coordinators"]}
    third.start()
    wait_until(lambda: third.get("/health")["ready"], "the restored coordinator is ready", 60)
    assert wait_until(lambda: third.get(f"/v1/jobs/{late}"), "what came after the backup is there")["job"]["status"] == "queued"
    known = network.peers(third)
    assert known["node"] not in before
    assert len(known["logs"]) == 4
    assert third.post("/v1/jobs", JOB)["job"]["status"] == "queued"

"""Services while coordinators, hosts and instances are killed, stopped and started in turn, and users change their minds; then all is well.

One coordinator and one host are always in trouble, until it is the next one's turn. The order is drawn once and for all.
"""

import os
import random
import signal
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from skyclaw import events as ev
from skyclaw.codec import CODEC
from skyclaw.services.service import Service, evolve
from tests.support.cluster import Member
from tests.support.real_processes import GatewayProcess, HostProcess, Process, wait_until
from tests.support.services import Town, needs_node, town

pytestmark = [needs_node, pytest.mark.timeout(240)]
SEED = 11
NAMES = ("one", "two")
ENOUGH = 30  # answers between two disturbances
ROUNDS = int(os.environ.get("SERVICE_ROUNDS", "2"))  # 50 take several minutes


class Passer(threading.Thread):
    """Asks who is there, again and again, and notes which versions of which service answer."""

    def __init__(self, gateway: GatewayProcess) -> None:
        super().__init__(name="passer", daemon=True)
        self.seen: set[tuple[str, str, str]] = set()  # asked for, answered by, its version
        self.answers = 0
        self._gateway, self._over = gateway, threading.Event()

    def run(self) -> None:
        with requests.Session() as session:
            session.trust_env = False
            while not self._over.wait(0.02):
                for name in NAMES:
                    with suppress(requests.RequestException, ValueError):
                        answer = session.get(self._gateway.route(name), timeout=5)
                        if answer.ok:
                            said = answer.json()
                            self.seen.add((name, said["service"], said["version"]))
                            self.answers += 1

    def wait_for(self, count: int) -> None:
        """Wait until so many more answers have come."""
        wanted = self.answers + count
        wait_until(lambda: self.answers >= wanted, f"{count} more answers", 90)

    def end(self) -> None:
        """Go away."""
        self._over.set()
        self.join(30)


class Trouble:
    """What may happen to a town."""

    def __init__(self, built: Town, draw: random.Random) -> None:
        self._town, self._draw, self.mark = built, draw, uuid.uuid4().hex
        self.replicas = dict.fromkeys(NAMES, 2)
        self._deployed = 0
        self._heal: dict[str, Callable[[], object]] = {}  # what ends the trouble of a coordinator, or a host

    # Users

    def deploy(self, name: str | None = None, version: str = "good", **fields: object) -> None:
        """A revision that works, unless it is said otherwise."""
        name, self._deployed = name or self._name(), self._deployed + 1
        env = {"API_VERSION": f"{version}-{self._deployed}", "TOWN": self.mark}
        self._town.deploy(name, env=env, replicas=self.replicas[name], drainMs=200, **fields)

    def deploy_what_ends_at_once(self) -> None:
        self.deploy(version="bad", args=["-e", "process.exit(3)"])

    def deploy_what_is_never_healthy(self) -> None:
        self.deploy(version="bad", health={"path": "/nothing-here", "timeoutMs": 1_000})

    def scale(self) -> None:
        name = self._name()
        self.replicas[name] = self._draw.randint(1, 4)
        self._town.post(f"{name}/scale", {"replicas": self.replicas[name]})

    def restart(self) -> None:
        self._town.post(f"{self._name()}/restart", {})

    def remove_and_deploy_again(self) -> None:
        name = self._name()
        self._town.client.delete(f"/v1/services/{name}", uuid.uuid4().hex)
        self.deploy(name)

    # Fate

    def kill_a_coordinator(self) -> None:
        member = self._coordinator()
        member.kill()
        self._heal["coordinator"] = member.launch

    def stop_a_coordinator(self) -> None:
        member = self._coordinator()
        member.stop()
        self._heal["coordinator"] = member.launch

    def pause_a_coordinator(self) -> None:
        member = self._coordinator()
        member.pause()
        self._heal["coordinator"] = member.resume

    def kill_a_host(self) -> None:
        host = self._host()
        host.kill()
        self._heal["host"] = lambda: Process.start(host)

    def stop_a_host(self) -> None:
        host = self._host()
        host.stop()
        self._heal["host"] = lambda: Process.start(host)

    def heal(self, *kinds: str) -> None:
        """All of these are well again."""
        for kind in kinds:
            self._heal.pop(kind, bool)()

    def kill_an_instance(self) -> None:
        if found := sorted(self.processes()):
            os.kill(self._draw.choice(found), signal.SIGKILL)

    def processes(self) -> dict[int, str]:
        """The processes of instances in this town: which instance each is one of."""
        found = {}
        for folder in Path("/proc").iterdir():
            with suppress(OSError):
                env = (folder / "environ").read_text(errors="replace").split("\0") if folder.name.isdigit() else []
                if f"TOWN={self.mark}" in env:
                    found[int(folder.name)] = next(one.partition("=")[2] for one in env if one.startswith("SKYCLAW_INSTANCE_ID="))
        return found

    def _coordinator(self) -> Member:
        self.heal("coordinator")
        return self._draw.choice(self._town.cluster.members)

    def _host(self) -> HostProcess:
        self.heal("host")
        return self._draw.choice(self._town.hosts)

    def _name(self) -> str:
        return self._draw.choice(NAMES)


@pytest.fixture
def built(tmp_path: Path) -> Iterator[Town]:
    with town(tmp_path, coordinators=3, hosts=2, gateways=1) as built:
        yield built


def test_after_all_kinds_of_trouble_every_service_is_as_it_is_wanted(built: Town) -> None:
    trouble = Trouble(built, draw := random.Random(SEED))  # noqa: S311  # no secret
    for name in NAMES:
        trouble.deploy(name)
    for name in NAMES:
        wait_until(lambda name=name: len(built.running(name)) == 2, f"{name} runs")
    passer = Passer(built.gateways[0])
    passer.start()
    among_users = [
        *[trouble.deploy] * 2,
        trouble.deploy_what_ends_at_once,
        trouble.deploy_what_is_never_healthy,
        trouble.remove_and_deploy_again,
    ]
    among_users += [trouble.scale, trouble.scale, trouble.restart]
    of_fate = [trouble.kill_a_coordinator, trouble.stop_a_coordinator, trouble.pause_a_coordinator]
    of_fate += [trouble.kill_a_host, trouble.stop_a_host, *[trouble.kill_an_instance] * 3]
    for _ in range(ROUNDS):
        draw.shuffle(among_users)
        draw.shuffle(of_fate)
        for wish, blow in zip(among_users, of_fate, strict=True):
            blow()
            wish()
            passer.wait_for(ENOUGH)
    trouble.heal("coordinator", "host")
    for member in built.cluster.members:
        wait_until(member.answers, f"{member.label} answers")
    wait_until(lambda: is_settled(built, trouble), f"all is as it is wanted: {trouble.replicas}, {built.describe('one')}", 120)
    passer.end()
    shown = [service for name in NAMES for service in built.running(name)]
    assert {one["instanceId"]: who(one) for one in shown} == {one["instanceId"]: one["instanceId"] for one in shown}
    wait_until(lambda: sorted(trouble.processes().values()) == sorted(one["instanceId"] for one in shown), "no other process is left")
    assert passer.seen
    assert not [seen for seen in passer.seen if seen[0] != seen[1] or seen[2].startswith("bad")]
    for service in built.client.get("/v1/services")["services"]:
        check_history(built, service["id"])


def is_settled(built: Town, trouble: Trouble) -> bool:
    """Do all coordinators show the same, and each service with the instances that are wanted and no others?"""
    views: list[Any] = []
    for member in built.cluster.members:
        with suppress(AssertionError, requests.RequestException):
            services = member.get("/v1/services")["services"]
            views.append([{name: value for name, value in one.items() if name != "updatedBy"} for one in services])
    if len(views) < len(built.cluster.members) or any(view != views[0] for view in views):
        return False
    return [one["name"] for one in views[0] if has_settled(one, trouble)] == [one["name"] for one in views[0]] and len(views[0]) == len(
        NAMES
    )


def has_settled(service: dict[str, Any], trouble: Trouble) -> bool:
    there = [(one["status"], one["revision"]) for one in service["assignments"]]
    return service["rollout"]["state"] != "rolling" and there == [("running", service["revision"])] * trouble.replicas[service["name"]]


def who(instance: dict[str, Any]) -> str:
    """The id that the instance itself says it has."""
    return str(requests.get(f"{instance['endpoint']}/", timeout=5).json()["instance"])


def check_history(built: Town, service_id: str) -> None:
    """No instance was placed twice, and never more than one too many."""
    service: Service | None = None
    placed: set[str] = set()
    with sqlite3.connect(f"file:{built.cluster[0].folder}/coordinator.db?mode=ro", uri=True) as database:
        rows = database.execute("SELECT type, version, data, at FROM event WHERE stream = ? ORDER BY seq", (service_id,)).fetchall()
    for kind, version, data, at in rows:
        event = CODEC.decode(kind, version, data)
        service = evolve(service, event, at)
        if isinstance(event, ev.InstancePlaced):
            assert service is not None
            assert event.instance_id not in placed
            assert len(service.live) <= service.wanted + 1
            placed.add(event.instance_id)

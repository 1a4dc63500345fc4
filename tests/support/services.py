"""A real set-up for services: coordinators, hosts and gateways as processes, a small API to deploy, and visitors who use it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.cluster import Cluster, steady_port
from tests.support.real_processes import ROOT, GatewayProcess, HostProcess, clean_environment, wait_until

API = ROOT / "fixtures" / "typescript-api"
SERVER = str(API / "dist" / "server.js")
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
LEASE_MS = 3_000
POST_MS = 400  # from the moment when a POST has been counted to its answer: whoever dies has probably counted some that are not answered
QUICK_HOST = {"SKYCLAW_HEARTBEAT_MS": 300, "SKYCLAW_POLL_MS": 100}
QUICK_GATEWAY = {"SKYCLAW_GATEWAY_REFRESH_MS": 300, "SKYCLAW_GATEWAY_HEALTH_PROBE_MS": 500, "SKYCLAW_GATEWAY_UNHEALTHY_COOLDOWN_MS": 2_000}


class Town:
    """So many coordinators, hosts and gateways, and what one does with services there."""

    def __init__(self, folder: Path, coordinators: int, hosts: int, gateways: int, **settings: object) -> None:
        self.folder = folder
        self.cluster = Cluster(folder, coordinators, **{"SKYCLAW_SERVICE_LEASE_MS": LEASE_MS, **settings})
        self.client = self.cluster.client()
        self.hosts = [self.new_host(f"host{number}") for number in range(hosts)]
        self.gateways = [self.new_gateway(f"gateway{number}") for number in range(gateways)]

    def new_host(self, name: str, **settings: object) -> HostProcess:
        """A host of services, not started yet, in a directory of its own."""
        (folder := self.folder / name).mkdir()
        own = {"SKYCLAW_ALLOWED_COMMANDS": "node,sh,no-such-program", "SKYCLAW_SERVICE_BASE_PORT": steady_port()}
        return HostProcess(folder, *self.cluster.urls, name=name, **{**own, **QUICK_HOST, **settings})

    def new_gateway(self, name: str, **settings: object) -> GatewayProcess:
        """A gateway, not started yet; it keeps its port."""
        return GatewayProcess(self.folder, steady_port(), *self.cluster.urls, name=name, **{**QUICK_GATEWAY, **settings})

    def skyclaw(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """One call of the command line."""
        return subprocess.run(
            [sys.executable, "-m", "skyclaw", *words],
            env=self.environment,
            cwd=cwd or self.folder,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    @property
    def environment(self) -> dict[str, str]:
        """That of the command line."""
        return clean_environment(self.folder / "cli", SKYCLAW_COORDINATOR_URLS=",".join(self.cluster.urls), PYTHONPATH=ROOT)

    # Services

    def deploy(self, name: str = "api", *, command: str = "node", args: Sequence[str] = (SERVER,), **fields: object) -> int:
        """Deploy the small API, or what else is said; returns the number of the revision."""
        own = {"name": name, "command": command, "args": list(args), "health": {"path": "/health"}, "drainMs": 500}
        return int(self.client.post("/v1/services", {**own, **fields}, key=uuid.uuid4().hex)["service"]["revision"])

    def post(self, path: str, body: dict[str, object]) -> dict[str, Any]:
        """What a change of a service is answered."""
        return self.client.post(f"/v1/services/{path}", body, key=uuid.uuid4().hex)["service"]  # type: ignore[no-any-return]

    def service(self, name: str = "api") -> dict[str, Any]:
        """Its record, as one of the coordinators shows it."""
        return self.client.get(f"/v1/services/{name}")["service"]  # type: ignore[no-any-return]

    def running(self, name: str = "api", revision: int | None = None) -> list[dict[str, Any]]:
        """Its instances that run, of that revision if one is named."""
        found = [one for one in self.service(name)["assignments"] if one["status"] == "running"]
        return [one for one in found if revision in (None, one["revision"])]

    def wait_serving(self, revision: int, count: int = 1, name: str = "api", patience_s: float = 60) -> None:
        """Wait until so many instances of this revision run, no others, and every gateway serves it."""

        def serves() -> bool:
            service = self.service(name)
            running = [one for one in service["assignments"] if one["status"] == "running"]
            settled = service["rollout"] == {"revision": revision, "state": "succeeded"} and len(running) == count
            return settled and {one["revision"] for one in service["assignments"]} == {revision}

        wait_until(serves, f"{count} of revision {revision} serve; {self.describe(name)}", patience_s)
        for gateway in self.gateways:
            if gateway.process is not None:
                wait_until(lambda gateway=gateway: self.who(gateway, name), f"{gateway.url} serves {name}")

    def wait_failed(self, revision: int, name: str = "api", patience_s: float = 60) -> str:
        """Wait until the rollout of this revision has failed; returns the reason."""
        outcome = {"revision": revision, "state": "failed"}

        def failed() -> Any:
            rollout = self.service(name)["rollout"]
            return outcome.items() <= rollout.items() and rollout.get("reason")

        return str(wait_until(failed, f"revision {revision} fails", patience_s))

    def who(self, gateway: GatewayProcess, name: str = "api") -> dict[str, Any] | None:
        """Who answers through this gateway; None when nobody does."""
        with suppress(requests.RequestException):
            answer = requests.get(gateway.route(name), timeout=5)
            if answer.ok:
                return answer.json()  # type: ignore[no-any-return]
        return None

    def process_of(self, instance: dict[str, Any]) -> int:
        """The process id of an instance, from itself."""
        return int(requests.get(f"{instance['endpoint']}/", timeout=5).json()["pid"])

    def describe(self, name: str = "api") -> str:
        """How it all stands, for a failed test."""
        with suppress(Exception):
            return f"{self.service(name)}\n" + "\n".join(process.printed[-1_000:] for process in (*self.hosts, *self.gateways))
        return "no coordinator answers"


@contextmanager
def town(folder: Path, coordinators: int = 1, hosts: int = 1, gateways: int = 1, **settings: object) -> Iterator[Town]:
    """A town whose processes have started; all of them are killed at the end."""
    with ExitStack() as stack:
        built = Town(folder, coordinators, hosts, gateways, **settings)
        stack.callback(built.client.close)
        stack.callback(built.cluster.end)
        built.cluster.start()
        for process in (*built.hosts, *built.gateways):
            stack.callback(process.kill)
            process.start()
        yield built


@dataclass
class Tally:
    """What came of the requests of one kind."""

    sent: int = 0
    failed: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """How many of them were answered well."""
        return 1 - len(self.failed) / self.sent if self.sent else 1.0


class Visitors:
    """Send so many requests a second through the gateways in turn, one in five of them a POST.

    A GET that one gateway does not answer well is sent to the next, as the README tells users to; `first` counts it for the gateway that it
    was sent to at first. A POST is sent once.
    """

    def __init__(self, gateways: Sequence[GatewayProcess], name: str = "api", rate: float = 50.0, threads: int = 10) -> None:
        self.gets, self.posts = Tally(), Tally()
        self.first = {gateway.url: Tally() for gateway in gateways}
        self.versions: set[str] = set()
        self._gateways, self._name, self._pause_s = list(gateways), name, threads / rate
        self._lock, self._over = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._visit, args=(number,), name=f"visitor {number}") for number in range(threads)]

    def __enter__(self) -> Visitors:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def wait_for(self, count: int) -> None:
        """Wait until so many more GETs have been answered."""
        wanted = self.gets.sent + count
        wait_until(lambda: self.gets.sent >= wanted, f"{count} more requests", 90)

    def _visit(self, number: int) -> None:
        due = time.monotonic() + number * self._pause_s / len(self._threads)
        with requests.Session() as session:
            session.trust_env = False
            turn = number
            while not self._over.wait(max(0.0, due - time.monotonic())):
                turn += 1
                due = max(due + self._pause_s, time.monotonic() - 1.0)
                order = self._gateways[turn % len(self._gateways) :] + self._gateways[: turn % len(self._gateways)]
                if turn % 5 == 0:
                    self._post(session, order[0])
                else:
                    self._get(session, order)

    def _get(self, session: requests.Session, order: Sequence[GatewayProcess]) -> None:
        trouble = ""
        for place, gateway in enumerate(order):
            trouble, version = _attempt(session, gateway.route(self._name))
            with self._lock:
                if place == 0:
                    self.first[gateway.url].sent += 1
                    self.first[gateway.url].failed += [trouble] * bool(trouble)
                if version:
                    self.versions.add(version)
            if not trouble:
                break
        with self._lock:
            self.gets.sent += 1
            self.gets.failed += [trouble] * bool(trouble)

    def _post(self, session: requests.Session, gateway: GatewayProcess) -> None:
        trouble = ""
        try:
            url = gateway.route(self._name, f"count?ms={POST_MS}")
            answer = session.post(url, data=uuid.uuid4().hex, timeout=20)
            trouble = "" if answer.ok else f"{answer.status_code} {answer.text[:200]}"
        except requests.RequestException as failure:
            trouble = repr(failure)
        with self._lock:
            self.posts.sent += 1
            self.posts.failed += [trouble] * bool(trouble)


def _attempt(session: requests.Session, url: str) -> tuple[str, str]:
    """What was wrong with the answer (empty: nothing), and the version that gave it."""
    try:
        answer = session.get(url, timeout=20)
        if answer.ok:
            return "", str(answer.json()["version"])
    except (requests.RequestException, ValueError) as failure:
        return repr(failure), ""
    return f"{answer.status_code} {answer.text[:200]}", ""


def kill_instance(town: Town, name: str = "api") -> dict[str, Any]:
    """SIGKILL to the process of one running instance; returns the instance."""
    victim = town.running(name)[0]
    os.kill(town.process_of(victim), signal.SIGKILL)
    return victim


def descendants(pid: int) -> set[int]:
    """All processes below this one."""
    found: set[int] = set()
    new = {pid}
    while new:
        new = {child for parent in new for child in _children(parent)} - found
        found |= new
    return found


def _children(pid: int) -> set[int]:
    with suppress(OSError):
        return {int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in (task / "children").read_text().split()}
    return set()

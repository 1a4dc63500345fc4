"""The gateway with two workers against node's http-proxy, before the same instances; and how soon a service is there, and there again."""

import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.benchmarks.children import Child
from tests.benchmarks.figures import Figure, Target
from tests.benchmarks.loads import Load, flood
from tests.benchmarks.rounds import Take, in_turns
from tests.benchmarks.stage import Stage
from tests.benchmarks.wire import Address, request
from tests.support.real_processes import CoordinatorProcess, GatewayProcess, Process, free_port, wait_until
from tests.support.services import SERVER

CONNECTIONS: dict[int, Target | None] = {1: None, 16: Target(0.4), 64: None}
AT_ONCE = {"SKYCLAW_GATEWAY_MAX_PER_INSTANCE": 64, "SKYCLAW_GATEWAY_MAX_PER_SERVICE": 64}  # to each worker: connections spread unevenly
INSTANCES = 4
PROXY = Path(__file__).with_name("proxy.js")
HTTP_PROXY = "http-proxy@1.18.1"
NPM_S = 120
NAME = "api"


class NoProxy(Exception):
    """There is no http-proxy to be held against, for this reason."""


class Way:
    """One way to the instances; remembers how long the middle request took, each time that it is measured."""

    def __init__(self, child: Child, place: Address, path: str, connections: int, seconds: float) -> None:
        self._flood = partial(child.call, flood, place, request("GET", path), connections, seconds)
        self.p50_ms: list[float] = []

    def rate(self) -> float:
        """Requests a second."""
        load: Load = self._flood()
        self.p50_ms.append(load.step_s[0] * 1000)
        return load.rate


def measure(stage: Stage) -> Iterator[Figure]:
    """Requests a second and what a request takes longer than without a gateway; then deployment and death of an instance."""
    coordinator = stage.coordinator()
    stage.host(coordinator, SKYCLAW_ALLOWED_COMMANDS="node", SKYCLAW_SERVICE_BASE_PORT=free_port())
    gateway = _gateway(stage, coordinator)
    yield _deployment(stage, coordinator, gateway)
    yield _death(stage, coordinator, gateway)
    upstreams = _upstreams(coordinator, INSTANCES)
    try:
        proxy: Address | str = _http_proxy(stage, upstreams)
    except NoProxy as reason:
        proxy = str(reason)
    child = stage.child()
    for connections, target in CONNECTIONS.items():
        yield from _traffic(stage, child, gateway, proxy, upstreams[0], connections, target)


def _gateway(stage: Stage, coordinator: CoordinatorProcess) -> GatewayProcess:
    gateway = GatewayProcess(
        stage.folder("gateway"), free_port(), coordinator.url, SKYCLAW_GATEWAY_WORKERS=2, SKYCLAW_GATEWAY_REFRESH_MS=200, **AT_ONCE
    )
    stage.start(gateway)
    wait_until(gateway.answers, f"the gateway answers; it printed: {gateway.printed}")
    return gateway


def _traffic(
    stage: Stage, child: Child, gateway: GatewayProcess, proxy: Address | str, upstream: str, connections: int, target: Target | None
) -> Iterator[Figure]:
    seconds, scale = stage.scale.seconds, stage.scale
    ours = Way(child, _address(gateway.url), f"/v1/gateway/{NAME}/health", connections, seconds)
    direct = Way(child, _address(upstream), "/health", connections, seconds)
    plural = "s" * (connections > 1)
    name = f"GET through the gateway, {connections} connection{plural}"
    if isinstance(proxy, str):
        rounds = in_turns([ours.rate, direct.rate], scale.rounds, scale.within_s)
        yield Figure("gateway", f"{name} (http-proxy not measured: {proxy})", rounds.median(0), "requests/s")
        return
    theirs = Way(child, proxy, "/health", connections, seconds)
    takes: list[Take] = [ours.rate, theirs.rate, direct.rate]
    rounds = in_turns(takes, scale.rounds, scale.within_s)
    yield Figure("gateway", name, rounds.median(0), "requests/s", rounds.median(1), "http-proxy", rounds.ratio(0, 1), target)
    yield Figure("gateway", "... one instance asked directly", rounds.median(2), "requests/s", rounds.median(1), "http-proxy")
    added = [median(way.p50_ms) - median(direct.p50_ms) for way in (ours, theirs)]
    most = Target(2, most=True) if target is not None else None
    yield Figure("gateway", "... what it adds to a request, p50", added[0], "ms", added[1], "ms http-proxy", added[0] / added[1], most)


def _deployment(stage: Stage, coordinator: CoordinatorProcess, gateway: GatewayProcess) -> Figure:
    """From the request to deploy to the first answer through the gateway, against the first answer of a process that is started by hand."""

    def deployed_ms() -> float:
        name, began = f"{NAME}-{uuid.uuid4().hex[:8]}", time.perf_counter()
        _deploy(coordinator, name, 1)
        wait_until(lambda: _answer(gateway.route(name)), "the new service answers")
        took = time.perf_counter() - began
        _remove(coordinator, name)
        return took * 1000

    rounds = in_turns([deployed_ms, _started_ms], stage.scale.rounds, stage.scale.within_s)
    name = "from deploy-service to the first answer"
    return Figure("gateway", name, rounds.median(0), "ms", rounds.median(1), "ms node alone", rounds.ratio(0, 1))


def _started_ms() -> float:
    port, began = free_port(), time.perf_counter()
    with subprocess.Popen(["node", SERVER], env={**os.environ, "PORT": str(port)}, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: _answer(f"http://127.0.0.1:{port}/"), "the process answers")
            return (time.perf_counter() - began) * 1000
        finally:
            process.kill()


def _death(stage: Stage, coordinator: CoordinatorProcess, gateway: GatewayProcess) -> Figure:
    """From SIGKILL to the instance that was just asked to the first answer of another one."""
    _deploy(coordinator, NAME, INSTANCES)
    took_ms = []
    for _ in range(stage.scale.rounds):
        _upstreams(coordinator, INSTANCES)
        victim: dict[str, Any] = wait_until(lambda: _answer(gateway.route(NAME)), "the service answers")
        os.kill(victim["pid"], signal.SIGKILL)
        began = time.perf_counter()
        wait_until(lambda pid=victim["pid"]: _is_of_another(gateway, pid), "another instance answers")
        took_ms.append((time.perf_counter() - began) * 1000)
        wait_until(lambda pid=victim["pid"]: _all_answer(coordinator, pid), "it has been started again")
    return Figure("gateway", "from the death of an instance to the first answer of another", median(took_ms), "ms")


def _deploy(coordinator: CoordinatorProcess, name: str, replicas: int) -> None:
    body = {"name": name, "command": "node", "args": [SERVER], "replicas": replicas, "health": {"path": "/health"}, "drainMs": 0}
    coordinator.post("/v1/services", body)


def _remove(coordinator: CoordinatorProcess, name: str) -> None:
    url = f"{coordinator.url}/v1/services/{name}"
    coordinator.session.delete(url, timeout=10).raise_for_status()
    wait_until(lambda: coordinator.session.get(url, timeout=10).status_code == requests.codes.not_found, "the service is gone")


def _upstreams(coordinator: CoordinatorProcess, count: int) -> list[str]:
    """The addresses of the instances, when so many run."""

    def running() -> list[str]:
        found = coordinator.get(f"/v1/services/{NAME}")["service"]["assignments"]
        return [str(one["endpoint"]) for one in found if one["status"] == "running"]

    def complete() -> list[str] | None:
        return found if len(found := running()) == count else None

    found: list[str] = wait_until(complete, f"{count} instances run")
    return found


def _all_answer(coordinator: CoordinatorProcess, dead: int) -> bool:
    answers = [_answer(url) for url in _upstreams(coordinator, INSTANCES)]
    return all(answer is not None and answer["pid"] != dead for answer in answers)


def _is_of_another(gateway: GatewayProcess, pid: int) -> bool:
    answer = _answer(gateway.route(NAME))
    return answer is not None and answer["pid"] != pid


def _answer(url: str) -> dict[str, Any] | None:
    """What is said there; None when it is nothing good."""
    with suppress(requests.RequestException):
        answer = requests.get(url, timeout=2)
        if answer.ok:
            return answer.json()  # type: ignore[no-any-return]
    return None


def _http_proxy(stage: Stage, upstreams: list[str]) -> Address:
    """Start it; raises NoProxy."""
    folder = stage.folder("proxy")
    process = Process(["node", str(PROXY), str(_installed()), *upstreams], os.environ, folder, "proxy")
    stage.start(process)
    return "127.0.0.1", int(wait_until(lambda: process.printed.strip(), "http-proxy tells its port"))


def _installed() -> Path:
    """The folder of http-proxy, which npm fetches once for all measurements; raises NoProxy."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skyclaw-benchmarks"
    found = home / "node_modules" / "http-proxy"
    if found.is_dir():
        return found
    npm = shutil.which("npm")
    if npm is None:
        raise NoProxy("npm is not installed")
    home.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(home), HTTP_PROXY]
    try:
        subprocess.run(command, check=True, timeout=NPM_S, capture_output=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        raise NoProxy("npm could not fetch it") from None
    return found


def _address(url: str) -> Address:
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 0)

"""What three coordinators cost against one, and how soon they go on without one of theirs."""

import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median

import requests

from tests.benchmarks.figures import Figure, Target
from tests.benchmarks.filling import fill
from tests.benchmarks.loads import JOB, Load, flood
from tests.benchmarks.rounds import in_turns
from tests.benchmarks.stage import HEADERS, START_S, Stage, address
from tests.benchmarks.wire import Connection, request
from tests.support.real_processes import CoordinatorProcess, free_port, wait_until

CLIENTS = 32
COPIES = 3
SYNC_MS, HEARTBEAT_MS = 500, 200
SINGLE_WRITES = 200
CATCH_UP_S = 300.0
FEW_JOBS = 100
ONE = request("POST", "/v1/jobs", JOB, HEADERS)


def measure(stage: Stage) -> Iterator[Figure]:
    """Durable enqueue with three coordinators, two copies of each write; bytes between them; a takeover; an empty node that catches up."""
    for live in (FEW_JOBS, stage.scale.live_jobs):
        with stage.scene() as scene:
            yield from _enqueue(scene, live)
    with stage.scene() as scene:
        yield _takeover(scene)
    with stage.scene() as scene:
        yield _catching_up(scene)


def _enqueue(stage: Stage, live: int) -> Iterator[Figure]:
    child = stage.child()
    alone_folder, first_folder = stage.folder("alone"), stage.folder("first")
    for folder in (alone_folder, first_folder):
        child.call(fill, folder / "coordinator.db", live, 0, 0)
    alone, three = stage.coordinator(alone_folder), _three(stage, first_folder)

    def rate(coordinator: CoordinatorProcess) -> float:
        load: Load = child.call(flood, address(coordinator), ONE, CLIENTS, stage.scale.seconds)
        return load.rate

    rounds = in_turns([partial(rate, three[0]), partial(rate, alone)], stage.scale.rounds, stage.scale.within_s)
    name = f"enqueue with three coordinators, {live:,} jobs waiting"
    yield Figure("cluster", name, rounds.median(0), "jobs/s", rounds.median(1), "jobs/s alone", rounds.ratio(0, 1), Target(0.5))
    ours, own = _bytes_of(three[0]), _bytes_of(alone)
    yield Figure("cluster", f"... bytes between coordinators for each write, {live:,} jobs waiting", ours - own, "bytes")


def _three(stage: Stage, first: Path, heartbeat_ms: int = HEARTBEAT_MS) -> list[CoordinatorProcess]:
    """Three that hold each other's logs, the first on the database in that folder."""
    ports = [free_port() for _ in range(COPIES)]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    found = []
    for port, folder in zip(ports, (first, stage.folder("second"), stage.folder("third")), strict=True):
        settings = {
            "SKYCLAW_COORDINATOR_PORT": port,
            "SKYCLAW_PEER_URLS": ",".join(url for url in urls if not url.endswith(f":{port}")),
            "SKYCLAW_PEER_SYNC_MS": SYNC_MS,
            "SKYCLAW_PEER_HEARTBEAT_MS": heartbeat_ms,
        }
        coordinator = CoordinatorProcess(folder, None, **settings)
        coordinator.url = f"http://127.0.0.1:{port}"
        stage.start(coordinator)
        found.append(coordinator)
    for one in found:
        wait_until(one.answers, f"the coordinator answers; it printed: {one.printed}", START_S)
    wait_until(lambda: all(_is_level(one) for one in found), "three coordinators vote in three logs", START_S)
    return found


def _is_level(coordinator: CoordinatorProcess) -> bool:
    logs = coordinator.get("/v1/network/logs")["logs"]
    ends = {log["log"]: log["committed"] for log in logs}
    voting = len(logs) == COPIES and all(len(log["voters"]) == COPIES and log["copies"] == 2 for log in logs)
    others = coordinator.get("/v1/network/peers")["coordinators"]
    return voting and all(other["positions"].get(log, 0) >= end - 1 for other in others for log, end in ends.items())


def _bytes_of(coordinator: CoordinatorProcess) -> float:
    """What one write moves over the loopback interface beyond what moves there anyway: one client, one write at a time."""
    connection = Connection(address(coordinator))
    before, began = _loopback(), time.monotonic()
    for _ in range(SINGLE_WRITES):
        connection.ask(ONE).json()
    moved, took = _loopback() - before, time.monotonic() - began
    before = _loopback()
    time.sleep(took)  # as long as the writes took: what moves now is no write's
    idle = _loopback() - before
    connection.close()
    return (moved - idle) / SINGLE_WRITES


def _loopback() -> int:
    lines = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.strip().startswith("lo:")).split()[1])


def _takeover(stage: Stage) -> Figure:
    """The owner of a log is killed under writes that go to it through another coordinator."""
    heartbeats = []
    for _ in range(min(3, stage.scale.rounds)):
        with stage.scene() as scene:
            three = _three(scene, scene.folder("first"))
            heartbeats.append(_gap_s(three) * 1000 / HEARTBEAT_MS)
    return Figure("cluster", "takeover: from the last answer to the next", median(heartbeats), "heartbeats", target=Target(10, most=True))


def _gap_s(three: list[CoordinatorProcess]) -> float:
    victim, other = three[0], three[1]
    home = victim.get("/health")["log"]
    answered: list[float] = []

    def write() -> bool:
        with suppress(requests.RequestException):
            answer = other.session.post(f"{other.url}/v1/jobs", json=JOB, headers={"x-skyclaw-home": home}, timeout=10)
            if answer.ok:
                answered.append(time.monotonic())
                return True
        return False

    for _ in range(20):
        assert write()
    assert victim.process is not None
    victim.process.send_signal(signal.SIGKILL)
    last = answered[-1]
    wait_until(write, "another coordinator owns the log")
    return answered[-1] - last


def _catching_up(stage: Stage) -> Figure:
    """An empty node joins one that has a long past."""
    folder, history = stage.folder("long"), stage.scale.events - stage.scale.live_jobs
    stage.child().call(fill, folder / "coordinator.db", stage.scale.live_jobs, history // 3, 10_000)
    old = stage.coordinator(folder, SKYCLAW_PEER_SYNC_MS=SYNC_MS)
    log = old.get("/health")["log"]
    end = next(seen["committed"] for seen in old.get("/v1/network/logs")["logs"] if seen["log"] == log)
    began = time.monotonic()
    new = stage.coordinator(None, SKYCLAW_PEER_SYNC_MS=SYNC_MS, SKYCLAW_PEER_URLS=old.url)

    def level() -> bool:
        logs = new.get("/v1/network/logs")["logs"]
        return any(seen["log"] == log and seen["committed"] >= end for seen in logs)

    wait_until(level, "the new node has caught up", CATCH_UP_S)
    took = time.monotonic() - began
    return Figure("cluster", f"an empty node catches up with {end:,} events", took, "s", end / took, "events/s")

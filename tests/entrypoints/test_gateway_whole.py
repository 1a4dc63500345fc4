"""A real coordinator, host, service and gateway: requests go on while instances are killed and replaced, and without the coordinator."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.gateway_stage import GatewayProcess, gateway
from tests.support.real_processes import CoordinatorProcess, HostProcess, wait_until

SERVICE = """
import http.server, json, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = json.dumps({"pid": os.getpid()}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


class Asking:
    """Asks the service again and again, in threads, and keeps what was not answered well."""

    def __init__(self, running: GatewayProcess) -> None:
        self._running, self._over = running, threading.Event()
        self.answered, self.failures = 0, list[Any]()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(3)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _ask(self) -> None:
        while not self._over.wait(0.01):
            try:
                answer = self._running.get("/v1/gateway/web/")
            except requests.RequestException as error:
                self.failures.append(error)
            else:
                self.answered += 1
                if answer.status_code != 200:
                    self.failures.append((answer.status_code, answer.text))


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[CoordinatorProcess]:
    process = CoordinatorProcess(tmp_path)
    process.start()
    yield process
    process.kill()


@pytest.fixture
def running(coordinator: CoordinatorProcess, tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway of two processes in front of two instances on one host."""
    script = tmp_path / "service.py"
    script.write_text(SERVICE, encoding="ascii")
    with ExitStack() as stops:
        host = HostProcess(tmp_path, coordinator.url, SKYCLAW_ALLOWED_COMMANDS="python3")
        stops.callback(host.stop)
        host.start()
        deployed = {"name": "web", "command": "python3", "args": [str(script)], "replicas": 2, "health": {"path": "/"}, "drainMs": 2_000}
        coordinator.post("/v1/services", deployed)
        process = gateway(stops, tmp_path, coordinator.url, SKYCLAW_GATEWAY_WORKERS=2)
        wait_until(lambda: len(pids(process)) == 2, "both instances answer")
        yield process


def pids(running: GatewayProcess) -> set[int]:
    """Who answers."""
    answers = [running.get("/v1/gateway/web/") for _ in range(12)]
    return {answer.json()["pid"] for answer in answers if answer.status_code == 200}


def test_no_request_fails_while_instances_are_killed_and_replaced(running: GatewayProcess, coordinator: CoordinatorProcess) -> None:
    first = pids(running)
    asking = Asking(running)
    killed = min(first)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: len(pids(running) - {killed}) == 2, "two instances answer again")
    second = pids(running)
    coordinator.post("/v1/services/web/restart", {})
    wait_until(lambda: len(now := pids(running)) == 2 and not now & second, "both were replaced")
    asking.stop()
    assert asking.failures == []
    assert asking.answered > 0


def test_requests_go_on_without_the_coordinator_and_a_removed_service_is_gone(
    running: GatewayProcess, coordinator: CoordinatorProcess
) -> None:
    first = pids(running)
    coordinator.kill()
    wait_until(lambda: "coordinator_trouble" in running.printed, "the gateway misses the coordinator")
    assert pids(running) == first
    coordinator.start()
    answer = coordinator.session.delete(f"{coordinator.url}/v1/services/web", timeout=60)
    assert answer.ok, answer.text
    wait_until(lambda: {running.get("/v1/gateway/web/").status_code for _ in range(12)} == {503}, "neither process knows of the service")

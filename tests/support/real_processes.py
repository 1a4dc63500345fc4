"""Real coordinators and hosts, as processes of their own, on free ports and in directories of the test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).parents[2]
TOKEN = "canary-token-of-the-tests"  # noqa: S105  # only the tests' own processes know it
PATIENCE_S = 30.0


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def clean_environment(home: Path, **settings: object) -> dict[str, str]:
    """This process's environment without any setting of Skyclaw but the given ones."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SKYCLAW_")}
    return {**inherited, "SKYCLAW_HOME": str(home), "SKYCLAW_TOKEN": TOKEN, **{k: str(v) for k, v in settings.items()}}


def wait_until(condition: Any, what: str, patience_s: float = PATIENCE_S) -> Any:
    """The first true value of `condition()`; fails the test with `what` after the time."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {patience_s:.0f} s in vain: {what}")


def lives(pid: int) -> bool:
    """Whether the process is there, and not only its remains: a test that adopts orphans does not bury them."""
    with suppress(ProcessLookupError, FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


class Process:
    """One started program; its output goes to a file."""

    def __init__(self, words: list[str], env: Mapping[str, str], folder: Path, name: str) -> None:
        self._words, self.env, self._folder, self.output = words, dict(env), folder, folder / f"{name}.out"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; what it prints is appended to `output`."""
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(self._words, env=self.env, cwd=self._folder, stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, and wait for the end; returns the exit code."""
        return self._end(signal.SIGTERM)

    @property
    def printed(self) -> str:
        """Everything it has printed so far."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def _end(self, number: signal.Signals) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        self.process = None
        return code


class CoordinatorProcess(Process):
    """`python -m skyclaw coordinator`; keeps its port and database over restarts."""

    def __init__(self, folder: Path, program: list[str] | None = None, **settings: object) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        defaults: dict[str, object] = {
            "SKYCLAW_COORDINATOR_PORT": port,
            "SKYCLAW_COORDINATOR_HOST": "127.0.0.1",
            "SKYCLAW_DB_PATH": folder / "coordinator.db",
        }
        env = clean_environment(folder / "home", **{**defaults, **settings})
        super().__init__(program or [sys.executable, "-m", "skyclaw", "coordinator"], env, folder, "coordinator")
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=64))
        self.session.headers["x-skyclaw-token"] = TOKEN

    def start(self) -> None:
        """Start it and wait until it answers."""
        super().start()
        wait_until(self.answers, f"the coordinator answers; it printed: {self.printed}")

    def answers(self) -> bool:
        """Does `/health` say that it works?"""
        assert self.process is not None
        assert self.process.poll() is None, f"the coordinator ended: {self.printed}"
        try:
            return self.session.get(f"{self.url}/health", timeout=2).ok
        except requests.RequestException:
            return False

    def get(self, path: str, **params: object) -> Any:
        """The body of a GET, which must succeed."""
        answer = self.session.get(self.url + path, params=params, timeout=60)  # type: ignore[arg-type]
        assert answer.ok, answer.text
        return answer.json()

    def post(self, path: str, body: object, **headers: str) -> Any:
        """The body of a POST, which must succeed."""
        answer = self.session.post(self.url + path, json=body, headers=headers, timeout=60)
        assert answer.ok, answer.text
        return answer.json()


class HostProcess(Process):
    """`python -m skyclaw host`, of the given coordinators."""

    def __init__(self, folder: Path, *urls: str, name: str = "host", **settings: object) -> None:
        defaults: dict[str, object] = {
            "SKYCLAW_COORDINATOR_URLS": ",".join(urls),
            "SKYCLAW_HOST_NAME": name,
            "SKYCLAW_CAPABILITIES": "shell",
            "SKYCLAW_ALLOWED_COMMANDS": "bash,sh,true,echo,sleep,env",
        }
        env = clean_environment(folder / f"home-{name}", **{**defaults, **settings})
        super().__init__([sys.executable, "-m", "skyclaw", "host"], env, folder, name)

    def start(self) -> None:
        """Start it and wait until it is registered."""
        super().start()
        wait_until(self._registered, "the host is registered")

    def _registered(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the host ended: {self.printed}"
        return "host registered" in self.printed


class GatewayProcess(Process):
    """`python -m skyclaw gateway` on that port of loopback, for the services of the given coordinators."""

    def __init__(self, folder: Path, port: int, *urls: str, name: str = "gateway", **settings: object) -> None:
        self.url = f"http://127.0.0.1:{port}"
        defaults: dict[str, object] = {
            "SKYCLAW_COORDINATOR_URLS": ",".join(urls),
            "SKYCLAW_GATEWAY_HOST": "127.0.0.1",
            "SKYCLAW_GATEWAY_PORT": port,
        }
        env = clean_environment(folder / f"home-{name}", **{**defaults, **settings})
        super().__init__([sys.executable, "-m", "skyclaw", "gateway"], env, folder, name)

    def start(self) -> None:
        """Start it and wait until it answers."""
        super().start()
        wait_until(self.answers, f"the gateway answers; it printed: {self.printed}")

    def answers(self) -> bool:
        """Does `/health` say that it works?"""
        assert self.process is not None
        assert self.process.poll() is None, f"the gateway ended: {self.printed}"
        try:
            return requests.get(f"{self.url}/health", timeout=2).ok
        except requests.RequestException:
            return False

    def known(self) -> list[str]:
        """The ids and names of the services that it knows."""
        found: list[str] = requests.get(f"{self.url}/health", timeout=30).json()["services"]
        return found

    def route(self, service: str, path: str = "") -> str:
        """The address of a path of a service."""
        return f"{self.url}/v1/gateway/{service}/{path}"

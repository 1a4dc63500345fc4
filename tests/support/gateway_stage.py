"""What a gateway needs around it: a stand-in for the coordinator that lists services, backends that answer, and the gateway's process."""

import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import requests

from tests.support.real_processes import TOKEN, Process, clean_environment, free_port, wait_until
from tests.support.scripted_server import Asked, Reply, ScriptedServer, serving


class ListingCoordinator:
    """Answers GET /v1/services with `services`, which a test changes; may be stopped, and started again on its port."""

    def __init__(self) -> None:
        self.services: list[dict[str, Any]] = []
        self._port = free_port()
        self._server: ScriptedServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Answer."""
        self._server = ScriptedServer(self._answer, self._port)
        self._server.start()

    def stop(self) -> None:
        """Be gone from the net."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def list(self, name: str, endpoints: Sequence[str], **fields: Any) -> None:
        """List this service alone, with an instance at each endpoint."""
        assignments = [
            {"hostId": f"host_{at}", "instanceId": f"ins_{at}", "status": "running", "endpoint": endpoint}
            for at, endpoint in enumerate(endpoints)
        ]
        self.services = [{"id": f"svc_{name}", "name": name, "assignments": assignments, **fields}]

    def _answer(self, asked: Asked) -> Reply:
        if asked.headers.get("x-skyclaw-token") != TOKEN:
            return Reply(401, {"error": "unauthorized", "code": "unauthorized"})
        return Reply(say={"services": self.services})


class SlowAnswer:
    """A script of a backend that says when it was asked, and answers when it is let."""

    def __init__(self) -> None:
        self.asked, self.let = threading.Event(), threading.Event()

    def __call__(self, asked: Asked) -> Reply:
        """Answer; probes at once."""
        if asked.path == "/slow":
            self.asked.set()
            self.let.wait(60)
        return Reply(say={"path": asked.path})


class GatewayProcess(Process):
    """`python -m skyclaw gateway`, for one coordinator."""

    def __init__(self, folder: Path, coordinator_url: str, **settings: object) -> None:
        self.port = int(str(settings.get("SKYCLAW_GATEWAY_PORT", free_port())))
        defaults: dict[str, object] = {
            "SKYCLAW_COORDINATOR_URL": coordinator_url,
            "SKYCLAW_GATEWAY_HOST": "127.0.0.1",
            "SKYCLAW_GATEWAY_PORT": self.port,
            "SKYCLAW_GATEWAY_REFRESH_MS": 100,
            "SKYCLAW_GATEWAY_HEALTH_PROBE_MS": 100,
        }
        env = clean_environment(folder / "home", **{**defaults, **settings})
        super().__init__([sys.executable, "-m", "skyclaw", "gateway"], env, folder, "gateway")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it says that it listens."""
        super().start()
        wait_until(self._listens, "the gateway listens")

    def get(self, path: str, timeout_s: float = 60) -> requests.Response:
        """A GET, on a connection of its own."""
        return requests.get(self.url + path, timeout=timeout_s, headers={"connection": "close"}, proxies={"http": ""})

    def health(self) -> dict[str, Any]:
        """What /health says."""
        said: dict[str, Any] = self.get("/health").json()
        return said

    def until_it_knows(self, *keys: str) -> None:
        """Wait until these are the services it knows."""
        wait_until(lambda: self.health()["services"] == sorted(keys), f"the gateway knows {keys}")

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the gateway ended: {self.printed}"
        return f"[skyclaw] gateway listening on {self.url}\n" in self.printed


def backend(stops: ExitStack, script: Callable[[Asked], Reply] | None = None) -> ScriptedServer:
    """A backend that runs until the stops; without a script it answers with what it was asked for."""
    return stops.enter_context(serving(script or (lambda asked: Reply(say={"path": asked.path}))))


def coordinator(stops: ExitStack) -> ListingCoordinator:
    """A coordinator that runs until the stops."""
    listing = ListingCoordinator()
    listing.start()
    stops.callback(listing.stop)
    return listing


def gateway(stops: ExitStack, folder: Path, coordinator_url: str, **settings: object) -> GatewayProcess:
    """A gateway that is killed at the stops, if it is still there."""
    process = GatewayProcess(folder, coordinator_url, **settings)
    stops.callback(process.kill)
    process.start()
    return process

"""The threads that probe backends, so that GatewayRouter never waits for one."""

import logging
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue

from actors.host_loops import Tell
from skyclaw.outside import health_checks
from skyclaw.outside.peer_channel import tls_context
from skyclaw.services.routing import Backend

logger = logging.getLogger(__name__)

THREADS = 16
UNKNOWN_PATH = ("status 404", "status 405")

Check = Callable[["Probe"], str | None]  # why a backend is not healthy; None: it is


@dataclass(frozen=True, slots=True)
class Probe:
    """What to ask a backend; `strict`: it must answer this path, otherwise it need not know it."""

    backend: Backend
    path: str
    strict: bool


@dataclass(frozen=True, slots=True)
class Probed:
    """What came of a probe: why the backend is not healthy, None when it is."""

    backend: Backend
    problem: str | None


class HealthCheck:
    """Probes a backend within a time (s), https included."""

    def __init__(self, within_s: float, ca_file: Path | None = None) -> None:
        self._within_s, self._ca_file = within_s, ca_file

    def __call__(self, probe: Probe) -> str | None:
        """Why the backend is not healthy; None: it is. One that need not know the path is healthy as well when it says that it does not."""
        at = probe.backend
        tls = self._tls if at.scheme == "https" else None
        problem = health_checks.probe(at.port, at.prefix + probe.path, self._within_s, at.host, tls, at.places)
        return None if problem in UNKNOWN_PATH and not probe.strict else problem

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return tls_context(self._ca_file)


class Probers:
    """So many threads, which take the probes in the order in which they come and tell what came of each, until they are stopped."""

    def __init__(self, check: Check, tell: Tell, threads: int = THREADS) -> None:
        self._check, self._tell = check, tell
        self._orders: SimpleQueue[Probe | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"gateway-probe-{number}", daemon=True) for number in range(threads)]

    def start(self) -> None:
        """Begin to probe."""
        for thread in self._threads:
            thread.start()

    def order(self, probe: Probe) -> None:
        """Probe a backend."""
        self._orders.put(probe)

    def stop(self) -> None:
        """Probe nothing more; what is being probed ends within its time limit."""
        for _ in self._threads:
            self._orders.put(None)

    def _work(self) -> None:
        while (probe := self._orders.get()) is not None:
            try:
                problem = self._check(probe)
            except Exception:
                logger.exception("probe_failed backend=%s", probe.backend.url)
                problem = "the probe failed"
            self._tell(Probed(probe.backend, problem))

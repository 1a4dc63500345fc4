"""GatewayRouter keeps the gateway's table of backends as the coordinators have it, and has each backend probed.

Requests do not pass through it: their threads take a backend from the shared `Backends`. Everything that has to wait for somebody is left
to the threads around it (`actors.gateway_refresh`, `actors.gateway_probes`), which tell it what came of it.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from actors.base import Actor
from actors.gateway_looks import Looks
from actors.gateway_probes import Probe, Probed
from actors.gateway_refresh import ServicesHeard
from actors.ticker import Tick
from skyclaw.outside.clock import Clock
from skyclaw.outside.service_routes import Found
from skyclaw.services.routing import Backend, Backends, Failed, Missed, Notice, Recovered

logger = logging.getLogger(__name__)

JITTER = 0.25  # of the time between two probes, more or less: many gateways must not probe in step


@dataclass(frozen=True, slots=True)
class Probing:
    """How backends are probed: how often (ms), and on which path where the service has none; `strict`: they must know that path."""

    every_ms: int
    path: str
    strict: bool


class GatewayRouter(Actor):
    """May be told ServicesHeard, Probed and Tick."""

    def __init__(
        self,
        backends: Backends,
        probing: Probing,
        order: Callable[[Probe], None],
        clock: Clock,
        on_death: Callable[[str], None],
        draw: Callable[[], float] = random.random,
        looks: Looks | None = None,
    ) -> None:
        """`order` has a backend probed, and Probed told of it; `draw` gives a number in [0, 1); `looks` hears which looks are over."""
        super().__init__(on_death)
        self._looks = looks or Looks()
        self._backends, self._probing, self._order, self._clock, self._draw = backends, probing, order, clock, draw
        self._probes: dict[Backend, Probe] = {}
        self._due: dict[Backend, int] = {}  # when each backend is to be probed; one that is being probed is not in it
        self._problems: dict[Backend, str] = {}  # of those that did not pass their last probe
        self._skipped = 0

    def handle(self, message: object) -> None:
        """Deal with one message."""
        match message:
            case ServicesHeard():
                self._heard(message.found)
                self._looks.end(message.look)
            case Probed():
                self._probed(message)
            case Tick():
                self._tick()

    def _heard(self, found: Found) -> None:
        if found.routes != self._backends.routes or found.skipped != self._skipped:
            logger.info("routes_changed services=%d backends=%d skipped=%d", len(found.routes), _size(found), found.skipped)
        self._skipped = found.skipped
        self._backends.replace(found.routes, found.skipped)
        former, now = self._probes, self._clock()
        self._probes = {
            backend: Probe(backend, route.health_path or self._probing.path, route.health_path is not None or self._probing.strict)
            for route in found.routes
            for backend in route.backends
        }
        for backend in self._probes.keys() - former.keys():
            self._due[backend] = now + int(self._probing.every_ms * self._draw())
        self._due = {backend: due for backend, due in self._due.items() if backend in self._probes}
        self._problems = {backend: problem for backend, problem in self._problems.items() if backend in self._probes}

    def _probed(self, probed: Probed) -> None:
        if probed.backend not in self._probes:
            return
        self._due[probed.backend] = self._clock() + int(self._probing.every_ms * (1 - JITTER + 2 * JITTER * self._draw()))
        self._note(probed)
        self._backends.probed(probed.backend, probed.problem is None)

    def _note(self, probed: Probed) -> None:
        """Write down what is news."""
        former = self._problems.pop(probed.backend, None)
        if probed.problem is not None:
            self._problems[probed.backend] = probed.problem
            if probed.problem != former:
                logger.warning("probe_not_passed backend=%s cause=%s", probed.backend.url, probed.problem)

    def _tick(self) -> None:
        now = self._clock()
        for backend in [backend for backend, due in self._due.items() if due <= now]:
            del self._due[backend]
            self._order(self._probes[backend])


def heed(notice: Notice, refresh: Callable[[], None]) -> None:
    """What to do, in the thread of a request, about what `Backends` noticed: write down what changes, and look at the services again."""
    match notice:
        case Missed():
            refresh()
        case Failed(backend, ejected, probed):
            if ejected:
                logger.warning("backend_ejected backend=%s by=%s", backend.url, "probe" if probed else "requests")
            refresh()
        case Recovered(backend):
            logger.info("backend_recovered backend=%s", backend.url)


def _size(found: Found) -> int:
    return sum(len(route.backends) for route in found.routes)

"""The thread that asks the coordinators for the services, so that GatewayRouter never waits for them."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from actors.host_loops import Loop, Tell
from skyclaw.errors import Invalid, NotACoordinator
from skyclaw.outside.coordinators import Coordinators
from skyclaw.outside.service_routes import Found, is_this_machine, read_routes

SPACING_S = 0.25  # between two questions, however urgent the next one is
ASK_S = 5.0  # for one question to all coordinators


@dataclass(frozen=True, slots=True)
class ServicesHeard:
    """What a coordinator said about the services."""

    found: Found


class RefreshLoop(Loop):
    """Asks every so often (ms), and when it is nudged; `tried` is set when the first question was answered, or was not."""

    def __init__(self, coordinators: Coordinators, every_ms: int, tell: Tell, is_local: Callable[[str], bool] = is_this_machine) -> None:
        super().__init__("gateway-refresh", most_s=max(SPACING_S, every_ms / 1000))
        self._coordinators, self._every_s, self._tell, self._is_local = coordinators, every_ms / 1000, tell, is_local
        self._earliest = 0.0
        self.tried = threading.Event()

    def once(self) -> float:
        """Ask, and tell what was heard. Raises what Coordinators raise, and NotACoordinator."""
        self._over.wait(max(0.0, self._earliest - time.monotonic()))
        self._earliest = time.monotonic() + SPACING_S
        said = self._coordinators.get("/v1/services", timeout_s=ASK_S)
        url = self._coordinators.answering
        try:
            found = read_routes(said, is_local=self._is_local(url))
        except Invalid:
            raise NotACoordinator(url) from None
        self._tell(ServicesHeard(found))
        self.tried.set()
        return self._every_s

    def failed(self, _error: Exception) -> None:
        """The routes stay as they are."""
        self.tried.set()

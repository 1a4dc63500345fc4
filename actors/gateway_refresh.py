"""The thread that asks the coordinators for the services, so that GatewayRouter never waits for them."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from actors.gateway_looks import Looks
from actors.host_loops import Loop, Tell
from skyclaw.errors import Invalid, NotACoordinator, ServerRefused, Unreachable
from skyclaw.outside.coordinators import Coordinators
from skyclaw.outside.names import Names
from skyclaw.outside.service_routes import Found, is_this_machine, read_listing, read_routes
from skyclaw.services.listings import Listing, LogSeen, Word, is_doubted, settle

SPACING_S = 0.25  # between two questions, however urgent the next one is
ASK_S = 5.0  # for one question to all coordinators
ASK_ONE_S = 2.0  # for one to one of them, when all are asked
LOOK_AROUND = 10  # all are asked each so many times, because one that is cut off does not notice what it misses


@dataclass(frozen=True, slots=True)
class ServicesHeard:
    """What a coordinator said about the services."""

    found: Found
    look: int = 0  # the number of the look at which it was heard


class RefreshLoop(Loop):
    """Asks every so often (ms), and when it is nudged; `tried` is set when the first question was answered, or was not.

    Any coordinator is asked, the one that answered last if it still does. When its answer is doubted, and now and then, `each` of them is.
    """

    def __init__(
        self,
        coordinators: Coordinators,
        every_ms: int,
        tell: Tell,
        each: Sequence[Coordinators] = (),
        names: Names | None = None,
        looks: Looks | None = None,
    ) -> None:
        super().__init__("gateway-refresh", most_s=max(SPACING_S, every_ms / 1000))
        self._coordinators, self._every_s, self._tell = coordinators, every_ms / 1000, tell
        self._each = {one.answering: one for one in each}
        self._names, self._looks = names or Names(), looks or Looks()
        self._known: Listing = ()
        self._earliest = 0.0
        self._turns = self._look = 0
        self.tried = threading.Event()

    def once(self) -> float:
        """Ask, and tell what was heard. Raises what Coordinators raise, and NotACoordinator."""
        self._over.wait(max(0.0, self._earliest - time.monotonic()))
        self._earliest = time.monotonic() + SPACING_S
        self._look = self._looks.begin()
        said = self._coordinators.get("/v1/services", timeout_s=ASK_S)
        self._known = self._settled(self._coordinators.answering, said)
        self._tell(ServicesHeard(read_routes(self._known, self._names.find), self._look))
        self.tried.set()
        return self._every_s

    def failed(self, _error: Exception) -> None:
        """The routes stay as they are."""
        self._looks.end(self._look)
        self.tried.set()

    def stop(self, timeout_s: float = 0.0) -> None:
        """End after what is being done, and wait at most that long for it."""
        super().stop(timeout_s)
        self._names.stop()

    def _settled(self, url: str, said: dict[str, Any]) -> Listing:
        """The services, after this answer of that coordinator."""
        listing = self._listing(url, said)
        self._turns += 1
        looks_around = len(self._each) > 1 and self._turns % LOOK_AROUND == 0
        if url not in self._each or not (looks_around or is_doubted(listing, self._known)):
            return listing
        words = [word for asked in (url, *self._each.keys() - {url}) if (word := self._word(asked)) is not None]
        return settle(words, self._known) if words else self._known

    def _word(self, url: str) -> Word | None:
        """What one coordinator says, asked for its logs first, so that its list is not older; None when it says nothing."""
        try:
            logs = self._logs(url)
            return Word(self._listing(url, self._each[url].get("/v1/services", timeout_s=ASK_ONE_S)), logs)
        except (ServerRefused, Unreachable, NotACoordinator):
            return None

    def _listing(self, url: str, said: dict[str, Any]) -> Listing:
        try:
            return read_listing(said, is_local=is_this_machine(url, self._names.resolve))
        except Invalid:
            raise NotACoordinator(url) from None

    def _logs(self, url: str) -> dict[str, LogSeen] | None:
        """How this coordinator is about each log; None when it has none. Raises what Coordinators raise."""
        try:
            said = self._each[url].get("/v1/network/logs", timeout_s=ASK_ONE_S).get("logs")
        except ServerRefused as refusal:
            if refusal.status >= 500:
                raise
            return None
        except NotACoordinator:
            return None
        if not isinstance(said, list):
            return None
        logs = [log for log in said if isinstance(log, dict)]
        return {str(log.get("log")): LogSeen(_whole(log.get("committed")), log.get("inContact") is True) for log in logs}


def _whole(found: object) -> int:
    return found if isinstance(found, int) else 0

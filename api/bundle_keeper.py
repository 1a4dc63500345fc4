"""The thread that looks after bundles: it makes new ones known, fetches missing ones and deletes unused ones."""

import logging
import threading

from api.bundle_exchange import BundleExchange
from api.parts import Desk
from skyclaw.answers import ServicesSeen
from skyclaw.commands import ListServices
from skyclaw.errors import SkyclawError

logger = logging.getLogger(__name__)

INTERVAL_S = 10.0


class BundleKeeper:
    """Looks after bundles at once when there is a new one, and every `interval_s` seconds, until it is stopped."""

    def __init__(self, exchange: BundleExchange, desk: Desk, interval_s: float = INTERVAL_S) -> None:
        self._exchange, self._desk, self._interval_s = exchange, desk, interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="BundleKeeper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """End, after what is under way, for which it waits at most that long; a bundle that is half fetched is fetched anew later."""
        self._stopping.set()
        self._exchange.news.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def run_once(self) -> tuple[int, int, int]:
        """How many bundles were made known, fetched and deleted."""
        known = self._exchange.make_known()
        try:
            services: ServicesSeen = self._desk.ask(ListServices())
        except SkyclawError as error:
            logger.info("bundles_not_looked_after cause=%s", error)
            return known, 0, 0
        asked = (revision.asked for service in services.services for revision in service.revisions)
        return known, *self._exchange.look_after({one.bundle for one in asked if one.bundle is not None})

    def _run(self) -> None:
        while True:
            self._exchange.news.wait(self._interval_s)
            if self._stopping.is_set():
                return
            try:
                known, fetched, deleted = self.run_once()
            except OSError:
                logger.exception("bundles_not_looked_after")
                continue
            if fetched or deleted:
                logger.info("bundles_looked_after known=%d fetched=%d deleted=%d", known, fetched, deleted)

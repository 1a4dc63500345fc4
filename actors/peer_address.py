"""Where the announced address leads, seen from here: copied settings may make it the address of another coordinator."""

import logging

from actors.peer_errands import Failed, Proven

logger = logging.getLogger(__name__)

RIGHT_MS, WRONG_MS = 60_000, 10_000  # until the next look
FIRST_PAUSE_MS = 1_000  # after a look in vain; doubles with each


class OwnAddress:
    """`elsewhere` is the label of the other coordinator that is there, empty when none is known to be. Times are ms of one clock."""

    def __init__(self, node: str, url: str | None, now: int) -> None:
        self.url, self.elsewhere = url, ""
        self._node, self._due, self._vain = node, now, 0
        self._told: set[str] = set()  # about whom there is a line in the log

    def is_due(self, now: int) -> bool:
        """Is it time to look? If so, it is not again until something was seen, or much later."""
        if self.url is None or now < self._due:
            return False
        self._due = now + RIGHT_MS
        return True

    def see(self, found: Proven | Failed, now: int) -> None:
        """What came of looking there. That nobody answers means nothing: the address may be one for others only."""
        if isinstance(found, Failed):
            self._see_nobody(found, now)
            return
        self._vain = 0
        self.elsewhere = "" if found.node == self._node else found.label
        self._due = now + (WRONG_MS if self.elsewhere else RIGHT_MS)
        if self.elsewhere and self.elsewhere not in self._told:
            self._told.add(self.elsewhere)
            logger.warning("own_address_elsewhere url=%s node=%s", self.url, found.node)

    def _see_nobody(self, failed: Failed, now: int) -> None:
        """One that announces nothing may be ourselves, because another one was there before: to be looked at again as if it were."""
        if failed.code == "unannounced":
            self.elsewhere = ""
        self._due = now + min(RIGHT_MS, FIRST_PAUSE_MS << min(self._vain, 6))
        self._vain += 1

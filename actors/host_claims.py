"""The thread that asks the coordinators for jobs."""

from typing import Any

from actors.host_boxes import Slots
from actors.host_loops import Hear, Loop, Tell, is_unknown_host, unheard
from actors.host_messages import Claimed, HostUnknown
from skyclaw.ids import new_claim_ids
from skyclaw.outside.clock import Clock
from skyclaw.outside.coordinators import Coordinators
from skyclaw.outside.paths import host_path

WAIT_MS = 25_000  # how long a claim may be parked
ANSWER_S = 10.0  # beyond that
AT_ONCE_MS = 250  # an empty answer that came sooner was not parked


class ClaimLoop(Loop):
    """Asks for as many jobs as there is room for. A claim without an answer is repeated as it was, so that no lease is lost on the way.

    `hear` gets every answer.
    """

    def __init__(
        self, coordinators: Coordinators, host_id: str, slots: Slots, poll_ms: int, tell: Tell, clock: Clock, hear: Hear = unheard
    ) -> None:
        super().__init__("host-claims")
        self._coordinators, self._path = coordinators, host_path(host_id, "claim")
        self._slots, self._poll_s, self._tell, self._clock, self._hear = slots, poll_ms / 1000, tell, clock, hear
        self._ids = new_claim_ids()
        self._claim: dict[str, Any] | None = None
        self._pause_s = 0.0  # for which the coordinator has asked
        self._services: object = None  # what the latest answer said of the services that are wanted here
        slots.nudge = self.nudge

    def has_work(self) -> bool:
        return self._slots.free > 0

    def once(self) -> float:
        self._over.wait(self._pause_s)  # whatever happens meanwhile
        self._pause_s = 0.0
        self.gather(lambda: self._slots.free * 2 >= self._slots.count)
        self._slots.claiming = True
        try:
            return self._ask(self._slots.free)
        finally:
            self._slots.claiming = False

    def failed(self, error: Exception) -> None:
        if is_unknown_host(error):
            self._claim = None
            self._tell(HostUnknown())

    def _ask(self, room: int) -> float:
        """Claim, and hand on what it brings; returns the seconds to wait before the next claim."""
        if room <= 0:  # the host has begun to leave meanwhile
            return 0.0
        self._claim = self._claim or {"waitMs": WAIT_MS, "max": room, "claimId": next(self._ids)}
        sent = self._clock()
        answer = self._coordinators.post(self._path, self._claim, timeout_s=WAIT_MS / 1000 + ANSWER_S)
        received = self._clock()
        self._hear(answer)
        brings_news, self._services = answer.get("services") != self._services, answer.get("services")
        claim_id, self._claim = self._claim["claimId"], None
        found = answer.get("jobs") or [answer.get("job")]
        jobs = tuple(job for job in found if isinstance(job, dict))
        self._slots.take(len(jobs))
        self._tell(Claimed(jobs, sent, received, claim_id))
        if jobs:
            return 0.0
        if isinstance(later := answer.get("retryAfterMs"), int):
            self._pause_s = later / 1000
            return 0.0
        came_at_once = received - sent < AT_ONCE_MS and not brings_news  # with news it was parked, however short
        return self._poll_s if answer.get("reason") or came_at_once else 0.0

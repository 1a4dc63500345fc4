"""The thread that keeps the host known to the coordinators, and its leases alive."""

import logging
from typing import Any

from actors.host_config import HostConfig
from actors.host_loops import Hear, Loop, Tell, is_unknown_host, unheard
from actors.host_messages import NotRenewed, Renewed
from skyclaw.errors import ServerRefused
from skyclaw.hosting.held_leases import Lease
from skyclaw.outside.clock import Clock
from skyclaw.outside.coordinators import Coordinators
from skyclaw.outside.paths import host_path

logger = logging.getLogger(__name__)


class HeartbeatLoop(Loop):
    """Sends the heartbeats that are ordered; the latest order counts. Registers again with a coordinator that does not know the host.

    `hear` gets every answer.
    """

    def __init__(
        self, coordinators: Coordinators, config: HostConfig, host_id: str, tell: Tell, clock: Clock, hear: Hear = unheard
    ) -> None:
        super().__init__("host-heartbeats", most_s=0.5)
        self._coordinators, self._config, self._host_id = coordinators, config, host_id
        self._tell, self._clock, self._hear = tell, clock, hear
        self._ordered: tuple[tuple[Lease, ...], str | None, float] | None = None

    def order(self, leases: tuple[Lease, ...], answered: str | None, timeout_s: float) -> None:
        """Renew these leases, among which is what the claim `answered` and the ones before it brought."""
        self._ordered = leases, answered, timeout_s
        self.nudge()

    def has_work(self) -> bool:
        return self._ordered is not None

    def once(self) -> float:
        ordered, self._ordered = self._ordered, None
        if ordered is None:
            return 0.0
        leases, answered, timeout_s = ordered
        body = {"activeLeases": len(leases), "leases": on_the_wire(leases)} | ({"answeredClaim": answered} if answered else {})
        sent = self._clock()
        try:
            answer = self._coordinators.post(host_path(self._host_id, "heartbeat"), body, timeout_s=timeout_s)
        except ServerRefused as refusal:
            if not is_unknown_host(refusal):
                raise
            register(self._coordinators, self._config, self._host_id, leases)
            logger.warning("host_registered_again host=%s leases=%d", self._host_id, len(leases))
            self._tell(NotRenewed())  # that is for the next heartbeat, at whoever decides about them
            return 0.0
        self._hear(answer)
        cancelled, lost, doubtful = (frozenset(answer.get(name, ())) for name in ("cancelled", "lost", "notRenewed"))
        self._tell(Renewed(leases, sent, cancelled, lost, doubtful))
        if doubtful:
            self._tell(NotRenewed())  # in part, so the next one follows soon
        return 0.0

    def failed(self, error: Exception) -> None:  # noqa: ARG002  # Loop's signature
        self._tell(NotRenewed())


def register(
    coordinators: Coordinators, config: HostConfig, host_id: str | None, leases: tuple[Lease, ...], key: str | None = None
) -> dict[str, Any]:
    """Begin a life as that host, holding these leases only; returns the coordinator's answer. Raises what the client raises."""
    body: dict[str, Any] = {
        "name": config.name,
        "capabilities": list(config.capabilities),
        "maxParallel": config.max_parallel,
        "labels": config.labels,
        "leases": on_the_wire(leases),
    }
    return coordinators.post("/v1/hosts/register", body | ({"hostId": host_id} if host_id else {}), key=key)


def on_the_wire(leases: tuple[Lease, ...]) -> list[dict[str, str]]:
    """Leases as requests list them."""
    return [{"jobId": lease.job_id, "leaseToken": lease.token} for lease in leases]

"""The logs as an operator sees them, and the operator's orders on their way to the Replicator. From any thread."""

import logging
from collections.abc import Sequence

from actors.cluster import Cluster
from actors.log_views import LogSeen
from skyclaw.store.event_log import EventLog, Head

logger = logging.getLogger(__name__)


class LogOrders:
    """Looks at the logs without waiting for anybody; an order waits until it is durable here."""

    def __init__(self, store: EventLog, cluster: Cluster) -> None:
        self._store, self._cluster = store, cluster

    def views(self) -> Sequence[LogSeen]:
        """All logs that have a copy here."""
        return self._cluster.views.all

    def head(self, log: str) -> Head:
        """The last record of the copy here, committed or not; raises DatabaseDamaged, StorageFailed."""
        return self._store.head(log)

    def force(self, log: str, voters: frozenset[str], copies: int, operator: str) -> str:
        """Own the log from now on with these voters; the new epoch.

        Raises Refused, Unavailable, and Undecided when it is not known in time.
        """
        return self._cluster.force(log, sorted(voters), copies, operator)

    def transfer(self, log: str, to: str) -> None:
        """Let that voter own the log, if it can; raises Unavailable."""
        logger.info("transfer_ordered log=%s to=%s", log, to)
        self._cluster.transfer(log, to)

"""What the routes about logs need: somebody who knows how they are, and takes an operator's orders."""

from collections.abc import Sequence
from typing import Protocol

from actors.log_views import LogSeen
from skyclaw.store.event_log import Head


class LogsAdmin(Protocol):
    """The logs as any thread may look at them, and the orders that an operator may give."""

    def views(self) -> Sequence[LogSeen]:
        """All logs that have a copy here."""

    def head(self, log: str) -> Head:
        """The last record of the copy here, committed or not."""

    def force(self, log: str, voters: frozenset[str], copies: int, operator: str) -> str:
        """Own the log from now on with these voters, whatever the former ones say; the new epoch. Raises Unavailable, Undecided."""

    def transfer(self, log: str, to: str) -> None:
        """Let that voter own the log, which is owned here, if it can; raises Unavailable."""

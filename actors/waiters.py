"""Who waits for a position of a log to be committed. Positions are entered in their order, log by log."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from actors.log_messages import Waiting


class Pending:
    """Answers that leave when all the positions they were computed from are committed, or one of them cannot be any more."""

    __slots__ = ("_answers", "_missing")

    def __init__(self, answers: Waiting, positions: int) -> None:
        self._answers, self._missing = answers, positions

    def reached(self) -> None:
        """One position more is committed."""
        self._missing -= 1
        if self._missing == 0:
            for reply, answer in self._answers:
                reply.set(answer)

    def fail(self, failure: Exception) -> None:
        """It will never be; the first word counts."""
        for reply, _ in self._answers:
            reply.set(failure)


class Waiters:
    """The answers that wait, by log and position."""

    def __init__(self) -> None:
        self._logs: dict[str, deque[tuple[int, int, Pending]]] = {}  # log -> (position, of these its own events, answers)

    def wait(self, answers: Waiting, positions: Mapping[str, tuple[int, int]], committed: Callable[[str], int]) -> None:
        """Let answers wait for positions, each with the number of events of their own that end there; none to wait for: they leave now."""
        ahead = {log: at for log, at in positions.items() if at[0] > committed(log)}
        pending = Pending(answers, max(1, len(ahead)))
        if not ahead:
            pending.reached()
        for log, (position, events) in ahead.items():
            self._logs.setdefault(log, deque()).append((position, events, pending))

    def reached(self, log: str, committed: int) -> None:
        """The log is committed up to there."""
        waiting = self._logs.get(log, ())
        while waiting and waiting[0][0] <= committed:
            waiting.popleft()[2].reached()

    def fail(self, log: str, beyond: int, own: Exception, others: Exception) -> None:
        """Nothing beyond a position will be: `own` for those whose events are lost, `others` for those who merely built on them."""
        waiting = self._logs.get(log, ())
        while waiting and waiting[-1][0] > beyond:
            _, events, pending = waiting.pop()
            pending.fail(own if events else others)

    def fail_all(self, failure: Exception) -> None:
        """Nothing is known any more."""
        for waiting in self._logs.values():
            for _, _, pending in waiting:
                pending.fail(failure)
        self._logs.clear()

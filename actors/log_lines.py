"""What the queue decided for each log but is not committed yet, so that it can be taken back: one line of turns for each log."""

from collections import deque

from skyclaw.scheduling.turn import Turn


class Line:
    """The turns of one log that may have to be taken back, in their order. Its number grows whenever some are."""

    def __init__(self, snapshot_at: int = 0) -> None:
        self.number = 0
        self.snapshot_at = snapshot_at  # position of the latest snapshot
        self.rewritten = 0  # how often the log was built anew
        self._turns: deque[Turn] = deque()

    def add(self, turn: Turn) -> None:
        """A turn with events."""
        if turn.events:
            self._turns.append(turn)

    def commit(self, end: int) -> None:
        """Everything up to this position stays. A turn that is committed in part can still be taken back."""
        while self._turns and self._turns[0].end <= end:
            self._turns.popleft()

    def go_back(self, end: int) -> None:
        """Take back every turn that does not end at this position or before; what is decided from now on is another line."""
        while self._turns and self._turns[-1].end > end:
            self._turns.pop().take_back()
        self.number += 1

    def begin_anew(self, snapshot_at: int) -> None:
        """The log was built anew from this snapshot: nothing is to be taken back."""
        self._turns.clear()
        self.number += 1
        self.rewritten += 1
        self.snapshot_at = snapshot_at

"""When to try again, and when a heartbeat is due."""

from collections.abc import Callable

LEASE_PARTS = 3  # heartbeats within the shortest lease
HURRY_MS = 1_000  # after a heartbeat that failed


class Backoff:
    """Ever longer pauses, in seconds, up to `most_s`; `draw` gives a number in [0, 1) that spreads those who wait together."""

    def __init__(self, draw: Callable[[], float], first_s: float = 0.1, most_s: float = 5.0) -> None:
        self._draw, self._first_s, self._most_s = draw, first_s, most_s
        self._next_s = first_s

    def pause(self, at_least_s: float = 0.0) -> float:
        """The next pause: at least what the coordinator asked for, and between half and all of what the row of failures has come to."""
        spread = self._next_s * (0.5 + self._draw() / 2)
        self._next_s = min(self._next_s * 2, self._most_s)
        return max(at_least_s, spread)

    def reset(self) -> None:
        """It worked."""
        self._next_s = self._first_s


class Rhythm:
    """When the next heartbeat is due, by the host's clock (ms)."""

    def __init__(self, every_ms: int, now: int) -> None:
        self._every_ms, self._last, self._failed = every_ms, now, False

    def is_due(self, now: int, shortest_lease_ms: int | None) -> bool:
        """Whether one is due: as often as was set, several times within the shortest lease, and soon after one that failed."""
        every = self._every_ms if shortest_lease_ms is None else min(self._every_ms, shortest_lease_ms // LEASE_PARTS)
        return now - self._last >= (min(every, HURRY_MS) if self._failed else every)

    def sent(self, now: int) -> None:
        """One is on its way."""
        self._last, self._failed = now, False

    def failed(self) -> None:
        """It did not arrive."""
        self._failed = True

    def ask(self, every_ms: int) -> None:
        """The coordinator wants to hear at least that often."""
        self._every_ms = min(self._every_ms, every_ms)


def heartbeat_timeout_s(shortest_lease_ms: int | None) -> float:
    """How long a heartbeat may take, in seconds: short enough for another one within the lease."""
    return 10.0 if shortest_lease_ms is None else max(1.0, min(10.0, shortest_lease_ms / 1000 / LEASE_PARTS))

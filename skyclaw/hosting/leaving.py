"""How a host leaves: it takes nothing more, lets what runs go on for a while, gives the rest back, and waits a little for deliveries."""

LAST_MS = 5_000  # for the deliveries, once nothing runs any more
HASTE_MS = 3_000  # for everything, when the host has to stop now


class Leaving:
    """Times are ms of the host's clock. Until `begin` is called the host stays."""

    def __init__(self) -> None:
        self._stop_at: int | None = None
        self._gone_at: int | None = None

    def __bool__(self) -> bool:
        return self._stop_at is not None

    def begin(self, now: int, grace_ms: int) -> None:
        """Leave; 0 means at once. Said again, it may only become earlier."""
        stop_at = now + grace_ms
        self._stop_at = stop_at if self._stop_at is None else min(self._stop_at, stop_at)
        if grace_ms == 0:
            self._gone_at = now + HASTE_MS

    def must_stop(self, now: int) -> bool:
        """Whether what still runs is to be given back."""
        return self._stop_at is not None and now >= self._stop_at

    def is_over(self, now: int, running: bool, settled: bool) -> bool:
        """Whether the host may end: everything is settled, or the last wait for deliveries is over."""
        if self._stop_at is None:
            return False
        if self._gone_at is None and not running:
            self._gone_at = now + LAST_MS
        return settled or (self._gone_at is not None and now >= self._gone_at)

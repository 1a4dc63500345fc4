"""How long a failed job waits before its next attempt, and how many lost leases it survives."""

LONGEST_BACKOFF_MS = 3_600_000
LOST_LEASES = 5
LOST_LEASES_OF = {"openclaw-run": 1}  # an agent's turn has side effects: it is not repeated on a guess


def backoff_ms(initial_ms: int, failures: int, draw: float) -> int:
    """Delay before the attempt after `failures` failed ones: doubles each time, at most an hour; `draw` in [0, 1) takes off up to half."""
    longest = min(initial_ms * 2 ** min(failures - 1, 30), LONGEST_BACKOFF_MS)
    return int(longest * (1 - draw / 2))


def losses_allowed(kind: str) -> int:
    """So many lost leases end a job of this kind as failed, reason `exhausted`."""
    return LOST_LEASES_OF.get(kind, LOST_LEASES)

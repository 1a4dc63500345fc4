"""The one place that reads the wall clock."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], int]
"""Milliseconds: since the epoch, UTC, or of a clock that only goes forward, by which nothing but times of its own is measured."""


def utc_now() -> int:
    """The wall clock, which may be set back; tests move it."""
    return int(datetime.now(UTC).timestamp() * 1000)


def steady_clock() -> Clock:
    """UTC at this moment, and from then on only forwards: the elapsed monotonic time is added, whatever happens to the wall clock."""
    start, began = utc_now(), time.monotonic()
    return lambda: start + int((time.monotonic() - began) * 1000)

"""The deadlines of all exchanges with upstreams, kept by one thread that shuts a socket down: whoever waits for it wakes up at once.

So nothing depends on how an upstream spreads its bytes over time, and a client that has left is noticed while the upstream is silent.
"""

import contextlib
import logging
import math
import socket
import threading
import time
from collections.abc import Callable
from enum import Enum

from skyclaw.outside.upstream_limits import GatewayLimits

logger = logging.getLogger(__name__)


class Cut(Enum):
    """Why an exchange was ended."""

    LATE = "the service did not answer in time"
    SLOW = "another backend is tried instead"
    DRIPPED = "the answer came too slowly"
    IDLE = "no event came for too long"
    UNTAKEN = "the client took the answer too slowly"
    LEFT = "the client left"
    STOPPED = "the gateway is being stopped"


class Exchange:
    """One request of a client with its answer, over all attempts. All times are time.monotonic.

    `is_left` tells whether the client has left, `abort` ends its connection, `instead` takes another backend if there is one.
    """

    def __init__(self, limits: GatewayLimits, is_left: Callable[[], bool], abort: Callable[[], None]) -> None:
        self.is_left, self.abort = is_left, abort
        self.instead: Callable[[], bool] | None = None
        self.cut: Cut | None = None
        self.moved = 0  # bytes of the body that the client was given
        self.is_writing = False  # it is the client that is waited for
        self._limits = limits
        self._lock = threading.Lock()
        self._began = self._sent_at = time.monotonic()
        self._ends: float | None = None  # of an answer that has begun
        self._patience_ends: float | None = None
        self._sock: socket.socket | None = None
        self._too_slow = Cut.DRIPPED
        self._window: tuple[float, int, float, int] | None = None  # seconds and bytes, when the present one ends, `moved` when it began

    def attempt(self, sock: socket.socket) -> None:
        """From now on it is this socket that is shut down."""
        with self._lock:
            self._sock = sock
            if self.instead is not None:
                self._patience_ends = time.monotonic() + self._limits.patience_s

    def sent(self) -> None:
        """A piece of the request's body was sent."""
        self._sent_at = time.monotonic()

    def answered(self) -> None:
        """The head has come, and the rest of a short answer is waited for."""
        with self._lock:
            self._patience_ends = None
            self._ends = self._sent_at + self._limits.answer_s

    def stream(self, is_event_stream: bool) -> None:
        """A long answer begins."""
        limits, now = self._limits, time.monotonic()
        with self._lock:
            if is_event_stream:
                self._too_slow = Cut.IDLE
                self._ends, self._window = math.inf, (limits.event_idle_s, 1, now + limits.event_idle_s, 0)
            else:
                self._ends, self._window = self._sent_at + limits.stream_s, (limits.drip_s, limits.drip_bytes, now + limits.drip_s, 0)

    def end_events(self) -> None:
        """End it if it is an event stream, which might go on for ever."""
        with self._lock:
            if self.cut is None and self._too_slow is Cut.IDLE:
                self._end(Cut.STOPPED)

    def release(self) -> None:
        """The socket is not touched any more once this has returned."""
        with self._lock:
            self._sock = self._patience_ends = None

    def again(self) -> bool:
        """Another attempt begins; False when there is no time for one."""
        with self._lock:
            if self.cut is Cut.SLOW:
                self.cut = None
            self._ends = None
            return self.cut is None

    def look(self, now: float) -> None:
        """End what is over."""
        with self._lock:
            if self.cut is None:
                self._judge(now)

    def _judge(self, now: float) -> None:
        if self.is_left():
            self._end(Cut.LEFT)
        elif now > (self._head_ends() if self._ends is None else self._ends):
            self._end(Cut.LATE)
        elif self._patience_ends is not None and now > self._patience_ends:
            self._patience_ends = None
            if self.instead is not None and self.instead():
                self._end(Cut.SLOW)
        elif self._window is not None and now > self._window[2]:
            seconds, least, _, before = self._window
            if self.moved - before < least:
                self._end(Cut.UNTAKEN if self.is_writing else self._too_slow)
            self._window = seconds, least, now + seconds, self.moved

    def _head_ends(self) -> float:
        return min(self._sent_at + self._limits.header_s, self._began + self._limits.stream_s)

    def _end(self, why: Cut) -> None:
        self.cut = why
        if self._sock is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)  # an SSLSocket's own one would take it out of another thread's hands
        if self._window is not None:
            self.abort()


class Watchdog:
    """Looks at all exchanges again and again, at most so many; `also` is called with the time (time.monotonic) at each look."""

    def __init__(self, every_s: float, most: int, also: Callable[[float], None]) -> None:
        self._every_s, self._most, self._also = every_s, most, also
        self._lock = threading.Lock()
        self._exchanges: set[Exchange] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upstream-watchdog", daemon=True)
        self._thread.start()

    def add(self, exchange: Exchange) -> bool:
        """Look at this one too; False when there are too many."""
        with self._lock:
            if len(self._exchanges) >= self._most:
                return False
            self._exchanges.add(exchange)
            return True

    def remove(self, exchange: Exchange) -> None:
        """It is over."""
        with self._lock:
            self._exchanges.discard(exchange)

    def end_events(self) -> None:
        """End all event streams."""
        with self._lock:
            for exchange in self._exchanges:
                exchange.end_events()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            now = time.monotonic()
            with self._lock:
                for exchange in self._exchanges:
                    try:
                        exchange.look(now)
                    except Exception:
                        logger.exception("upstream_look_failed")
            self._also(now)

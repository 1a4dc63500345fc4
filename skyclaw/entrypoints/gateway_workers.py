"""Several processes that share the port of one gateway: a parent that only looks after them, and workers that are each a whole gateway.

1. The parent listens, and forks the workers, which accept from the same socket. It has no thread, so it may fork again at any time.
2. A worker that ends is replaced, after a pause that grows while workers live for a short time only; what connects meanwhile waits.
3. The first signal makes every worker drain; a second one, or the time, ends them by force. It is the parent that is to be told.
4. Each worker holds the reading end of a pipe that only the parent could write to. When the parent is gone, however that happened, the
   pipe ends, and so does the worker.
"""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable

from skyclaw.entrypoints.gateway import DRAIN_S, STOPPED_AT_ONCE, announce, open_listener, start_gateway
from skyclaw.entrypoints.gateway_settings import GatewaySettings
from skyclaw.entrypoints.signals import StopSignals
from skyclaw.outside.cpus import stay_on_one_cpu
from skyclaw.outside.processes import hide_from_jobs

logger = logging.getLogger(__name__)

LOOK_S = 0.1
SPARE_S = 5.0  # beyond the workers' own time to drain
ORPHANS_DRAIN_S = 2.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
LONG_LIFE_S = 10.0  # of a worker, after which the next pause is the first one again


class Crew:
    """So many children, numbered from 0, each of which does `work` and exits with its result. To be used by a process without threads."""

    def __init__(self, count: int, work: Callable[[int], int]) -> None:
        self._work = work
        self._born: dict[int, tuple[int, float]] = {}  # pid -> number, and when, time.monotonic
        self._due = [(number, 0.0) for number in range(count)]  # those that are missing, and when they may be started
        self._pause_s = 0.0

    @property
    def pids(self) -> tuple[int, ...]:
        """Those that live, or were not reaped yet."""
        return tuple(self._born)

    def look_after(self) -> None:
        """Notice who has ended, and start whom it is time to start."""
        now = time.monotonic()
        for pid, code in self.reap():
            number, born = self._born.pop(pid)
            self._pause_s = FIRST_PAUSE_S if now - born > LONG_LIFE_S else self._next_pause_s()
            self._due.append((number, now + self._pause_s))
            logger.warning("gateway_worker_ended pid=%d code=%d again_in_s=%.1f", pid, code, self._pause_s)
        for missing in [missing for missing in self._due if missing[1] <= now]:
            self._due.remove(missing)
            self._born[self._fork(missing[0])] = missing[0], now

    def reap(self) -> list[tuple[int, int]]:
        """Those that have ended, with their exit codes, negative for a signal; they are still among `pids`."""
        found = [os.waitpid(pid, os.WNOHANG) for pid in self._born]
        return [(pid, os.waitstatus_to_exitcode(status)) for pid, status in found if pid]

    def end(self, signals: StopSignals) -> bool:
        """Let all drain; by force after the time, or a further signal. Whether none had to be forced."""
        ends = time.monotonic() + DRAIN_S + SPARE_S
        while self._born and time.monotonic() < ends and not signals.came_within(LOOK_S):
            self._tell(signal.SIGTERM)  # again and again: one that has just been started may have missed it
            for pid, _ in self.reap():
                del self._born[pid]
        forced = bool(self._born)
        self._tell(signal.SIGKILL)
        for pid in self._born:
            os.waitpid(pid, 0)
        self._born.clear()
        return not forced

    def _tell(self, number: signal.Signals) -> None:
        for pid in self._born:
            os.kill(pid, number)

    def _next_pause_s(self) -> float:
        return min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, self._pause_s * 2))

    def _fork(self, number: int) -> int:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = self._work(number)
            except BaseException:
                logger.exception("gateway_worker_failed")
            finally:
                os._exit(code)
        return pid


def run_workers(settings: GatewaySettings) -> int:
    """Be the parent of a gateway's workers until a signal says otherwise. Returns the exit code."""
    hide_from_jobs()
    listener = open_listener(settings)
    lives, lived = os.pipe()

    def work(number: int) -> int:
        os.close(lived)
        if settings.one_cpu:
            stay_on_one_cpu(number)
        return _work(settings, listener, lives)

    signals, crew = StopSignals(), Crew(settings.workers, work)
    crew.look_after()
    announce(settings, listener)
    while not signals.came_within(LOOK_S):
        crew.look_after()
    listener.close()
    return 0 if crew.end(signals) else STOPPED_AT_ONCE


def _work(settings: GatewaySettings, listener: socket.socket, parent_lives: int) -> int:
    """Be a worker until the parent says otherwise, or is gone. Returns the exit code."""
    signals = StopSignals()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # typed at the terminal, it comes to the parent as well
    orphaned = threading.Event()
    threading.Thread(target=_watch, args=(parent_lives, orphaned), name="gateway-parent", daemon=True).start()
    running = start_gateway(settings, listener)
    signals.wait(running.failed, orphaned)
    if running.failed.is_set():
        return 1
    drained = running.drain()
    while not drained.wait(LOOK_S):
        if orphaned.is_set():
            drained.wait(ORPHANS_DRAIN_S)
            break
    return 0


def _watch(parent_lives: int, orphaned: threading.Event) -> None:
    """Set the event when the other end of the pipe is closed."""
    os.read(parent_lives, 1)
    orphaned.set()

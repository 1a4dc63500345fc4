"""Threads that do for ServiceSupervisor what takes its time."""

import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

logger = logging.getLogger(__name__)

Work = Callable[[], object]


class ServiceThreads:
    """At most so many threads, started when they are needed, which do what they are given in its order.

    None of them keeps the process from ending. Only one thread may give them work and stop them.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._waiting: SimpleQueue[Work | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def do(self, work: Work) -> None:
        """Do this when a thread has time for it."""
        self._waiting.put(work)
        if len(self._threads) < self._most:
            thread = threading.Thread(target=self._run, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, patience_s: float) -> None:
        """Wait for what was given, but not longer than this; the rest may be done or not."""
        ends = time.monotonic() + patience_s
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))

    def _run(self) -> None:
        while (work := self._waiting.get()) is not None:
            try:
                work()
            except Exception:
                logger.exception("service_helper_failed")

"""The threads that run the application. Waitress brings its own, but theirs wake each other up three times for one request."""

import logging
import threading
import time
from queue import SimpleQueue
from typing import Protocol

logger = logging.getLogger(__name__)

IDLE_S = 0.5  # for all idle threads to end


class Task(Protocol):
    """A connection with a request that has come in."""

    def service(self) -> None:
        """Answer the request."""


class Workers:
    """So many threads, which take the tasks in the order in which they come."""

    def __init__(self, threads: int) -> None:
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"http-{number}", daemon=True) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def add_task(self, task: Task) -> None:
        """Let a thread do it."""
        self._tasks.put(task)

    def shutdown(self, timeout: float) -> None:
        """End the threads after what was asked of them; those that take longer (s) are left behind. Idle ones get the time to end."""
        ends = time.monotonic() + max(timeout, IDLE_S)
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))
        if late := sum(thread.is_alive() for thread in self._threads):
            logger.warning("http_workers_left_behind threads=%d", late)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task.service()
            except BaseException:
                logger.exception("http_task_failed")

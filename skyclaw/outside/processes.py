"""Runs a host's processes: an `Order` or a `ServiceOrder` in, an `Ended` out, exactly once.

The work is done by one small child process, the executor (see job_loop), so that a host with many threads forks for nothing else. When it
dies its jobs are ended here, because this process has then become their parent, and the next order starts another one.
"""

import os
import pwd
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from skyclaw.errors import StartRefused
from skyclaw.outside.executor_process import ExecutorProcess
from skyclaw.outside.orders import EXECUTOR_DIED, Ended, Limits, Order, ServiceOrder
from skyclaw.outside.sandbox import LEVELS, hide_memory, safe_path

__all__ = ["EXECUTOR_DIED", "Ended", "Executor", "Limits", "Order", "ServiceOrder", "hide_from_jobs"]


def hide_from_jobs() -> bool:
    """Keep jobs of the same user from reading this process' environment and memory; False where the system has no such thing.

    Call it when the host starts, before it runs any job.
    """
    return hide_memory()


class Executor:
    """Runs orders in an executor process, which is started again when it died. Any thread may call any of it.

    `work_parent` is a directory of the host's own: jobs' directories are made below it, and what an earlier executor left there is
    deleted. `on_end` is called from a thread of this class, once for each order. `level` is "none" or "process"; `job_user`, for hosts
    that run as root, is who the jobs run as.
    Raises StartRefused for what can never work here.
    """

    def __init__(self, work_parent: Path, limits: Limits, level: str, on_end: Callable[[Ended], None], job_user: str | None = None) -> None:
        if level not in LEVELS:
            raise StartRefused(f"there is no isolation level {level!r} here")
        self._work_parent = work_parent.absolute()
        self._wanted = {
            "level": level,
            "limits": {**asdict(limits), "term_grace_ms": limits.term_grace_ms or 0},
            "path": safe_path(os.environ.get("PATH", os.defpath)),
        }
        self._account = _account(job_user)
        self._on_end = on_end
        self._lock = threading.Lock()
        self._lives: list[ExecutorProcess] = []
        self._stopped = False

    @property
    def alive(self) -> bool:
        """Whether there is an executor process that takes orders."""
        return any(life.open for life in self._lives)

    def start(self) -> None:
        """Start the executor process, unless there is one; raises StartRefused."""
        with self._lock:
            self._stopped = False
            self._living()

    def run(self, order: Order | ServiceOrder) -> None:
        """Start a process for an order, and return at once; whatever goes wrong is told to `on_end`.

        Raises ValueError for a run_id that is running already.
        """
        with self._lock:
            if order.run_id in self.running():
                raise ValueError(f"{order.run_id} is running already")
            try:
                while not self._stopped and not self._living().run(order):
                    pass
            except StartRefused as error:
                self._refuse(order, f"{EXECUTOR_DIED}: {error}")
            else:
                if self._stopped:
                    self._refuse(order, f"{EXECUTOR_DIED}: it was stopped")

    def kill(self, run_id: str, reason: str) -> None:
        """End an order's processes: TERM, the grace, KILL. Nothing happens when it is not running."""
        for life in tuple(self._lives):
            life.kill(run_id, reason)

    def running(self) -> frozenset[str]:
        """The run_ids of the orders whose end was not told yet."""
        return frozenset().union(*(life.running() for life in tuple(self._lives)))

    def stop(self, timeout_s: float = 5.0) -> None:
        """Kill what runs, wait until all of it was told to `on_end`, and end the executor process, by force after `timeout_s`."""
        with self._lock:
            self._stopped = True
            lives, self._lives = self._lives, []
        for life in lives:
            life.stop(timeout_s)

    def _living(self) -> ExecutorProcess:
        self._lives = [life for life in self._lives if life.open or life.running()]
        if not self.alive:
            self._lives.append(ExecutorProcess(self._work_parent, self._wanted, self._account, self._on_end))
        return self._lives[-1]

    def _refuse(self, order: Order | ServiceOrder, error: str) -> None:
        ended = Ended(order.run_id, 1, None, False, None, 0, "", "", 0, 0, False, error)
        threading.Thread(target=self._on_end, args=(ended,), name="executor-reader", daemon=True).start()


def _account(job_user: str | None) -> pwd.struct_passwd | None:
    """Whom the executor has to become; None to stay who we are."""
    if not job_user:
        return None
    try:
        account = pwd.getpwnam(job_user)
    except KeyError as error:
        raise StartRefused(f"there is no user {job_user} to run jobs as") from error
    if account.pw_uid == 0:
        raise StartRefused("jobs must not run as root")
    if account.pw_uid == os.getuid():
        return None
    if os.getuid() != 0:
        raise StartRefused(f"only root can run jobs as {job_user}")
    return account

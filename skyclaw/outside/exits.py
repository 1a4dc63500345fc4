"""How the executor learns that a job's first process has ended: by its pidfd, or by SIGCHLD where there are none."""

import os
import selectors
import signal
import socket
from collections.abc import Callable
from typing import Protocol

from skyclaw.outside.job_process import JobProcess

OnExit = Callable[[JobProcess], None]


class Watch(Protocol):
    """Calls back once for each job whose process ended. Where the system can tell that without reaping it, it is not reaped yet."""

    def add(self, job: JobProcess) -> None:
        """Watch one more job; raises OSError."""


def watch_exits(selector: selectors.BaseSelector, on_exit: OnExit) -> Watch:
    """The best watch there is here; it reports from within the handlers that it registers with the selector."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return ChildSignal(selector, on_exit)
    return PidFiles(selector, on_exit)


class PidFiles:
    """A descriptor for each process, which can be read once it has ended."""

    def __init__(self, selector: selectors.BaseSelector, on_exit: OnExit) -> None:
        self._selector = selector
        self._on_exit = on_exit

    def add(self, job: JobProcess) -> None:
        """Watch one more job; raises OSError."""
        file = os.pidfd_open(job.pid)
        self._selector.register(file, selectors.EVENT_READ, (self._ended, file, job))

    def _ended(self, file: int, job: JobProcess) -> None:
        self._selector.unregister(file)
        os.close(file)
        self._on_exit(job)


class ChildSignal:
    """SIGCHLD wakes the selector, and every watched process is asked whether it was that one."""

    def __init__(self, selector: selectors.BaseSelector, on_exit: OnExit) -> None:
        self._on_exit = on_exit
        self._jobs: dict[int, JobProcess] = {}
        self._woken, waker = socket.socketpair()
        self._woken.setblocking(False)
        waker.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker.detach(), warn_on_full_buffer=False)
        selector.register(self._woken, selectors.EVENT_READ, (self._look,))

    def add(self, job: JobProcess) -> None:
        """Watch one more job."""
        self._jobs[job.pid] = job

    def _look(self) -> None:
        self._woken.recv(4_096)
        for job in [job for job in self._jobs.values() if _has_ended(job)]:
            del self._jobs[job.pid]
            self._on_exit(job)


def _has_ended(job: JobProcess) -> bool:
    if hasattr(os, "waitid"):
        return os.waitid(os.P_PID, job.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return job.reap(wait=False)

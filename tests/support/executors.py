"""A real executor with real processes, for tests: run something, wait for its end, look for what is left."""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from skyclaw.outside import executor_process
from skyclaw.outside.processes import Ended, Executor, Limits, Order

PATIENCE_S = 30.0
QUICK = Limits(term_grace_ms=300)
ROOT = os.getuid() == 0
_counter = count(1)


def children() -> set[int]:
    """The child processes of this one, dead ones included."""
    found = set()
    for thread in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError):  # the thread has just ended
            found |= set(map(int, Path("/proc/self/task", thread, "children").read_text().split()))
    return found


def command_line(pid: int | str) -> bytes:
    """A process' arguments; nothing for one that is gone, or dead."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def with_argument(word: str) -> list[int]:
    """The living processes that have a word among their arguments: they cannot lose it as they can lose their environment."""
    wanted = word.encode()
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and wanted in command_line(name).split(b"\0")]


def sleepers(seconds: str) -> list[int]:
    """The processes that sleep that long by now: unlike `with_argument`, without those that become or start them, which soon go."""
    wanted = [b"sleep", seconds.encode(), b""]
    return [pid for pid in with_argument(seconds) if command_line(pid).removeprefix(b"/bin/").split(b"\0") == wanted]


def a_long_time() -> str:
    """A number of seconds to sleep that no other process sleeps, to find the sleepers by."""
    return f"{9_000 + next(_counter)}.{os.getpid()}"


def until(condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Wait for a condition; gives what it gave, or fails."""
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
    return value


class Rig:
    """An executor, and the ends that it told."""

    def __init__(self, parent: Path, limits: Limits = QUICK, level: str = "process", job_user: str | None = None) -> None:
        self.parent = parent
        self._told = threading.Condition()
        self.ends: list[Ended] = []
        self.executor = Executor(parent, limits, level, self._on_end, job_user)
        self.executor.start()

    def start(self, *argv: str, **fields: Any) -> str:
        """Run a program; gives the run_id."""
        run_id = fields.pop("run_id", None) or f"run-{os.getpid()}-{next(_counter)}"
        order = {"env": {}, "cwd": None, "timeout_ms": 60_000, "max_output_bytes": 4_096, "job_id": "job_1", **fields}
        self.executor.run(Order(run_id=run_id, argv=argv, **order))
        return str(run_id)

    def shell(self, script: str, **fields: Any) -> str:
        """Start a shell script; gives the run_id."""
        return self.start("/bin/sh", "-c", script, **fields)

    def end(self, run_id: str, patience_s: float = PATIENCE_S) -> Ended:
        """Wait for an end."""
        with self._told:
            assert self._told.wait_for(lambda: self._end(run_id), patience_s), f"{run_id} was never told"
        ended = self._end(run_id)
        assert ended is not None
        return ended

    def run(self, *argv: str, **fields: Any) -> Ended:
        """Run a program to its end."""
        return self.end(self.start(*argv, **fields))

    def sh(self, script: str, **fields: Any) -> Ended:
        """Run a shell script to its end."""
        return self.end(self.shell(script, **fields))

    @property
    def pid(self) -> int:
        """The executor process that was started last."""
        return max((pid for pid in children() if b"skyclaw.outside.executor" in command_line(pid)), key=_started_at)

    def _end(self, run_id: str) -> Ended | None:
        return next((ended for ended in self.ends if ended.run_id == run_id), None)

    def _on_end(self, ended: Ended) -> None:
        with self._told:
            self.ends.append(ended)
            self._told.notify_all()


def _started_at(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def change_executors(patch: pytest.MonkeyPatch, code: str) -> None:
    """Executors that start from now on run some code first, which ends with "; "."""
    start, rest = executor_process._PROGRAM.split("from ")
    patch.setattr(executor_process, "_PROGRAM", f"{start}{code}from {rest}")


@contextmanager
def nothing_left() -> Iterator[None]:
    """No child process more than before, not even a dead one."""
    before = children()
    yield
    until(lambda: not children() - before)


@contextmanager
def running(limits: Limits = QUICK, level: str = "process", job_user: str | None = None) -> Iterator[Rig]:
    """A rig whose directory the jobs' user can reach; nothing may be left of it afterwards."""
    with nothing_left(), reachable_directory() as top:
        rig = Rig(top / "work", limits, level, job_user)
        try:
            yield rig
        finally:
            rig.executor.stop()
        assert list((top / "work").iterdir()) == []
        assert not rig.executor.running()


@contextmanager
def reachable_directory() -> Iterator[Path]:
    """A new directory that every user can pass through, unlike those of pytest."""
    top = Path(tempfile.mkdtemp())
    top.chmod(0o711)
    try:
        yield top
    finally:
        shutil.rmtree(top)

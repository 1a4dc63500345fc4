"""One job while it runs: its process, its pipes, what is kept of its output, and how it ended."""

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Any, NamedTuple

from skyclaw.outside.outputs import Kept, Output
from skyclaw.outside.sandbox import JobLimits
from skyclaw.outside.workdirs import Home

NEVER = float("inf")
COMMAND_MISSING, COMMAND_UNUSABLE, BY_SIGNAL = 127, 126, 128
_READ_BYTES = 1 << 16
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
_MOST_LEFT_READS = 16  # a pipe holds at most 1 MiB


class Step(Enum):
    """Where a job is on its way; see job_loop."""

    RUNNING = "running"
    STOPPING = "stopping"
    LINGERING = "lingering"
    SWEEPING = "sweeping"


class NotStarted(Exception):
    """The process could not be started; says why, and the exit code that a shell gives for it."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code

    @property
    def crowded(self) -> bool:
        """Whether there were too many processes."""
        return isinstance(self.__cause__, OSError) and self.__cause__.errno == errno.EAGAIN

    def report(self, run_id: str) -> dict[str, Any]:
        """The message for the host."""
        return {"op": "ended", "run": run_id, "exit": self.exit_code, "error": str(self)}


class Ask(NamedTuple):
    """What is to be run, complete: the environment and the directory are the job's own by now.

    There is a pipe for each of the `outputs`: one for stdout and one for stderr, or one for both. None is no limit.
    """

    run_id: str
    argv: list[str]
    env: Mapping[str, str]
    cwd: str
    timeout_ms: int | None
    grace_s: float
    most_output_bytes: int | None
    outputs: tuple[Output, ...]
    stdin: bytes | None = None


class Stream:
    """A pipe from the job; `fd` is None when it is closed, or there is none."""

    __slots__ = ("fd", "kept")

    def __init__(self, fd: int | None, kept: Output) -> None:
        self.fd = fd
        self.kept = kept

    def read(self) -> bool:
        """Take what is there, when the pipe can be read; False at its end."""
        data = os.read(self.fd, _READ_BYTES) if self.fd is not None else b""
        self.kept.add(data)
        return bool(data)

    def read_rest(self) -> None:
        """Take what is still in the pipe, without waiting for its end: somebody may hold it open."""
        if self.fd is not None:
            os.set_blocking(self.fd, False)
            with suppress(BlockingIOError):
                for _ in range(_MOST_LEFT_READS):
                    if not self.read():
                        break


class Handover:
    """Low descriptors of this process, from which a job gets its 0, 1 and 2.

    None can be handed over whose number a job's limit does not allow, and with many jobs this process has numbers far above that.
    """

    def __init__(self) -> None:
        self.nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._low = [os.dup(self.nothing) for _ in range(3)]

    @contextmanager
    def of(self, *files: int) -> Iterator[list[int]]:
        """The numbers under which three descriptors can be handed over now; raises OSError."""
        try:
            for file, low in zip(files, self._low, strict=True):
                os.dup2(file, low, inheritable=False)
            yield self._low
        finally:
            for low in self._low:
                os.dup2(self.nothing, low, inheritable=False)


class JobProcess:
    """A job's process, which leads a session and a group of its own. Raises NotStarted. Times are seconds of the monotonic clock.

    `step`, `due` and `action` are the executor's: how far the job is, and what is done with it next, and when.
    """

    __slots__ = (
        "action",
        "ask",
        "due",
        "ended_at",
        "err",
        "error",
        "exit_code",
        "give_up_at",
        "home",
        "killed",
        "number",
        "out",
        "pause_s",
        "pid",
        "started_at",
        "stdin_fd",
        "stdin_left",
        "step",
        "timed_out",
    )

    def __init__(self, ask: Ask, home: Home, number: int, handover: Handover, limits: JobLimits) -> None:
        self.ask, self.home, self.number = ask, home, number
        self.exit_code: int | None = None
        self.killed: str | None = None
        self.error: str | None = None
        self.timed_out = False
        self.ended_at: float | None = None
        self.give_up_at = NEVER
        self.pause_s = 0.0
        self.step = Step.RUNNING
        self.due = NEVER
        self.action: Callable[[JobProcess], None] | None = None
        self.stdin_left = memoryview(ask.stdin or b"")
        self.started_at = time.monotonic()
        self._start(handover, limits)

    def _start(self, handover: Handover, limits: JobLimits) -> None:
        ours: list[int] = []
        theirs: list[int] = []
        try:
            for _ in self.ask.outputs:
                _pipe(ours, theirs)
            writing = theirs.copy()
            if self.ask.stdin is not None:
                _pipe(theirs, ours)
            given = theirs[len(writing) :] or [handover.nothing]
            with handover.of(*given, writing[0], writing[-1]) as files:
                self.pid = _spawned(self.ask, files, limits)
        except NotStarted:
            _close(ours)
            raise
        except OSError as error:
            _close(ours)
            raise NotStarted(f"spawn {self.ask.argv[0]} {name_of(error)}", COMMAND_UNUSABLE) from error
        finally:
            _close(theirs)
        self.out, self.err = (*map(Stream, ours, self.ask.outputs), Stream(None, Kept(0)))[:2]
        self.stdin_fd = ours[len(writing)] if len(ours) > len(writing) else None
        if self.stdin_fd is not None:
            os.set_blocking(self.stdin_fd, False)

    @property
    def output_bytes(self) -> int:
        """All that the job has written so far."""
        return self.out.kept.total + self.err.kept.total

    @property
    def silent(self) -> bool:
        """Whether both of its pipes are at their end."""
        return self.out.fd is None and self.err.fd is None

    def write_input(self) -> bool:
        """Give the job what it takes of its input now; whether it is still to get more."""
        if self.stdin_fd is None:
            return False
        try:
            self.stdin_left = self.stdin_left[os.write(self.stdin_fd, self.stdin_left) :] if self.stdin_left else self.stdin_left
        except BlockingIOError:
            return True
        except BrokenPipeError:  # it does not want it
            return False
        return bool(self.stdin_left)

    def signal_group(self, number: int) -> None:
        """Signal all processes of the job's group; call it only before `reap`, while the group's number cannot be another's."""
        with suppress(ProcessLookupError, PermissionError):  # set-uid programs at level `none` are out of reach
            os.killpg(self.pid, number)

    def reap(self, wait: bool) -> bool:
        """Take the exit code of the process if it has ended; whether it has."""
        if self.exit_code is None:
            pid, status = os.waitpid(self.pid, 0 if wait else os.WNOHANG)
            self.exit_code = os.waitstatus_to_exitcode(status) if pid else None
        return self.exit_code is not None

    def report(self) -> tuple[dict[str, Any], bytes, bytes]:
        """The message for the host, and both outputs as UTF-8."""
        code = self.exit_code or 0
        (out, out_cut), (err, err_cut) = self.out.kept.text(), self.err.kept.text()
        head = {
            "op": "ended",
            "run": self.ask.run_id,
            "exit": code if code >= 0 else BY_SIGNAL - code,
            "signal": None if code >= 0 else _signal_name(-code),
            "timedOut": self.timed_out,
            "killed": self.killed,
            "ms": round(((self.ended_at or time.monotonic()) - self.started_at) * 1000),
            "outBytes": self.out.kept.total,
            "errBytes": self.err.kept.total,
            "truncated": out_cut or err_cut,
            "error": self.error,
        }
        return head, out, err


def _spawned(ask: Ask, files: list[int], limits: JobLimits) -> int:
    """The pid of a new process, which gets these three as its 0, 1 and 2; raises NotStarted.

    By posix_spawn: it neither copies this process' page tables nor opens a file, as `subprocess` does in order to hear of errors. All other
    descriptors of this process are closed by the exec, and signals that Python ignores get their usual effect.
    """
    try:
        os.chdir(ask.cwd)
    except OSError as error:
        raise NotStarted(f"cwd {ask.cwd} {name_of(error)}", COMMAND_UNUSABLE) from error
    actions = [(os.POSIX_SPAWN_DUP2, file, number) for number, file in enumerate(files)]
    try:
        with limits.starting():
            return os.posix_spawn(ask.argv[0], ask.argv, ask.env, file_actions=actions, setsid=True, setsigdef=_IGNORED)
    except OSError as error:
        missing = error.errno == errno.ENOENT
        raise NotStarted(f"spawn {ask.argv[0]} {name_of(error)}", COMMAND_MISSING if missing else COMMAND_UNUSABLE) from error
    except ValueError as error:  # NUL or a lone surrogate
        raise NotStarted(f"spawn {ask.argv[0]!r}: {error}", COMMAND_UNUSABLE) from error
    finally:
        os.chdir("/")


def _pipe(reading: list[int], writing: list[int]) -> None:
    read_end, write_end = os.pipe()
    reading.append(read_end)
    writing.append(write_end)


def _close(files: list[int]) -> None:
    for file in files:
        os.close(file)


def name_of(error: OSError) -> str:
    """The error's name, as ENOENT."""
    return errno.errorcode.get(error.errno or 0, str(error))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:  # a real-time signal
        return str(number)

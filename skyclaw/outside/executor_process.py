"""One executor process, seen from its host: its start, what is sent to it and heard from it, and its death."""

import fcntl
import logging
import os
import pwd
import select
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skyclaw.errors import StartRefused
from skyclaw.outside.frames import FrameBroken, Frames
from skyclaw.outside.orders import EXECUTOR_DIED, Ended, Order, ServiceOrder
from skyclaw.outside.removing import removal, removed
from skyclaw.outside.sandbox import adopt_orphans
from skyclaw.outside.sweeping import end_orphans, executors, starting
from skyclaw.outside.workdirs import fresh_directory, private_parent

logger = logging.getLogger(__name__)

_ROOT = str(Path(__file__).resolve().parents[2])
_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from skyclaw.outside.executor import main; main()"
_SESSION = "jobs-"
_READY_WITHIN_S = 10.0
_LAST_WORDS_S = 1.0
_BURIED_WITHIN_S = 10.0


class ExecutorProcess:
    """Starts an executor process; raises StartRefused when it does not come up. `open` tells whether it takes orders.

    What it says is heard by a thread of its own, from which `on_end` is called. When it is gone, however it went, everything that it ran
    is ended, and then the orders that it did not report are.
    """

    def __init__(
        self, work_parent: Path, wanted: dict[str, Any], account: pwd.struct_passwd | None, on_end: Callable[[Ended], None]
    ) -> None:
        self._on_end = on_end
        self._lock = threading.Lock()
        self._orders: dict[str, float] = {}
        self._missing: tuple[str, ...] = ()
        self.open = True
        self._same_user = account is None
        adopt_orphans()
        stale, self._session, self._held = _new_session(work_parent, account)
        try:
            self._link, self._process = _launch()
        except OSError as error:
            os.close(self._held)
            removed(self._session)
            raise StartRefused(f"the executor for jobs cannot be started: {error}") from error
        self._woken, self._waker = os.pipe()
        self._link.send({**wanted, "session": self._session, "stale": stale, "user": account.pw_name if account else None})
        try:
            self._await_ready()
        except StartRefused:
            self._process.kill()
            self._bury()
            raise
        self._thread = threading.Thread(target=self._listen, name="executor-reader", daemon=True)
        self._thread.start()

    def run(self, order: Order | ServiceOrder) -> bool:
        """Hand an order over; False when the executor is gone, and the order was not taken."""
        head = {"run": order.run_id, "argv": order.argv, "env": dict(order.env), "cwd": order.cwd, **_kind(order)}
        stdin = order.stdin if isinstance(order, Order) else None
        with self._lock:
            if self.open:
                self._orders[order.run_id] = time.monotonic()
                self._send(head) if stdin is None else self._send(head, stdin)
            return self.open

    def kill(self, run_id: str, reason: str) -> None:
        """Ask for the end of an order; nothing happens when it is not running."""
        with self._lock:
            if self.open and run_id in self._orders:
                self._send({"op": "kill", "run": run_id, "reason": reason})

    def running(self) -> frozenset[str]:
        """The orders whose end was not told yet."""
        with self._lock:
            return frozenset(self._orders)

    def stop(self, timeout_s: float) -> None:
        """End it and all that it runs, and wait until that was told; from the thread that tells it, without waiting."""
        with self._lock:
            if self.open:
                self._send({"op": "stop"})
        if threading.current_thread() is self._thread:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._process.kill()
            self._thread.join(_BURIED_WITHIN_S)

    def _send(self, head: dict[str, Any], *blobs: bytes) -> None:
        self._link.send(head, *blobs)
        if self._link.unsent:
            os.write(self._waker, b"!")

    # the executor's start and death

    def _await_ready(self) -> None:
        until = time.monotonic() + _READY_WITHIN_S
        try:
            while not (heard := self._heard(max(0.0, until - time.monotonic()))):
                if time.monotonic() > until:
                    raise StartRefused("the executor for jobs does not answer")
        except (EOFError, FrameBroken) as error:
            raise StartRefused("the executor for jobs died at its start") from error
        (head, _), *more = heard
        if head["op"] != "ready":
            raise StartRefused(f"the executor for jobs cannot run: {head.get('error')}")
        self._missing = tuple(head["missing"])
        for early, blobs in more:  # which directories of dead executors are left
            self._hear(early, blobs)

    def _bury(self) -> None:
        """End what the executor left behind, and tell the orders that nobody else will tell any more."""
        try:
            self._process.wait(_LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        executors.discard(self._process.pid)
        with self._lock:
            self.open = False
            self._link.close()
            os.close(self._woken)
            os.close(self._waker)
            os.close(self._held)  # so that the next executor deletes what is left, when this host may not
        if not end_orphans(self._orders):
            logger.error("orphans_left processes of jobs could not be ended")
        for run_id in list(self._orders):
            self._tell(run_id, {"exit": 137, "signal": "KILL", "error": EXECUTOR_DIED})
        if self._same_user:
            deque(removal(self._session), maxlen=0)
        removed(self._session)

    # its words

    def _listen(self) -> None:
        try:
            while True:
                for head, blobs in self._heard(None):
                    self._hear(head, blobs)
        except EOFError:
            self._bury()
        except Exception:
            logger.exception("executor_lost the executor for jobs cannot be understood")
            self._process.kill()
            self._bury()

    def _heard(self, timeout_s: float | None) -> list[tuple[dict[str, Any], list[bytes]]]:
        """What the executor said by now, after waiting for it; sends what could not be sent at once."""
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        poll.register(self._link, select.POLLIN | (select.POLLOUT if self._link.unsent else 0))
        ready = dict(poll.poll(None if timeout_s is None else timeout_s * 1000))
        if self._woken in ready:
            os.read(self._woken, 4_096)
        with self._lock:
            self._link.flush()
        return self._link.receive()

    def _hear(self, head: dict[str, Any], blobs: list[bytes]) -> None:
        if head["op"] == "ended":
            self._tell(head["run"], head, *blobs)
        elif head["op"] == "left" and not removed(head["path"]):
            logger.warning("directory_left path=%s could not be deleted", head["path"])

    def _tell(self, run_id: str, head: dict[str, Any], stdout: bytes = b"", stderr: bytes = b"") -> None:
        with self._lock:
            started_at = self._orders.pop(run_id)
        ended = Ended(
            run_id,
            head["exit"],
            head.get("signal"),
            head.get("timedOut", False),
            head.get("killed"),
            head["ms"] if "ms" in head else round((time.monotonic() - started_at) * 1000),
            stdout.decode(),
            stderr.decode(),
            head.get("outBytes", 0),
            head.get("errBytes", 0),
            head.get("truncated", False),
            head["error"],
            self._missing,
        )
        try:
            self._on_end(ended)
        except Exception:
            logger.exception("on_end_failed run=%s", run_id)


def _kind(order: Order | ServiceOrder) -> dict[str, Any]:
    """What an order says beyond what both kinds of orders say."""
    if isinstance(order, Order):
        return {"op": "run", "timeoutMs": order.timeout_ms, "keptBytes": order.max_output_bytes, "job": order.job_id}
    kept = {"output": order.output, "keptBytes": order.kept_bytes, "lastBytes": order.last_bytes}
    return {"op": "serve", "instance": order.instance_id, "graceMs": order.grace_ms, **kept}


def _launch() -> tuple[Frames, "subprocess.Popen[bytes]"]:
    """Start the program: from any directory, without site packages, and with nothing of our environment but the search path."""
    ours, theirs = socket.socketpair()
    env = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
    with theirs, starting:
        process = subprocess.Popen(  # noqa: S603  # our own interpreter and our own program
            [sys.executable, "-I", "-S", "-c", _PROGRAM, _ROOT],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            cwd="/",
            env=env,
            start_new_session=True,
        )
        executors.add(process.pid)
    return Frames(ours), process


def _new_session(parent: Path, account: pwd.struct_passwd | None) -> tuple[list[str], str, int]:
    """What dead executors left below `parent`, a fresh directory for one's jobs, and the descriptor that shows others that it lives."""
    private_parent(parent, passable=account is not None)
    try:
        with _alone(parent):
            stale = [str(path) for path in parent.glob(f"{_SESSION}*") if not path.is_symlink() and _is_left(path)]
            session = fresh_directory(str(parent), _SESSION)
            held = os.open(session, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(held, fcntl.LOCK_EX)
            if account is not None:
                os.chown(held, account.pw_uid, account.pw_gid)
    except OSError as error:
        raise StartRefused(f"the directory for jobs, {parent}, cannot be used: {os.strerror(error.errno or 0)}") from error
    return stale, session, held


@contextmanager
def _alone(parent: Path) -> Iterator[None]:
    file = os.open(parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _is_left(session: Path) -> bool:
    """Whether no living host holds it."""
    try:
        file = os.open(session, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True

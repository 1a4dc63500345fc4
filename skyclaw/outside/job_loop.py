"""The loop of the executor: every job of a host, from its start to the end of its last descendant.

A job goes through these steps (and so does the process of a service, without limits of its time and output, with a grace of its own):

1. running: in a directory and a session of its own, with its limits;
2. stopping, if its time is up, it wrote too much or the host says so: TERM to its group, and KILL when the grace is over;
3. lingering, once its first process has ended: as long as somebody holds its pipes, but not for long;
4. sweeping: KILL to the group and to every descendant that escaped from it, until none is found.

It is reported when nothing of it runs any more, and its directory is deleted after that.
"""

import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from skyclaw.outside.exits import watch_exits
from skyclaw.outside.frames import FrameBroken, Frames
from skyclaw.outside.job_process import COMMAND_UNUSABLE, NEVER, Ask, Handover, JobProcess, NotStarted, Step, Stream, name_of
from skyclaw.outside.outputs import Filed, Kept
from skyclaw.outside.removing import Removals
from skyclaw.outside.rotating import PARTS, Rotating
from skyclaw.outside.sandbox import Caps, JobLimits, job_environment, service_environment
from skyclaw.outside.sweeping import Numbers, Sweeper
from skyclaw.outside.workdirs import Home, Homes, cwd_inside

SURVIVED = "some of its processes cannot be ended"
LINGER_S = 0.5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _GIVE_UP_S = 0.001, 0.05, 5.0
_TICK_S = 0.2
_COUNT_EVERY_S = 30.0
_TIDY_S, _LAST_TIDY_S = 0.005, 1.5
_LAST_GRACE_S = 1.5
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class JobLoop:
    """Runs what the other end of `link` asks for, in directories below `session`, until that end closes or says stop.

    `path` is the jobs' search path, `stale` directories that others left and that are deleted meanwhile.
    """

    def __init__(self, link: Frames, session: str, path: str, caps: Caps, limits: JobLimits, stale: Iterable[str]) -> None:
        self._handover = Handover()  # first, while the low numbers are free
        self._link, self._homes, self._path = link, Homes(session), path
        self._caps, self._limits = caps, limits
        self._grace_s = caps.term_grace_ms / 1000
        self._selector = selectors.DefaultSelector()
        self._exits = watch_exits(self._selector, self._on_exit)
        self._numbers, self._sweeper = Numbers(), Sweeper()
        self._jobs: dict[str, JobProcess] = {}
        self._leaders: set[int] = set()
        self._asked: deque[tuple[dict[str, Any], list[bytes]]] = deque()
        self._removals = Removals(self._on_left)
        self._ending = self._alone = False
        self._listening = _READ
        self._wake_at = self._tick_at = NEVER
        self._count_at = time.monotonic() + _COUNT_EVERY_S
        self._selector.register(link, _READ, (self._on_host,))
        for directory in stale:
            self._removals.add(directory)

    def serve(self) -> None:
        """Return when the host has let go and nothing runs any more."""
        while self._jobs or self._asked or not self._ending or (self._link.unsent and not self._alone):
            for key, _ in self._selector.select(self._patience_s()):
                handler, *args = key.data
                handler(*args)
            self._do_next()
            self._act_on_time()
            self._removals.go_on(_TIDY_S)
            self._listen()
        self._homes.close()
        self._removals.go_on(_LAST_TIDY_S)

    def _patience_s(self) -> float | None:
        if self._asked or self._removals:
            return 0
        return None if self._wake_at == NEVER else max(0.0, self._wake_at - time.monotonic())

    # the host

    def _on_host(self) -> None:
        self._link.flush()
        try:
            self._asked += self._link.receive()
        except (EOFError, FrameBroken):
            self._alone = True
            self._asked.clear()
            self._selector.unregister(self._link)
            self._end_all("host ended", _LAST_GRACE_S)

    def _do_next(self) -> None:
        """One of the things that the host asked for; the others have to wait until pipes and clocks had their turn."""
        if not self._asked:
            return
        head, blobs = self._asked.popleft()
        match head["op"]:
            case "run" | "serve":
                self._start(head, blobs[0] if blobs else None)
            case "kill" if head["run"] in self._jobs:
                job = self._jobs[head["run"]]
                self._stop(job, f"killed: {head['reason']}", job.ask.grace_s, head["reason"])
            case "stop":
                self._end_all("host stopped", NEVER)

    def _end_all(self, reason: str, longest_grace_s: float) -> None:
        self._ending = True
        for job in self._jobs.values():
            grace_s = min(job.ask.grace_s, longest_grace_s)
            if job.step is Step.STOPPING:
                self._plan(job, self._force, min(job.due, time.monotonic() + grace_s))
            self._stop(job, f"killed: {reason}", grace_s, reason)

    def _listen(self) -> None:
        wanted = _READ | _WRITE if self._link.unsent else _READ
        if wanted != self._listening and not self._alone:
            self._selector.modify(self._link, wanted, (self._on_host,))
            self._listening = wanted

    # a job's steps

    def _start(self, order: dict[str, Any], stdin: bytes | None) -> None:
        try:
            job = self._started(order, stdin)
        except NotStarted as error:
            self._link.send(error.report(order["run"]))
            return
        self._jobs[job.ask.run_id] = job
        self._leaders.add(job.pid)
        if job.ask.timeout_ms is not None:
            self._plan(job, self._time_is_up, job.started_at + job.ask.timeout_ms / 1000)
        if self._tick_at == NEVER:
            self._tick_at = job.started_at + _TICK_S
            self._wake_at = min(self._wake_at, self._tick_at)
        try:
            self._fence(job)
        except OSError as error:
            job.error = f"the job's limits could not be set: {error}"
            job.signal_group(signal.SIGKILL)
            self._on_exit(job)

    def _started(self, order: dict[str, Any], stdin: bytes | None) -> JobProcess:
        try:
            home = self._homes.take()
        except OSError as error:
            raise NotStarted(f"no directory for the job: {error}", COMMAND_UNUSABLE) from error
        try:
            ask = self._service(order, home) if order["op"] == "serve" else self._job(order, home, stdin)
            return self._spawned(ask, home)
        except NotStarted:
            self._leave(home)
            raise
        except OSError as error:
            self._leave(home)
            raise NotStarted(str(error), COMMAND_UNUSABLE) from error

    def _job(self, order: dict[str, Any], home: Home, stdin: bytes | None) -> Ask:
        env = job_environment(home.path, self._path, order["job"], order["run"], order["env"])
        cwd = cwd_inside(home.path, order["cwd"])
        outputs = Kept(order["keptBytes"]), Kept(order["keptBytes"])
        return Ask(order["run"], order["argv"], env, cwd, order["timeoutMs"], self._grace_s, self._caps.output_bytes, outputs, stdin)

    def _service(self, order: dict[str, Any], home: Home) -> Ask:
        if not order["cwd"].startswith("/"):
            raise NotStarted(f"cwd {order['cwd']} is not absolute", COMMAND_UNUSABLE)
        try:
            output = Filed(Rotating(order["output"], max(order["keptBytes"] // PARTS, 1)), order["lastBytes"])
        except OSError as error:
            raise NotStarted(f"output {order['output']} {name_of(error)}", COMMAND_UNUSABLE) from error
        env = service_environment(home.path, self._path, order["instance"], order["run"], order["env"])
        return Ask(order["run"], order["argv"], env, order["cwd"], None, order["graceMs"] / 1000, None, (output,))

    def _spawned(self, ask: Ask, home: Home) -> JobProcess:
        if time.monotonic() > self._count_at:
            self._count()
        try:
            return JobProcess(ask, home, self._numbers.take(), self._handover, self._limits)
        except NotStarted as error:
            if not error.crowded:
                raise
        self._count()
        return JobProcess(ask, home, self._numbers.take(), self._handover, self._limits)

    def _count(self) -> None:
        self._limits.count_processes()
        self._count_at = time.monotonic() + _COUNT_EVERY_S

    def _fence(self, job: JobProcess) -> None:
        self._limits.seal(job.pid)
        self._exits.add(job)
        for stream in (job.out, job.err):
            if stream.fd is not None:
                self._selector.register(stream.fd, _READ, (self._on_output, job, stream))
        if job.stdin_fd is not None:
            self._selector.register(job.stdin_fd, _WRITE, (self._on_input, job))

    def _on_output(self, job: JobProcess, stream: Stream) -> None:
        if stream.fd is None:
            return
        if not stream.read():
            self._close(stream)
            if job.step is Step.LINGERING and job.silent:
                self._finish(job)
        elif job.ask.most_output_bytes is not None and job.output_bytes > job.ask.most_output_bytes:
            self._stop(job, f"output exceeded {job.ask.most_output_bytes} bytes", job.ask.grace_s, "output")

    def _on_input(self, job: JobProcess) -> None:
        if not job.write_input():
            self._close_input(job)

    def _time_is_up(self, job: JobProcess) -> None:
        job.timed_out = True
        self._stop(job, f"timed out after {job.ask.timeout_ms}ms", job.ask.grace_s)

    def _stop(self, job: JobProcess, error: str, grace_s: float, killed: str | None = None) -> None:
        if job.step is not Step.RUNNING:
            return
        job.step, job.error, job.killed = Step.STOPPING, error, killed
        job.signal_group(signal.SIGTERM)
        self._plan(job, self._force, time.monotonic() + grace_s)

    def _force(self, job: JobProcess) -> None:
        job.signal_group(signal.SIGKILL)

    def _on_exit(self, job: JobProcess) -> None:
        job.step, job.ended_at = Step.LINGERING, time.monotonic()
        if job.silent:
            self._finish(job)
        else:
            self._plan(job, self._finish, job.ended_at + LINGER_S)

    def _finish(self, job: JobProcess) -> None:
        job.step = Step.SWEEPING
        job.signal_group(signal.SIGKILL)
        job.reap(wait=True)
        self._leaders.discard(job.pid)
        job.give_up_at, job.pause_s = time.monotonic() + _GIVE_UP_S, _FIRST_PAUSE_S
        self._sweep(job)

    def _sweep(self, job: JobProcess) -> None:
        left = self._sweeper.sweep(self._leaders, self._spared())
        now = time.monotonic()
        if job.number in left and now < job.give_up_at:
            self._plan(job, self._sweep, now + job.pause_s)
            job.pause_s = min(2 * job.pause_s, _LONGEST_PAUSE_S)
        else:
            self._report(job, everything_gone=job.number not in left)

    def _report(self, job: JobProcess, everything_gone: bool) -> None:
        for stream in (job.out, job.err):
            stream.read_rest()
            self._close(stream)
        self._close_input(job)
        if not everything_gone:
            job.error = f"{job.error}; {SURVIVED}" if job.error else SURVIVED
        head, out, err = job.report()
        if out or err:
            self._link.send(head, out, err)
        else:
            self._link.send(head)
        del self._jobs[job.ask.run_id]
        if everything_gone:
            self._leave(job.home)
        else:
            self._removals.add(job.home.path)

    # what goes on beside the jobs

    def _plan(self, job: JobProcess, action: Callable[[JobProcess], None], at: float) -> None:
        job.action, job.due = action, at
        self._wake_at = min(self._wake_at, at)

    def _act_on_time(self) -> None:
        now = time.monotonic()
        if now < self._wake_at:
            return
        if now >= self._tick_at:
            self._tick(now)
        for job in [job for job in self._jobs.values() if job.due <= now]:
            action, job.due = job.action, NEVER
            if action is not None:
                action(job)
        self._wake_at = min([self._tick_at, *(job.due for job in self._jobs.values())])

    def _tick(self, now: float) -> None:
        """End orphans that belong to no job, and reap those of the running ones."""
        left = self._sweeper.sweep(self._leaders, self._spared())
        self._sweeper.reap(self._leaders)
        self._tick_at = now + _TICK_S if self._jobs or left else NEVER

    def _spared(self) -> set[int]:
        return {job.number for job in self._jobs.values() if job.step is not Step.SWEEPING}

    def _leave(self, home: Home) -> None:
        if not self._homes.keep(home):
            self._removals.add(home.path)

    def _on_left(self, path: str) -> None:
        self._link.send({"op": "left", "path": path})

    def _close(self, stream: Stream) -> None:
        if stream.fd is not None:
            self._forget(stream.fd)
            stream.fd = None

    def _close_input(self, job: JobProcess) -> None:
        if job.stdin_fd is not None:
            self._forget(job.stdin_fd)
            job.stdin_fd = None

    def _forget(self, file: int) -> None:
        if file in self._selector.get_map():
            self._selector.unregister(file)
        os.close(file)

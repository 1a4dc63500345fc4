"""What a job gets of its host at the levels `none` and `process`: its environment, its limits, and what it cannot get back.

`none`: an environment made from scratch, a directory of its own, umask 077, no core dumps, and an end that leaves nothing running.
`process`: also resource limits, and no privileges by set-uid programs. What the executor does to itself once the jobs inherit; see
JobLimits for the two limits that it needs to have higher than they.

A job still runs as the executor's user: neither level keeps it from that user's files, processes or network.
"""

import ctypes
import os
import pwd
import re
import resource
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

LEVELS = ("none", "process")
_PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 4, 36, 38
_OWN_FILES = 4_096  # of the executor: up to four descriptors for each of 256 jobs
_LATER_THREADS = 1_024
_PRLIMIT = hasattr(resource, "prlimit")
_STATUS = re.compile(rb"\nPPid:\t(\d+)\n.*?\nUid:\t(\d+).*?\nThreads:\t(\d+)\n", re.DOTALL)


class Caps(NamedTuple):
    """The limits as the executor keeps them; None is no limit. `parallel` jobs share `processes` times that many."""

    processes: int | None
    files: int | None
    file_bytes: int | None
    memory_bytes: int | None
    output_bytes: int | None
    term_grace_ms: int
    parallel: int

    def without_resources(self) -> "Caps":
        """What is left of them at the level `none`."""
        return self._replace(processes=None, files=None, file_bytes=None, memory_bytes=None)


def job_environment(home: str, path: str, job_id: str, run_id: str, own: Mapping[str, str]) -> dict[str, str]:
    """A job's whole environment: nothing of the host's but its search path. `own` has been checked and comes last."""
    return _environment(home, path, {"SKYCLAW_JOB_ID": job_id, "SKYCLAW_RUN_ID": run_id}, own)


def service_environment(home: str, path: str, instance_id: str, run_id: str, own: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a service's process, made as that of a job."""
    return _environment(home, path, {"SKYCLAW_INSTANCE_ID": instance_id, "SKYCLAW_RUN_ID": run_id}, own)


def _environment(home: str, path: str, ids: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": path, "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8", **ids, **own}


def safe_path(path: str) -> str:
    """A search path without the entries that depend on the current directory, which is the job's."""
    return ":".join(entry for entry in path.split(":") if entry.startswith("/")) or os.defpath


# What the kernel is asked for. Each tells whether it was given: macOS has none of it.


def hide_memory() -> bool:
    """Make this process' memory and environment unreadable to others of the same user, and closed to their debuggers."""
    return _prctl(_PR_SET_DUMPABLE, 0)


def adopt_orphans() -> bool:
    """Make this process the parent of every descendant whose own parent died."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def refuse_new_privileges() -> bool:
    """Take from this process and all that it starts the privileges of set-uid programs, for ever."""
    return _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _prctl(option: int, value: int) -> bool:
    function = getattr(ctypes.CDLL(None), "prctl", None)
    return function is not None and function(option, value, 0, 0, 0) == 0


def become(user: str) -> None:
    """Go on as another user, for ever; raises KeyError when there is none of that name, PermissionError for who is not root."""
    account = pwd.getpwnam(user)
    os.initgroups(user, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


class JobLimits:
    """The resource limits of jobs, which they inherit from this process.

    What they may open is less than what this process has open: its soft limit is lowered for the moment of a start (`starting`). Hard
    limits cannot be raised again, so those are lowered on the job itself right after its start (`seal`); until then it could raise its soft
    limits, at most to what is set here.
    """

    def __init__(self, caps: Caps) -> None:
        self.missing: list[str] = []
        self._caps = caps
        self._files: int | None = None
        self._processes: int | None = None
        _lower(resource.RLIMIT_CORE, 0)
        if caps.file_bytes is not None:
            _lower(resource.RLIMIT_FSIZE, caps.file_bytes)
        self._limit_memory(caps.memory_bytes)
        self._limit_files(caps.files)
        self._limit_processes(caps.processes)

    def count_processes(self) -> None:
        """Look again at how many threads the user has apart from the jobs', because jobs may have theirs on top of these.

        RLIMIT_NPROC counts all threads of the user, so what the user runs beside the jobs must be added, and all jobs share one number:
        what one may have, times how many may run at once.
        """
        if self._processes is not None:
            hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
            self._processes = _at_most(self._wanted_processes(), hard)
            resource.setrlimit(resource.RLIMIT_NPROC, (self._processes, hard))

    @contextmanager
    def starting(self) -> Iterator[None]:
        """The moment in which a job inherits this process' soft limits. No file can be opened in it."""
        if self._files is None:
            yield
            return
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._files, self._own_files[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._own_files)

    def seal(self, pid: int) -> None:
        """Make a job's limits final; raises OSError."""
        if self._files is not None:
            _seal(pid, resource.RLIMIT_NOFILE, self._files)
        if self._processes is not None:
            _seal(pid, resource.RLIMIT_NPROC, self._processes)

    def _limit_files(self, most: int | None) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._own_files = max(soft, _at_most(_OWN_FILES, hard)), hard
        if most is not None and _PRLIMIT:
            self._files = _at_most(most, hard)
            self._own_files = (max(self._files, _at_most(_OWN_FILES, hard)),) * 2
        elif most is not None:
            self.missing.append("files")
        resource.setrlimit(resource.RLIMIT_NOFILE, self._own_files)

    def _limit_processes(self, most: int | None) -> None:
        if most is None:
            return
        if os.getuid() == 0 or not _PRLIMIT:  # the kernel counts root's processes, but lets it have them
            self.missing.append("processes")
            return
        self._processes = self._wanted_processes()
        hard = _at_most(self._processes + _LATER_THREADS, resource.getrlimit(resource.RLIMIT_NPROC)[1])
        resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
        self.count_processes()

    def _wanted_processes(self) -> int:
        return _threads(os.getuid(), os.getpid()) + (self._caps.processes or 0) * self._caps.parallel

    def _limit_memory(self, most: int | None) -> None:
        """By RLIMIT_DATA, which counts what is writable: node and Go reserve more addresses than RLIMIT_AS would let them have."""
        if most is None:
            return
        _lower(resource.RLIMIT_DATA, most)
        if sys.platform != "linux":
            self.missing.append("memory_bytes")


def _seal(pid: int, limit: int, value: int) -> None:
    try:
        resource.prlimit(pid, limit, (value, value))
    except PermissionError:  # right for a job that has already lowered it further
        hard = resource.prlimit(pid, limit)[1]
        if hard == resource.RLIM_INFINITY or hard > value:
            raise


def _at_most(value: int, hard: int) -> int:
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def _lower(limit: int, value: int) -> None:
    value = _at_most(value, resource.getrlimit(limit)[1])
    resource.setrlimit(limit, (value, value))


def _threads(uid: int, apart_from: int) -> int:
    """How many threads a user has, without those of the descendants of a process."""
    parents: dict[int, int] = {}
    threads: dict[int, int] = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        found = _STATUS.search(_read(f"/proc/{name}/status"))
        if found is not None:
            parents[int(name)] = int(found[1])
            if int(found[2]) == uid:
                threads[int(name)] = int(found[3])
    return sum(count for pid, count in threads.items() if not _descends(pid, apart_from, parents))


def _descends(pid: int, ancestor: int, parents: Mapping[int, int]) -> bool:
    seen = 0
    while (pid := parents.get(pid, 0)) and seen < len(parents):
        if pid == ancestor:
            return True
        seen += 1
    return False


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""

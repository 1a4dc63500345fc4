"""What jobs leave behind, and how it is ended.

A process whose parent has died becomes a child of its nearest subreaper. The executor is one, so whatever escaped from a job (into another
process group, another session, with an environment of its own) ends up among the executor's own children; as long as a descendant of a
job lives, one of them is there.

Whose it is says the hard limit of RLIMIT_RTTIME, which limits nothing that a job does: the executor lowers its own before each job, every
descendant inherits it, and only root could raise it again. So it can be read off a process that cleared its environment, off a zombie, and
off one that is just being started, none of which show an environment. The limit stays far above what it would ever bite at.

A process may lower its number further. By how much two jobs' numbers differ is drawn at random, so that it does not hit another job's by
counting, and what has a number that is no job's is ended at once. One that looks a running job's number up in /proc can still take it: it
ends with that job then.
"""

import os
import resource
import signal
import threading
import time
from collections.abc import Collection, Iterable, Iterator

_NUMBERS_FROM = 1 << 62
_STEPS_BITS = 30  # 2**30 jobs get numbers of their own, in the mean twice as many
_LINE = b"Max realtime timeout"
_ONE_READ_BYTES = 1 << 16
_PAGE_IS_ALL = 4_000  # the kernel gives a page at a time: a shorter answer is the end
_PASSES = 8
_ORPHANS_WITHIN_S = 5.0
_PAUSE_S = 0.002


class Numbers:
    """Gives the jobs of this process their numbers: the next child has the one that was given last."""

    def __init__(self) -> None:
        self._limit: int | None = getattr(resource, "RLIMIT_RTTIME", None)
        hard = resource.getrlimit(self._limit)[1] if self._limit is not None else resource.RLIM_INFINITY
        self._next = _NUMBERS_FROM if hard == resource.RLIM_INFINITY else min(hard, _NUMBERS_FROM)
        self._longest_step = max(self._next >> _STEPS_BITS, 1)

    def take(self) -> int:
        """The number of the process that is started next; shared with others only when all have been given."""
        step = 1 + int.from_bytes(os.urandom(8), "big") % self._longest_step
        self._next = max(self._next - step, 1)
        if self._limit is not None:
            resource.setrlimit(self._limit, (self._next, self._next))
        return self._next


def number_of(pid: int | str) -> int | None:
    """The number that a process has from its job; None for one that has none, or that is gone."""
    try:
        with open(f"/proc/{pid}/limits", "rb", buffering=0) as file:
            text = file.read()
    except OSError:
        return None
    start = text.find(_LINE)
    hard = text[start + len(_LINE) :].split(maxsplit=2)[1] if start >= 0 else b""
    return int(hard) if hard.isdigit() else None


class Sweeper:
    """Ends and reaps what is among this (single-threaded) process' children without being a job's first process."""

    def __init__(self, children: str = "/proc/self/task/{tid}/children") -> None:
        self._numbers: dict[int, int | None] = {}
        self._list: int | None
        try:
            self._list = os.open(children.format(tid=os.getpid()), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # a kernel without CONFIG_PROC_CHILDREN, or no Linux at all
            self._list = None

    def strangers(self, leaders: Collection[int]) -> set[int]:
        """Our children but for the jobs' first processes."""
        found = _listed(self._list) if self._list is not None else set(_children_by_scan(os.getpid()))
        return found.difference(leaders)

    def sweep(self, leaders: Collection[int], spared: Collection[int]) -> set[int | None]:
        """Kill every stranger but those of the `spared` numbers; gives the numbers of those that are not known to be gone yet.

        Who died may have left children, which are ours only from then on: it is over when none is found, not when all found are dead.
        """
        for _ in range(_PASSES):
            found = self._numbered(self.strangers(leaders))
            left = {pid: number for pid, number in found.items() if number not in spared}
            alive = [pid for pid in left if not _ended(pid)]
            if alive or not left:
                break
        return set(left.values())

    def reap(self, leaders: Collection[int]) -> None:
        """Take the exit codes of strangers that ended by themselves."""
        for pid in self.strangers(leaders):
            if _reaped(pid):
                self._numbers.pop(pid, None)

    def _numbered(self, pids: Collection[int]) -> dict[int, int | None]:
        """Each with its number, which is read once: a child of ours keeps its pid until we reap it."""
        known = self._numbers
        self._numbers = {pid: known[pid] if pid in known else number_of(pid) for pid in pids}
        return self._numbers


def _listed(file: int) -> set[int]:
    text = page = os.pread(file, _ONE_READ_BYTES, 0)
    while len(page) > _PAGE_IS_ALL:
        page = os.pread(file, _ONE_READ_BYTES, len(text))
        text += page
    return set(map(int, text.split()))


def _ended(pid: int) -> bool:
    """Kill a child; whether it is dead and reaped already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return True
    except PermissionError:  # it runs as somebody else by now, as set-uid programs do: it is tried again
        return False
    return _reaped(pid)


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _children_by_scan(parent: int) -> Iterator[int]:
    """The children of a process by looking at all processes; nothing where there is no /proc."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return
    for name in filter(str.isdecimal, names):
        try:
            with open(f"/proc/{name}/stat", "rb", buffering=0) as file:
                stat = file.read()
        except OSError:
            continue
        if int(stat[stat.rindex(b")") + 2 :].split(maxsplit=2)[1]) == parent:
            yield int(name)


# In the host: what a dead executor leaves behind.

starting = threading.Lock()
executors: set[int] = set()
"""The executors of this process that live; `starting` is held from the start of one until it is in here."""


def end_orphans(markers: Iterable[str]) -> bool:
    """Kill the processes that executors left to this process when they died; whether all of them ended within 5 s.

    They are the children with a job's number or, for jobs that run as root and could have changed it, one of the `markers` in their
    environment. Other children of this process are left alone.
    """
    wanted = tuple(f"={marker}".encode() for marker in markers)
    deadline = time.monotonic() + _ORPHANS_WITHIN_S
    while orphans := _orphans(wanted):
        if time.monotonic() > deadline:
            return False
        if [pid for pid in orphans if not _ended(pid)]:
            time.sleep(_PAUSE_S)
    return True


def _orphans(wanted: tuple[bytes, ...]) -> list[int]:
    own = number_of("self")
    with starting:
        children = set(_children_by_scan(os.getpid())) - executors
    return [pid for pid in children if number_of(pid) not in (own, None) or _carries(pid, wanted)]


def _carries(pid: int, wanted: tuple[bytes, ...]) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            values = file.read()
    except OSError:
        return False
    return any(marker + b"\0" in values for marker in wanted)

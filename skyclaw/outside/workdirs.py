"""The directories that jobs run in: made fresh, and owned by nobody else."""

import os
import stat
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from skyclaw.errors import StartRefused
from skyclaw.outside.removing import removed

_TRIES = 8
_RIPE_S = 2.0
_SPARES = 64


def private_parent(path: Path, passable: bool) -> None:
    """Make sure of the host's own directory for jobs' directories: 0700, or 0711 when jobs run as another user.

    Raises StartRefused for a symlink, for what belongs to somebody else, and when it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise StartRefused(f"the directory for jobs, {path}, is no directory")
        if found.st_uid != os.getuid():
            raise StartRefused(f"the directory for jobs, {path}, belongs to somebody else")
        path.chmod(0o711 if passable else 0o700)
    except OSError as error:
        raise StartRefused(f"the directory for jobs, {path}, cannot be used: {os.strerror(error.errno or 0)}") from error


def fresh_directory(parent: str, prefix: str = "") -> str:
    """A new, empty directory below `parent` that nobody else can look into. What is there already is never used, be it a link or not."""
    for _ in range(_TRIES):
        path = f"{parent}/{prefix}{os.urandom(8).hex()}"
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            continue
        return path
    raise FileExistsError(f"no free name in {parent}")


class Home(NamedTuple):
    """A job's own directory, as it was when it was made. `ripe` says that its ctime would show whatever is done to it from now on."""

    path: str
    inode: int
    ctime_ns: int
    made_at: float
    ripe: bool = False


class Homes:
    """Fresh directories for jobs, below one parent.

    To make and delete one costs a disk's file system a third of what the start of a small job costs, and most small jobs never touch
    theirs. So a directory that nobody touched is used again. Whether it was touched says its ctime, which the kernel sets at every change
    of a directory, its entries, mode, owner, ACLs or flags, and which nobody can set back. It is exact only to the clock's tick, on some
    file systems to two seconds, so a directory is good for that only when it was that old before the job began.
    """

    def __init__(self, parent: str) -> None:
        self._parent = parent
        self._spares: deque[Home] = deque()

    def take(self) -> Home:
        """An empty directory of mode 0700; raises OSError."""
        if self._spares and time.monotonic() - self._spares[0].made_at > _RIPE_S:
            return self._spares.popleft()._replace(ripe=True)
        return self._made()

    def keep(self, home: Home) -> bool:
        """Take a directory back after its job; False when it is to be deleted."""
        if home.ripe and _is_untouched(home):
            self._spares.appendleft(home)
            return True
        if len(self._spares) < _SPARES:
            with suppress(OSError):  # then the next job makes its own, and is told why it cannot
                self._spares.append(self._made())
        return False

    def close(self) -> None:
        """Delete the spare ones."""
        while self._spares:
            removed(self._spares.pop().path)

    def _made(self) -> Home:
        path = fresh_directory(self._parent)
        found = os.lstat(path)
        return Home(path, found.st_ino, found.st_ctime_ns, time.monotonic())


def _is_untouched(home: Home) -> bool:
    try:
        found = os.lstat(home.path)
    except OSError:
        return False
    return (found.st_ino, found.st_ctime_ns) == (home.inode, home.ctime_ns)


def cwd_inside(home: str, cwd: str | None) -> str:
    """Where a job starts: its own directory, one below it (made when it is not there), or the absolute one that was allowed.

    Raises PermissionError for a relative one that leads out of the job's directory.
    """
    if cwd is None:
        return home
    if cwd.startswith("/"):
        return cwd
    if ".." in cwd.split("/"):
        raise PermissionError(f"cwd not allowed: {cwd}")
    path = os.path.join(home, cwd)
    os.makedirs(path, exist_ok=True)
    return path

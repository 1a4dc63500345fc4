"""One process per database: a lock on a file beside it, which the kernel drops when the holder dies."""

import errno
import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path

from skyclaw.errors import DatabaseLocked, DatabaseUnusable

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_PID_PATIENCE = 50  # looks, a millisecond apart, at the lock file of a holder that has not written its pid yet


@dataclass(frozen=True, slots=True)
class Lock:
    """A held lock; `path` is None when its file cannot be removed."""

    descriptor: int
    path: Path | None

    def release(self) -> None:
        """Let the next one in."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


def take_lock(database: Path, read_only: bool) -> Lock | None:
    """Lock the database against every other opener, in this process or another.

    None when it is read-only and has no lock file that we may open: then nobody can write there. Raises DatabaseLocked, and
    DatabaseUnusable when the lock file cannot be made.
    """
    path = database.with_name(database.name + ".lock")
    try:
        while True:
            descriptor = _open(path, read_only)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DatabaseLocked(
                    f"{database} is locked by pid {_holder(descriptor)}: stop that process or name another file"
                ) from error
            if _still_there(path, descriptor):
                return _signed(path, descriptor)
            os.close(descriptor)  # the former holder removed the file between our opening and our locking it
    except OSError as error:
        if read_only:
            return None
        cure = "make room on its disk" if error.errno in NO_ROOM else "make its directory writable"
        raise DatabaseUnusable(f"{database} cannot be locked ({error.strerror}): {cure}, or name another file") from error


def _open(path: Path, read_only: bool) -> int:
    """Opened for reading alone when nothing else is allowed: that suffices for a lock."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags | os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        if not read_only:
            raise
        return os.open(path, flags | os.O_RDONLY)


def _still_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _signed(path: Path, descriptor: int) -> Lock:
    """The lock, with our pid in its file, for the message that others show."""
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        return Lock(descriptor, None)
    try:
        os.fchmod(descriptor, 0o600)  # whatever the umask is
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    except OSError as error:
        if error.errno not in NO_ROOM:  # without room for the pid the lock is as good
            Lock(descriptor, path).release()
            raise
    return Lock(descriptor, path)


def _holder(descriptor: int) -> str:
    """The pid in the lock file, as text; closes the file."""
    try:
        for _ in range(_PID_PATIENCE):
            if pid := os.pread(descriptor, 20, 0).strip():
                return pid.decode(errors="replace")
            time.sleep(0.001)
        return "unknown"
    finally:
        os.close(descriptor)

"""The output of a service in files of bounded size, of which the oldest are deleted: written by one process, read by others meanwhile.

1. An offset counts all bytes of the output since its beginning, whatever was deleted since and however often the process was started.
2. A part is a file `output.log.<offset of its first byte>`. It is only ever appended to, and never renamed: what a reader finds in an open
   part at an offset is right, whatever the writer does.
3. There is a next part only when nothing comes to this one any more. What could not be written lies between the end of a part and the
   beginning of the next one.
4. Whose output it is may put anything into the folder. A reader follows no link, waits for no pipe, and reads no file that is not a part.
"""

import errno
import os
import re
import stat
from bisect import bisect_right
from contextlib import suppress
from pathlib import Path

PARTS = 5
_PART = re.compile(r"output\.log\.(\d{15})", re.ASCII)
_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Rotating:
    """Writes the output: at most `parts` files of `part_bytes` bytes each. `at` is the offset of the next byte.

    Goes on where an earlier writer ended. Raises OSError when nothing can be written into the folder.
    """

    def __init__(self, folder: str | Path, part_bytes: int, parts: int = PARTS) -> None:
        self._folder, self._part_bytes, self._parts = os.fspath(folder), part_bytes, parts
        starts = _starts(self._folder)
        if not os.access(self._folder, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self._folder)
        self._start = starts[-1] if starts else None
        self.at = _end(self._folder, starts)

    def write(self, data: bytes) -> None:
        """Take the next bytes. Those that the disk does not take are lost, but counted: the process that prints them is not to notice."""
        while data:
            if self._start is None or self.at - self._start >= self._part_bytes:
                self._start = self.at
            piece = data[: self._start + self._part_bytes - self.at]
            data = data[len(piece) :]
            if not self._written(piece, self._start):
                self._start = None  # rule 3
            self.at += len(piece)

    def _written(self, piece: bytes, start: int) -> bool:
        """Put the bytes at their place; False when something of them is missing."""
        path, fresh = _path(self._folder, start), start == self.at
        rest = memoryview(piece)
        try:
            if fresh:
                self._delete_oldest()
            file = os.open(path, os.O_WRONLY | _SAFE | (os.O_CREAT if fresh else 0), 0o600)
            try:
                while rest:
                    rest = rest[os.pwrite(file, rest, self.at - start + len(piece) - len(rest)) :]
            finally:
                os.close(file)
        except OSError:
            if fresh and len(rest) == len(piece):
                with suppress(OSError):
                    os.unlink(path)
            return False
        return True

    def _delete_oldest(self) -> None:
        """Make room for one more part."""
        starts = _starts(self._folder)
        for start in starts[: max(0, len(starts) + 1 - self._parts)]:
            with suppress(OSError):
                os.unlink(_path(self._folder, start))


def read(folder: str | Path, at: int, limit: int) -> tuple[int, bytes]:
    """At most `limit` bytes of the output from the offset `at`, and the offset of the first of them: later than `at` when that is not kept.

    No bytes at all when the output does not go on yet. The next ones begin at the offset that was given plus the number of bytes.
    Raises OSError when the folder cannot be read.
    """
    folder = os.fspath(folder)
    starts, data = _starts(folder), b""
    for start in starts[max(0, bisect_right(starts, at) - 1) :]:
        if data and start != at + len(data):
            break
        if not data:
            at = max(at, start)
        data += _piece(_path(folder, start), at + len(data) - start, limit - len(data))
        if len(data) >= limit:
            break
    return at, data


def end(folder: str | Path) -> int:
    """The offset after the newest byte: how much has been written since the beginning. Raises OSError when the folder cannot be read."""
    return _end(os.fspath(folder), _starts(folder))


def _end(folder: str, starts: list[int]) -> int:
    return starts[-1] + os.lstat(_path(folder, starts[-1])).st_size if starts else 0


def _piece(path: str, at: int, limit: int) -> bytes:
    """The bytes of a part; none when it has been deleted meanwhile, or is no part."""
    try:
        file = os.open(path, os.O_RDONLY | _SAFE)
    except OSError:
        return b""
    try:
        found = os.fstat(file)
        return os.pread(file, limit, at) if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1 else b""
    except OverflowError:  # an offset that no file has
        return b""
    finally:
        os.close(file)


def _starts(folder: str | Path) -> list[int]:
    return sorted(int(found[1]) for name in os.listdir(folder) if (found := _PART.fullmatch(name)))


def _path(folder: str, start: int) -> str:
    return f"{folder}/output.log.{start:015d}"

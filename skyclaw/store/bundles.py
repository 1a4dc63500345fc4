"""Bundles: the packed directories that services run in, each a file that is named by the SHA-256 of what is in it.

A file is there whole or not at all: it is written under another name, made durable, and renamed when its content is what its name says.
Safe to use from several threads.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from skyclaw.errors import Invalid, StorageFailed, StorageFull, StorageReadOnly, Unavailable

HEX = frozenset("0123456789abcdef")
UNFINISHED = ".part"
SPARE_BYTES = 64 * 1024 * 1024  # left free on the disk, which the database needs more
UNUSED_MS = 3_600_000  # for which a bundle is kept that no service needs
ABANDONED_S = 3_600  # after which nobody writes to an unfinished file any more
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class BadBundle(Invalid):
    """The bundle is not what its name says."""

    code = "bad_bundle"


class BundleFiles:
    """The bundles in a folder, which is made when it is needed; each has at most `max_bytes` bytes."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self.max_bytes = folder, max_bytes
        self._lock = threading.Lock()
        self._unused: dict[str, int] = {}  # sha256 -> since when, ms
        for left in self._names(UNFINISHED):
            _remove_old(folder / left)

    def size(self, sha256: str) -> int | None:
        """How many bytes a bundle has; None when it is not here."""
        try:
            return self._path(sha256).stat().st_size
        except FileNotFoundError:
            return None

    def open(self, sha256: str) -> BinaryIO:
        """The bundle, to be read and closed; raises FileNotFoundError."""
        return open(self._path(sha256), "rb")

    def write(self, sha256: str, pieces: Iterable[bytes], length: int) -> int:
        """Keep a bundle of which `length` bytes are announced; returns how many it has. Raises BadBundle, Unavailable."""
        try:
            size = self._write(sha256, pieces, length)
        except OSError as error:
            raise _failure(error, self._folder) from error
        self.touch(sha256)
        return size

    def touch(self, sha256: str) -> None:
        """Somebody is about to use this bundle: the time for which it may be unused begins again."""
        with self._lock:
            self._unused.pop(sha256, None)

    def prune(self, used: Collection[str], now: int) -> int:
        """Delete what has not been `used` for an hour; returns how many. `now` is ms."""
        stale = []
        with self._lock:
            here = {name for name in self._names("") if _is_name(name)}
            self._unused = {name: self._unused.get(name, now) for name in here - set(used)}
            for name, since in self._unused.items():
                if now - since >= UNUSED_MS:
                    stale.append(name)
            for name in stale:
                del self._unused[name]
                self._path(name).unlink(missing_ok=True)
        return len(stale)

    def _write(self, sha256: str, pieces: Iterable[bytes], length: int) -> int:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if shutil.disk_usage(self._folder).free < length + SPARE_BYTES:
            raise StorageFull(f"there is no room for a bundle of {length} bytes; nothing was written")
        handle, name = tempfile.mkstemp(UNFINISHED, dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                for piece in self._checked(sha256, pieces):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
            os.rename(name, self._path(sha256))
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise
        _make_durable(self._folder)
        return size

    def _checked(self, sha256: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The pieces as they come; raises when they are too many, or when all of them are not what was meant."""
        found, size = hashlib.sha256(), 0
        for piece in pieces:
            size += len(piece)
            if size > self.max_bytes:
                raise BadBundle(f"a bundle has at most {self.max_bytes} bytes")
            found.update(piece)
            yield piece
        if found.hexdigest() != sha256:
            raise BadBundle(f"what was sent has the SHA-256 {found.hexdigest()}", {"sha256": found.hexdigest(), "bytes": size})

    def _names(self, end: str) -> list[str]:
        try:
            return [name for name in os.listdir(self._folder) if name.endswith(end)]
        except FileNotFoundError:
            return []

    def _path(self, sha256: str) -> Path:
        if not _is_name(sha256):
            raise BadBundle("the name of a bundle is its SHA-256: 64 hexadecimal digits in lower case")
        return self._folder / sha256


def _remove_old(path: Path) -> None:
    """Remove what a process that was killed has left, and nothing that another one is writing."""
    with contextlib.suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime > ABANDONED_S:
            path.unlink()


def _is_name(text: str) -> bool:
    return len(text) == 64 and HEX.issuperset(text)


def _make_durable(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failure(error: OSError, folder: Path) -> Unavailable:
    """The error to raise when a bundle could not be written."""
    if error.errno in NO_ROOM:
        return StorageFull(f"the storage of {folder} is full; nothing was written")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StorageReadOnly(f"{folder} cannot be written; nothing was written")
    return StorageFailed(f"writing to {folder} failed ({error.strerror}); nothing was acknowledged")

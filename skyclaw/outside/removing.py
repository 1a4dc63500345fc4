"""Deletes the directories of jobs, whatever they put there."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress


class Removals:
    """Directories that are being deleted, a little at a time; `on_left` hears of those that could not be."""

    def __init__(self, on_left: Callable[[str], None]) -> None:
        self._on_left = on_left
        self._waiting: deque[tuple[str, Iterator[None]]] = deque()

    def __bool__(self) -> bool:
        """Whether there is something left to do."""
        return bool(self._waiting)

    def add(self, path: str) -> None:
        """Delete a directory: at once when it is empty, else when `go_on` is called."""
        if not removed(path):
            self._waiting.append((path, removal(path)))

    def go_on(self, for_s: float) -> None:
        """Delete for so many seconds."""
        until = time.monotonic() + for_s if self._waiting else 0.0
        while self._waiting:
            path, steps = self._waiting[0]
            for _ in steps:
                if time.monotonic() > until:
                    return
            self._waiting.popleft()
            if os.path.lexists(path):
                self._on_left(path)


def removed(path: str) -> bool:
    """Delete an empty directory; False when something is in it, or it cannot be."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def removal(path: str) -> Iterator[None]:
    """Delete a directory with all that is in it, in small steps: one for each entry. What cannot be deleted stays.

    Follows no symlink. Directories get their owner's rights back, are moved to the top and emptied there one by one, so that neither the
    depth of the tree nor the length of its paths matters.
    """
    if removed(path):
        return
    top = _opened(path, None)
    if top is None:
        return
    try:
        yield from _emptied(top)
    finally:
        os.close(top)
    removed(path)


def _emptied(top: int) -> Iterator[None]:
    waiting: list[str] = []
    yield from _cleared(top, top, waiting)
    while waiting:
        name = waiting.pop()
        directory = _opened(name, top)
        if directory is None:
            continue
        try:
            yield from _cleared(directory, top, waiting)
        finally:
            os.close(directory)
        with suppress(OSError):
            os.rmdir(name, dir_fd=top)


def _cleared(directory: int, top: int, waiting: list[str]) -> Iterator[None]:
    """Delete the files of a directory; its subdirectories end up directly below `top` and in `waiting`."""
    with os.scandir(directory) as entries:
        for entry in entries:
            with suppress(OSError):
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=directory)
                else:
                    waiting.append(entry.name if directory == top else _hoisted(entry.name, directory, top))
            yield


def _hoisted(name: str, directory: int, top: int) -> str:
    fresh = os.urandom(8).hex()
    try:
        os.rename(name, fresh, src_dir_fd=directory, dst_dir_fd=top)
    except PermissionError:  # a directory can only be moved by who may write into it
        os.chmod(name, 0o700, dir_fd=directory)
        os.rename(name, fresh, src_dir_fd=directory, dst_dir_fd=top)
    return fresh


def _opened(name: str, parent: int | None) -> int | None:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(OSError):
        try:
            directory = os.open(name, flags, dir_fd=parent)
        except PermissionError:
            os.chmod(name, 0o700, dir_fd=parent)
            directory = os.open(name, flags, dir_fd=parent)
        os.fchmod(directory, 0o700)
        return directory
    return None

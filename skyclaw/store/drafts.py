"""Files that appear whole or not at all: written under another name, through to the disk, and then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BESIDE = ("-journal", "-wal", "-shm")  # what SQLite may leave beside a database


@contextmanager
def drafted(path: Path, ending: str) -> Iterator[Path]:
    """An empty file beside `path` (its name and `ending`), 0600, that takes its place when the block ends well; raises OSError.

    Whatever happens, nothing is left of it under its own name.
    """
    draft = path.with_name(path.name + ending)
    clear(draft)
    try:
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        os.fchmod(descriptor, 0o600)  # whatever the umask is
        os.close(descriptor)
        yield draft
        write_through(draft)
        draft.replace(path)
        write_through(path.parent)
    finally:
        clear(draft)


def clear(path: Path) -> None:
    """Remove a database and what SQLite left beside it, as far as it is there."""
    for end in ("", *BESIDE):
        path.with_name(path.name + end).unlink(missing_ok=True)


def write_through(path: Path) -> None:
    """Have the disk confirm a file's content, or a directory's entries."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The folders of the services' instances on a host.

`<parent>/<instance id>/output/` for what an instance prints, and `files/` beside it for its bundle. These two belong to who runs the
services: this process's user, or, of a host that runs as root, the jobs' user. What they lie in is the host's own, and is never written by
the services. So their names always lead to them, and root, which makes, moves and deletes them, is never led astray by a link.

A bundle gets its owner where nobody else can get to yet; afterwards nothing in it is touched but to delete it, which follows no link.
"""

import os
import pwd
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from skyclaw.outside.removing import removal
from skyclaw.outside.workdirs import private_parent

OUTPUT, FILES = "output", "files"
_FRESH, _GONE = ".fresh-", ".gone-"  # no instance has such an id


class ServiceFolders:
    """Folders that only who runs the services can look into. Different threads may do it for different instances."""

    def __init__(self, parent: Path, job_user: str | None) -> None:
        """Raises StartRefused when the parent cannot be used, KeyError when there is no such user."""
        private_parent(parent, passable=job_user is not None)
        self._parent, self._account = parent.absolute(), pwd.getpwnam(job_user) if job_user is not None else None
        for unfinished in self._parent.glob(".*"):
            _delete(unfinished)

    def left(self) -> list[str]:
        """The instances that have a folder."""
        return [entry.name for entry in os.scandir(self._parent) if entry.is_dir(follow_symlinks=False) and entry.name[0] != "."]

    def output(self, instance_id: str) -> Path:
        """Where what an instance prints is kept, whether that is there or not."""
        return self._path(instance_id) / OUTPUT

    def content(self, instance_id: str) -> Path:
        """Where its bundle is unpacked."""
        return self._path(instance_id) / FILES

    def make(self, instance_id: str) -> None:
        """Make sure of an instance's folder, and of the one for its output; raises OSError."""
        self._path(instance_id).mkdir(mode=0o700, exist_ok=True)
        if self._account is not None:
            self._path(instance_id).chmod(0o711)
        self.output(instance_id).mkdir(mode=0o700, exist_ok=True)
        if self._account is not None:
            os.chown(self.output(instance_id), self._account.pw_uid, self._account.pw_gid, follow_symlinks=False)

    @contextmanager
    def filling(self, instance_id: str) -> Iterator[Path]:
        """Where a folder may be made that is the instance's content when the block has ended well; raises OSError."""
        around = self._path(f"{_FRESH}{instance_id}")
        _delete(around)
        around.mkdir(mode=0o700)
        try:
            yield around / FILES
            self._hand_over(around / FILES)
            _delete(self.content(instance_id))
            (around / FILES).rename(self.content(instance_id))
        finally:
            _delete(around)

    def take_away(self, instance_id: str) -> Path:
        """Put an instance's folder, if there is one, where nobody looks for it; returns the place, for `delete`. Raises OSError."""
        place = self._path(f"{_GONE}{os.urandom(8).hex()}")
        with suppress(FileNotFoundError):
            self._path(instance_id).rename(place)
        return place

    def delete(self, place: Path) -> None:
        """Delete what was taken away, with all that is in it; what cannot be deleted stays until the next start."""
        _delete(place)

    def _path(self, name: str) -> Path:
        return self._parent / name

    def _hand_over(self, top: Path) -> None:
        """Give a folder, which only this process can get to, with all that is in it to who runs the services."""
        if self._account is None:
            return
        for _, folders, files, folder in os.fwalk(top, topdown=False):
            for name in (*folders, *files):
                os.chown(name, self._account.pw_uid, self._account.pw_gid, dir_fd=folder, follow_symlinks=False)
        top.chmod(0o700)  # others can get to where it will be
        os.chown(top, self._account.pw_uid, self._account.pw_gid, follow_symlinks=False)


def _delete(path: Path) -> None:
    deque(removal(str(path)), maxlen=0)

"""The folders of the services' instances on a host: `<parent>/<instance id>/` for what each prints, and in it `files/` for its bundle."""

import os
import pwd
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from skyclaw.outside.removing import removal
from skyclaw.outside.workdirs import private_parent

FILES = "files"
_FRESH = ".fresh-"


class ServiceFolders:
    """Folders that only who runs the services can look into: this process's user, or, of a host that runs as root, the jobs' user."""

    def __init__(self, parent: Path, job_user: str | None) -> None:
        """Raises StartRefused when the parent cannot be used, KeyError when there is no such user."""
        private_parent(parent, passable=job_user is not None)
        self._parent, self._account = parent.absolute(), pwd.getpwnam(job_user) if job_user is not None else None
        for unfinished in self._parent.glob(f"{_FRESH}*"):
            _delete(unfinished)

    def left(self) -> list[str]:
        """The instances that have a folder."""
        return [entry.name for entry in os.scandir(self._parent) if entry.is_dir(follow_symlinks=False)]

    def path(self, instance_id: str) -> Path:
        """An instance's folder, whether it is there or not."""
        return self._parent / instance_id

    def content(self, instance_id: str) -> Path:
        """Where its bundle is unpacked."""
        return self.path(instance_id) / FILES

    def make(self, instance_id: str) -> None:
        """Make sure of an instance's folder; raises OSError."""
        self.path(instance_id).mkdir(mode=0o700, exist_ok=True)
        self._hand_over(self.path(instance_id))

    def fresh(self, instance_id: str) -> Path:
        """Where a folder may be made that becomes the instance's `content` by `put`: its processes cannot get there before."""
        fresh = self._parent / f"{_FRESH}{instance_id}"
        _delete(fresh)
        return fresh

    def put(self, instance_id: str) -> None:
        """The fresh folder is the instance's content now; raises OSError."""
        fresh = self._parent / f"{_FRESH}{instance_id}"
        for path in _everything_in(fresh):
            self._hand_over(path)
        _delete(self.content(instance_id))
        fresh.rename(self.content(instance_id))

    def remove(self, instance_id: str) -> None:
        """Delete an instance's folder with all that is in it; what cannot be deleted stays."""
        _delete(self.path(instance_id))

    def _hand_over(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.pw_uid, self._account.pw_gid, follow_symlinks=False)


def _delete(path: Path) -> None:
    deque(removal(str(path)), maxlen=0)


def _everything_in(folder: Path) -> Iterator[Path]:
    yield folder
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in (*folders, *files))

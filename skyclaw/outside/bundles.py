"""Folders that are sent along with a service, as tar.gz archives.

Packing: the same tree always becomes the same archive, whoever packs it and when: entries in order, no times, no owners, modes 755 and 644.
What a `.skyclawignore` file in the folder leaves out is left out, or what its `.gitignore` files do, and so is every `.git`.

Unpacking trusts nobody. An archive may hold files, folders and symlinks, each once and below the top; nothing goes through a link; no link
leads out of the folder; and what all of it takes, its headers included, is counted while it is decompressed. A folder is there with all
that belongs into it, or not at all.
"""

import errno
import gzip
import hashlib
import io
import os
import shutil
import stat
import tarfile
import tempfile
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, cast

from skyclaw.outside.bundle_contents import BundleWrong, Contents, cannot_be_packed
from skyclaw.outside.removing import removal
from skyclaw.outside.workdirs import fresh_directory

__all__ = ["BOUNDS", "Bounds", "BundleWrong", "Packed", "packed", "unpack"]

_FOLDER_MODE, _PROGRAM_MODE, _FILE_MODE, _LINK_MODE = 0o755, 0o755, 0o644, 0o777
_MOST_AT_ONCE = 1 << 20  # an honest header is far smaller, and files are read in small pieces
_NAMES_NOTHING = (errno.ENAMETOOLONG, errno.ENOENT, errno.EINVAL, errno.EILSEQ)
_DAMAGED = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, OverflowError, RecursionError)


class Bounds(NamedTuple):
    """What a bundle may take when it is unpacked: `bytes` of its whole archive, and so many `members`."""

    bytes: int = 1 << 30
    members: int = 100_000


class Packed(NamedTuple):
    """An archive on the disk, its hash, its size, how many files and links are in it, and the paths that the rules in `rules` left out."""

    path: Path
    sha256: str
    bytes: int
    files: int
    left_out: tuple[str, ...]
    rules: str


BOUNDS = Bounds()


@contextmanager
def packed(folder: Path, bounds: Bounds = BOUNDS) -> Iterator[Packed]:
    """The archive of a folder, which is deleted afterwards; raises BundleWrong, with the name of what stands in the way."""
    contents, files = Contents(folder), 0
    with tempfile.NamedTemporaryFile(prefix="skyclaw-", suffix=".tar.gz") as file:
        with (
            gzip.GzipFile("", "wb", fileobj=file, mtime=0) as stream,
            tarfile.open(fileobj=cast(IO[bytes], stream), mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for count, path in enumerate(contents, 1):
                if count > bounds.members:
                    raise BundleWrong(f"{folder} has more than {bounds.members} entries; leave some out with a {contents.rules} file")
                files += _add(archive, folder, path, bounds.bytes)
        file.flush()
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = os.fstat(file.fileno()).st_size
        yield Packed(Path(file.name), digest, size, files, tuple(sorted(contents.left_out)), contents.rules)


def unpack(archive: Path, folder: Path, bounds: Bounds = BOUNDS) -> None:
    """Put what an archive holds into a folder that is empty or not there. Every user who can get to it can read it, its owner can write.

    Nobody else may be able to write into the folder around it. Raises BundleWrong for an archive that is damaged, breaks a rule or takes
    too much, and OSError.
    """
    fresh = fresh_directory(str(folder.parent), f".{folder.name}.")
    try:
        try:
            _unpack_into(fresh, archive, bounds)
        except _DAMAGED as error:
            raise BundleWrong(f"the bundle is damaged: {error}") from error
        os.chmod(fresh, _FOLDER_MODE)  # it is the folder around it that keeps others out
        os.rename(fresh, folder)
    except BaseException:
        deque(removal(fresh), maxlen=0)
        raise


# What goes into an archive.


def _add(archive: tarfile.TarFile, top: Path, path: str, most_bytes: int) -> bool:
    """Put an entry into the archive; says whether it is a file or a link."""
    member = tarfile.TarInfo(path)
    try:
        found = os.lstat(top / path)
        if stat.S_ISDIR(found.st_mode):
            member.type, member.mode = tarfile.DIRTYPE, _FOLDER_MODE
            archive.addfile(member)
            return False
        if stat.S_ISLNK(found.st_mode):
            member.type, member.mode, member.linkname = tarfile.SYMTYPE, _LINK_MODE, os.readlink(top / path)
            if not _stays_inside(str(top), path, member.linkname):
                raise BundleWrong(f"{path} is a link that leads out of the folder: {member.linkname}")
            archive.addfile(member)
        elif stat.S_ISREG(found.st_mode):
            _add_file(archive, member, top / path, most_bytes)
        else:
            raise BundleWrong(f"{path} is neither a file nor a folder nor a link")
    except OSError as error:
        raise cannot_be_packed(path, error) from error
    return True


def _add_file(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path, most_bytes: int) -> None:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        member.size, member.mode = found.st_size, _PROGRAM_MODE if found.st_mode & stat.S_IXUSR else _FILE_MODE
        if archive.offset + member.size > most_bytes:
            raise BundleWrong(f"with {member.name} the folder has more than {most_bytes} bytes; leave some out with a .gitignore file")
        archive.addfile(member, file)


def _stays_inside(top: str, path: str, target: str) -> bool:
    """Whether a link leads to a place below `top`: by its words, and by what is on the disk now."""
    by_words = os.path.normpath(os.path.join(os.path.dirname(path), target))
    if target.startswith("/") or by_words == ".." or by_words.startswith("../"):
        return False
    real_top = os.path.realpath(top)
    return os.path.commonpath((real_top, os.path.realpath(os.path.join(real_top, path)))) == real_top


# What comes out of one.


class _Counted(io.RawIOBase):
    """A decompressed stream that can only be read onwards, and in which no more is than it may be."""

    def __init__(self, stream: gzip.GzipFile, most_bytes: int) -> None:
        self._stream, self._most_bytes = stream, most_bytes

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        if not 0 <= size <= _MOST_AT_ONCE:
            raise BundleWrong("the bundle has a header that is too large")
        data = self._stream.read(size)
        self._count()
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Pass bytes over."""
        if whence != os.SEEK_SET or offset < self.tell():
            raise BundleWrong("the bundle is not in order")
        if offset > self._most_bytes:
            raise self._too_large()
        return self._stream.seek(offset)

    def tell(self) -> int:
        """How many bytes have been read or passed over."""
        return self._stream.tell()

    def drain(self) -> None:
        """Read to the end, where the checksum is."""
        while self._stream.read(_MOST_AT_ONCE):
            self._count()

    def _count(self) -> None:
        if self.tell() > self._most_bytes:
            raise self._too_large()

    def _too_large(self) -> BundleWrong:
        return BundleWrong(f"the bundle has more than {self._most_bytes} bytes")


def _unpack_into(top: str, archive: Path, bounds: Bounds) -> None:
    with gzip.open(archive, "rb") as stream:
        counted = _Counted(stream, bounds.bytes)
        with tarfile.open(fileobj=cast(IO[bytes], counted), mode="r:") as members:
            tree = _Tree(top)
            for count, member in enumerate(members, 1):
                if count > bounds.members:
                    raise BundleWrong(f"the bundle has more than {bounds.members} entries")
                tree.add(members, member)
        counted.drain()
    tree.check_links()


class _Tree:
    """The folder that grows: its folders and its links are known, so that nothing is ever put through a link."""

    def __init__(self, top: str) -> None:
        self._top = top
        self._folders = {""}
        self._links: dict[str, str] = {}

    def add(self, members: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Make what the member says; raises BundleWrong for what is against the rules."""
        path = _path_of(member)
        if not path and member.isdir():
            return
        try:
            self._make_folders(os.path.dirname(path))
            if member.isdir():
                self._make_folders(path)
            elif member.issym():
                os.symlink(member.linkname, self._place(path))
                self._links[path] = member.linkname
            else:
                self._write(path, members, member)
        except (FileExistsError, NotADirectoryError) as error:
            raise BundleWrong(f"{path} is in the bundle twice") from error
        except OSError as error:
            if error.errno in _NAMES_NOTHING:
                raise BundleWrong(f"{path} cannot be unpacked: {error.strerror}") from error
            raise

    def check_links(self) -> None:
        """Raises BundleWrong for a link that leads out, now that everything is there that could be on its way."""
        for path, target in self._links.items():
            if not _stays_inside(self._top, path, target):
                raise BundleWrong(f"{path} is a link that leads out of the bundle: {target}")

    def _make_folders(self, path: str) -> None:
        missing = []
        while path not in self._folders:
            missing.append(path)
            path = os.path.dirname(path)
        for folder in reversed(missing):
            os.mkdir(self._place(folder))
            os.chmod(self._place(folder), _FOLDER_MODE)  # whatever the umask is
            self._folders.add(folder)

    def _write(self, path: str, members: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        source = members.extractfile(member)
        if source is None:  # it has been checked that it is a file
            raise BundleWrong(f"{path} cannot be read")
        with source, open(os.open(self._place(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            shutil.copyfileobj(source, file)
            if file.tell() != member.size:
                raise BundleWrong(f"the bundle ends within {path}")
            os.fchmod(file.fileno(), _PROGRAM_MODE if member.mode & stat.S_IXUSR else _FILE_MODE)

    def _place(self, path: str) -> str:
        return f"{self._top}/{path}"


def _path_of(member: tarfile.TarInfo) -> str:
    """Where a member belongs, from the top; raises BundleWrong for what may not be in a bundle."""
    if not (member.isreg() or member.isdir() or member.issym()) or member.issparse():
        raise BundleWrong(f"{member.name} is neither a file nor a folder nor a link")
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if member.name.startswith("/") or ".." in parts or "\0" in member.name + member.linkname or not (parts or member.isdir()):
        raise BundleWrong(f"{member.name!r} is no path inside the bundle")
    return "/".join(parts)

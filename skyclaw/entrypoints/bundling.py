"""Sending a folder along with a service: it is packed, named by its hash, and uploaded unless the coordinators have it."""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from skyclaw.entrypoints import rendering
from skyclaw.entrypoints.finding import listed
from skyclaw.entrypoints.session import Session
from skyclaw.errors import ServerRefused, UsageWrong
from skyclaw.outside import bundles
from skyclaw.outside.http_answers import TOO_LARGE
from skyclaw.outside.paths import bundle_path

UPLOAD_S = 600.0
BUNDLE_TYPE = "application/gzip"


def sent(session: Session, folder: str) -> str:
    """The hash under which the coordinators have this folder from now on. Raises UsageWrong when it cannot be packed."""
    if not Path(folder).is_dir():
        raise UsageWrong(f"--bundle={folder} is not a folder")
    with bundles.packed(Path(folder)) as bundle:
        rendering.say(_told(bundle))
        try:
            _send(session, bundle)
        except ServerRefused as refusal:
            if refusal.status != TOO_LARGE:
                raise
            limit, remedy = "more than the coordinator's SKYCLAW_MAX_BUNDLE_BYTES", f"leave some out with a {bundle.rules} file"
            raise UsageWrong(f"--bundle={folder} makes {bundle.bytes} bytes, {limit}; {remedy}") from refusal
        return bundle.sha256


def _told(bundle: bundles.Packed) -> str:
    """What is in the bundle and what is not, in one line."""
    said = f"bundle: {bundle.files} {'file' if bundle.files == 1 else 'files'}, {_size(bundle.bytes)}"
    if not bundle.left_out:
        return said
    return f"{said}; left out: {listed(bundle.left_out)} ({bundle.rules})"


def _size(size: int) -> str:
    """A number of bytes in the largest unit of which it has one."""
    unit, name = next(((unit, name) for unit, name in ((1_000_000, "MB"), (1_000, "kB")) if size >= unit), (1, "bytes"))
    return f"{round(size / unit)} {name}"


def _send(session: Session, bundle: bundles.Packed) -> None:
    path = bundle_path(bundle.sha256)
    if not session.coordinators.has(path):
        with _progress(bundle.bytes) as advance:
            session.coordinators.upload(path, lambda: _Watched(bundle.path, advance), BUNDLE_TYPE, UPLOAD_S)


class _Watched(io.FileIO):
    """A file that tells how far it has been read."""

    def __init__(self, path: Path, advance: Callable[[int], None]) -> None:
        super().__init__(path)
        self._advance = advance

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes."""
        piece = super().read(size)
        self._advance(self.tell())
        return piece or b""


@contextmanager
def _progress(size: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, when a terminal shows it: the function that is yielded takes how many bytes have been read."""
    if not rendering.is_terminal(sys.stderr):
        yield lambda _read: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("[skyclaw] bundle", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("bundle", total=size)
        yield lambda read: progress.update(task, completed=read)

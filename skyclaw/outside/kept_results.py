"""Results that no coordinator has taken yet, each a file, so that they outlive the host's process.

A file is there whole or not at all. There are at most MOST_FILES of them and MOST_BYTES; the oldest go first.
"""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from skyclaw.outside.host_slot import write_durably

logger = logging.getLogger(__name__)

MOST_FILES = 1_024
MOST_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class KeptResult:
    """A result with the lease under which it was made; `lease_ms` in milliseconds."""

    host_id: str
    job_id: str
    lease_token: str
    lease_ms: int
    kind: str
    result: dict[str, Any]


class KeptResults:
    """The results in a folder that exists; not for several threads at once."""

    def __init__(self, folder: Path, most_files: int = MOST_FILES, most_bytes: int = MOST_BYTES) -> None:
        self._folder, self._most_files, self._most_bytes = folder, most_files, most_bytes

    def keep(self, kept: KeptResult) -> None:
        """Write a result down; it replaces a former one of the same lease. Raises OSError."""
        content = orjson.dumps(asdict(kept))
        path = self._path(kept.job_id, kept.lease_token)
        self._make_room(len(content), path)
        write_durably(path, content)

    def forget(self, job_id: str, lease_token: str) -> None:
        """The result that was made under that lease of the job need not be kept (any more)."""
        self._path(job_id, lease_token).unlink(missing_ok=True)

    def all(self) -> list[KeptResult]:
        """What is there, oldest first; a file that cannot be read is put aside under another name and logged."""
        return list(self._readable())

    def _readable(self) -> Iterator[KeptResult]:
        for path in self._files():
            try:
                yield KeptResult(**orjson.loads(path.read_bytes()))
            except (OSError, ValueError, TypeError):
                logger.exception("kept_result_unreadable file=%s", path.name)
                path.rename(path.with_suffix(".damaged"))

    def _make_room(self, size: int, own: Path) -> None:
        files = [path for path in self._files() if path != own]
        total = size + sum(path.stat().st_size for path in files)
        for number, path in enumerate(files):
            if len(files) - number < self._most_files and total <= self._most_bytes:
                return
            total -= path.stat().st_size
            logger.error("kept_result_dropped file=%s cause=too many are kept", path.name)
            path.unlink()

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("[!.]*.*.json"), key=lambda path: path.stat().st_mtime_ns)

    def _path(self, job_id: str, lease_token: str) -> Path:
        """Job ids and tokens are told by a coordinator: they must not lead out of the folder."""
        job, lease = quote(job_id, safe="")[:200].replace(".", "%2E"), hashlib.sha256(lease_token.encode()).hexdigest()[:16]
        return self._folder / f"{job}.{lease}.json"

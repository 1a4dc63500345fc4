"""The bundles that a host's services run in: fetched from the coordinators once, and unpacked for each instance."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

from skyclaw.errors import ServerRefused, SkyclawError, StorageFull
from skyclaw.outside.bundles import BundleWrong, unpack
from skyclaw.outside.coordinators import Coordinators
from skyclaw.outside.paths import bundle_path
from skyclaw.outside.service_folders import ServiceFolders
from skyclaw.store.bundles import BundleFiles

FETCH_S, NOT_THERE = 300.0, 404
KEPT = 5  # packed bundles
MOST_BYTES = 1 << 30  # of a packed one; the coordinators' own limit is lower


class BundleStock:
    """Keeps the bundles that were used last, packed, in a folder of the host. May be used from several threads."""

    def __init__(self, folder: Path, coordinators: Coordinators) -> None:
        self._folder, self._coordinators = folder, coordinators
        self._files = BundleFiles(folder, MOST_BYTES)
        self._lock = threading.Lock()

    def unpack(self, bundle: str, instance_id: str, folders: ServiceFolders) -> tuple[str | None, bool]:
        """Put a bundle's content into an instance's folder. Otherwise says why not, and whether it is no use to try again."""
        try:
            with folders.filling(instance_id) as fresh, self._lock:
                self._fetch(bundle)
                unpack(self._folder / bundle, fresh)
                self._forget_old()
        except ServerRefused as refusal:
            return f"bundle {bundle[:12]}: {refusal}", refusal.status == NOT_THERE
        except BundleWrong as wrong:
            return f"bundle {bundle[:12]}: {wrong}", True
        except StorageFull:
            return f"bundle {bundle[:12]}: this host has no room for it", False
        except SkyclawError as error:
            return f"bundle {bundle[:12]}: {error}", False
        except OSError as error:
            return f"bundle {bundle[:12]} cannot be unpacked: {os.strerror(error.errno or 0)}", False
        return None, False

    def _fetch(self, bundle: str) -> None:
        """Make sure that it is here; raises SkyclawError."""

        def keep(pieces: Iterator[bytes]) -> None:
            self._files.write(bundle, pieces, 0)

        if self._files.size(bundle) is None:
            self._coordinators.download(bundle_path(bundle), keep, FETCH_S)
        os.utime(self._folder / bundle)

    def _forget_old(self) -> None:
        """Delete all but those that were used last."""
        files = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in files[:-KEPT]:
            path.unlink()

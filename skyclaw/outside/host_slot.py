"""A host's state directory: `<home>/hosts/<n>/`, held by one process at a time.

It keeps the host's id, so that a restarted host comes back as itself, and the results that no coordinator has taken yet. Several hosts on a
machine take the slots in order. A host whose id was chosen by its owner has a slot of its own, which a host without a chosen id leaves
alone, and there is only one of it at a time: two would run every service of that host twice.
"""

import fcntl
import json
import os
from pathlib import Path

from skyclaw.errors import StartRefused

MOST_SLOTS = 1_024


class HostSlot:
    """A slot that this process holds until `release` or its end; `host_id` is who used it last, None if nobody did."""

    def __init__(self, path: Path, lock: int, host_id: str | None) -> None:
        self.path = path
        self.host_id = host_id
        self._lock = lock

    @property
    def results(self) -> Path:
        """Where undelivered results are kept."""
        return self.path / "results"

    def remember(self, host_id: str, chosen: bool) -> None:
        """Write down who uses the slot, and whether the id was chosen by its owner."""
        self.host_id = host_id
        write_durably(self.path / "host.json", json.dumps({"hostId": host_id, "chosen": chosen}).encode())

    def release(self) -> None:
        """Let another process take the slot."""
        os.close(self._lock)


def take_slot(home: Path, chosen_id: str | None = None) -> HostSlot:
    """The first free slot below `home` that fits.

    Raises StartRefused when there is none, when somebody is the chosen host already, and when the folder cannot be written.
    """
    folder = home / "hosts"
    try:
        private_folder(folder)
        slot = _own(folder, chosen_id) or _first_free(folder, chosen_id)
    except OSError as error:
        raise StartRefused(f"{folder} cannot be used: {os.strerror(error.errno or 0)}") from error
    if slot is None:
        raise StartRefused(f"all {MOST_SLOTS} slots below {folder} are in use")
    private_folder(slot.results)
    return slot


def _own(folder: Path, chosen_id: str | None) -> HostSlot | None:
    """The slot that already belongs to a chosen id; raises StartRefused while another process has it."""
    if chosen_id is None:
        return None
    known = sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
    own = [folder / str(n) for n in known if _used_by(folder / str(n))[0] == chosen_id]
    found = [_lock(path) for path in own]
    slots = [slot for slot in found if slot is not None]
    for spare in slots if None in found else slots[1:]:
        spare.release()
    if None in found:
        used = own[found.index(None)]
        raise StartRefused(f"another process is the host {chosen_id} already (in {used}); end it, or give this one another id")
    return slots[0] if slots else None


def _first_free(folder: Path, chosen_id: str | None) -> HostSlot | None:
    for n in range(MOST_SLOTS):
        path = folder / str(n)
        if path.exists() and not _fits(path, chosen_id):
            continue
        slot = _lock(path)
        if slot is not None:
            return slot
    return None


def _fits(path: Path, chosen_id: str | None) -> bool:
    used_by, chosen = _used_by(path)
    return used_by is None if chosen_id is not None else not chosen


def _used_by(path: Path) -> tuple[str | None, bool]:
    """The id that used the slot last, and whether it was chosen; a note that cannot be read counts as none."""
    try:
        note = json.loads((path / "host.json").read_text(encoding="utf-8"))
        return str(note["hostId"]), bool(note.get("chosen"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, False


def _lock(path: Path) -> HostSlot | None:
    private_folder(path)
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return HostSlot(path, lock, _used_by(path)[0])


def private_folder(path: Path) -> None:
    """Make a folder that only its owner can look into."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_durably(path: Path, content: bytes) -> None:
    """Put a file, readable by its owner only, in place at once and on the disk: after a power cut it is the old or the new one."""
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

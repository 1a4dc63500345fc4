"""The note that a running `skyclaw dev` leaves in its home, so that commands find it without any setting."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "dev.json"
HIDING = ("SKYCLAW_COORDINATOR_URLS", "SKYCLAW_COORDINATOR_URL", "SKYCLAW_TOKEN_FILE", "SKYCLAW_TOKEN")


@dataclass(frozen=True, slots=True)
class DevNote:
    """Where a running dev answers, its token, and the process it lives in."""

    url: str
    token: str
    pid: int


def write(home: Path, note: DevNote) -> None:
    """Leave the note, readable by its owner only; replaces what a former dev left."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = home / f".{NAME}.{note.pid}"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(note), file)
    fresh.replace(home / NAME)


def remove(home: Path) -> None:
    """Take the note away."""
    (home / NAME).unlink(missing_ok=True)


def living(home: Path) -> DevNote | None:
    """The note of a dev that is running now; None when there is none, or when it is not to be read."""
    try:
        values = json.loads((home / NAME).read_text(encoding="utf-8"))
        note = DevNote(str(values["url"]), str(values["token"]), int(values["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return note if _lives(note.pid) else None


def hidden_by(environ: Mapping[str, str]) -> list[str]:
    """The variables that send commands elsewhere than to a running dev."""
    return [name for name in HIDING if environ.get(name, "").strip()]


def _lives(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:  # it lives, as somebody else's
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True

"""A host in this process, and what tests wait for around it."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skyclaw.entrypoints.host import RunningHost, start_host
from skyclaw.entrypoints.settings import HostSettings

PATIENCE_S = 30.0


def until(condition: Callable[[], Any], timeout_s: float = PATIENCE_S) -> None:
    """Wait for something outside of the coordinator: a file, a process."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.01)


@dataclass
class Hosted:
    """A host that a test started, and what it printed."""

    folder: Path
    running: RunningHost
    printed: list[str] = field(default_factory=list)

    @property
    def results(self) -> list[Path]:
        """The results that it keeps on the disk."""
        return sorted((self.folder / "home" / "hosts" / "0" / "results").glob("*.json"))


def settings(folder: Path, *urls: str, **changes: Any) -> HostSettings:
    """A host of these coordinators that runs `bash` and `true`."""
    given: dict[str, Any] = {
        "home": folder / "home",
        "urls": urls,
        "token": None,
        "host_id": None,
        "name": "test-host",
        "capabilities": ("shell", "openclaw"),
        "allowed_commands": ("bash", "true"),
        "max_parallel": 1,
        "poll_ms": 50,
        "heartbeat_ms": 100,
        "timeout_ms": 60_000,
        "max_timeout_ms": 3_600_000,
        "max_output_bytes": 128_000,
        "openclaw_command": "openclaw-that-is-not-there",
        "automaton_command": "automaton-that-is-not-there",
        "grace_ms": 20_000,
        "work_roots": (),
        "job_user": None,
        "isolation": "none",
        "services": 0,
        "service_base_port": 3100,
        "service_base_url": None,
        "log": "text",
    }
    return HostSettings(**{**given, **changes})


@contextlib.contextmanager
def hosting(folder: Path, *urls: str, **changes: Any) -> Iterator[Hosted]:
    """A host that runs while the block runs."""
    printed: list[str] = []
    running = start_host(settings(folder, *urls, **changes), printed.append)
    try:
        yield Hosted(folder, running, printed)
    finally:
        running.stop()

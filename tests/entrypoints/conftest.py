import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from skyclaw.entrypoints import cli
from tests.entrypoints.small_coordinator import SmallCoordinator
from tests.support.scripted_server import ScriptedServer, serving


@dataclass(frozen=True)
class Served:
    """A small coordinator and the server in front of it."""

    small: SmallCoordinator
    server: ScriptedServer

    @property
    def url(self) -> str:
        return self.server.url


@pytest.fixture
def served() -> Iterator[Served]:
    small = SmallCoordinator()
    with serving(small.script) as server:
        yield Served(small, server)


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Call = Callable[..., Said]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment without any setting but the home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SKYCLAW_")}
    return {**kept, "SKYCLAW_HOME": str(tmp_path / "home")}


@pytest.fixture
def call(environ: dict[str, str], served: Served, capfdbinary: pytest.CaptureFixture[bytes]) -> Call:
    """Runs a command line in this process, against the small coordinator."""

    def run(*words: str, **settings: str) -> Said:
        capfdbinary.readouterr()
        code = cli.main(words, {**environ, "SKYCLAW_COORDINATOR_URL": served.url, **settings})
        out, err = capfdbinary.readouterr()
        return Said(code, out.decode(), err.decode())

    return run


@pytest.fixture
def spawn(environ: dict[str, str], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Runs a command line as a process of its own, in an empty folder."""

    def run(
        *words: str | bytes, program: tuple[str, ...] = ("-m", "skyclaw"), cwd: Path = tmp_path, settings: Mapping[str, str] = {}
    ) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, *program, *words] if program[0] == "-m" else [*program, *words]
        return subprocess.run(command, cwd=cwd, env={**environ, **settings}, capture_output=True, timeout=60, check=False)

    return run

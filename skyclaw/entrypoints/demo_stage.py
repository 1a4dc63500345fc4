"""The processes of `skyclaw demo`: a coordinator, a host and commands, in a folder of their own; leaving it stops what still runs."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TypeVar

from skyclaw.entrypoints.interruption import Interruption
from skyclaw.errors import SkyclawError

PATIENCE_S = 30.0  # for each step
STOP_S = 10.0  # that a process gets to end by itself
HOST = "demo-host"
LISTENING = "listening on "
T = TypeVar("T")


class DemoFailed(SkyclawError):
    """The demo did not come to its end."""

    code = "demo_failed"


class Stage:
    """Starts processes that know nothing of the owner's settings; on exit the last one started is stopped first, then the folder goes."""

    def __init__(self, environ: Mapping[str, str], interruption: Interruption) -> None:
        self.token = secrets.token_urlsafe(32)
        self._owners, self._interruption = environ, interruption
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stops = ExitStack()

    def __enter__(self) -> "Stage":
        with self._interruption.shielded():
            self.folder = Path(self._stops.enter_context(TemporaryDirectory(prefix="skyclaw-demo-")))
            self._environ = self._own_environ(self._owners)
        return self

    def __exit__(self, *_error: object) -> None:
        with self._interruption.shielded():
            self._stops.close()

    def start_coordinator(self) -> str:
        """Start it on a free port; the answer is its address, which it prints."""
        self._start("coordinator", {"SKYCLAW_COORDINATOR_PORT": "0"})
        return self.until("the coordinator listens", self._address)

    def start_host(self, url: str) -> None:
        """Start a host of that coordinator."""
        self._start("host", {"SKYCLAW_COORDINATOR_URL": url, "SKYCLAW_HOST_NAME": HOST, "SKYCLAW_CAPABILITIES": "shell"})

    def call(self, url: str, *words: str) -> str:
        """What a command prints; raises DemoFailed when it fails."""
        process = self._spawn(words, {"SKYCLAW_COORDINATOR_URL": url}, subprocess.PIPE, subprocess.PIPE)
        out, err = process.communicate(timeout=PATIENCE_S)
        if process.returncode:
            raise DemoFailed(f"skyclaw {words[0]} failed: {err.decode(errors='replace').strip()}")
        return out.decode()

    def until(self, what: str, look: Callable[[], T | None]) -> T:
        """What `look` finds, as soon as it finds something; raises DemoFailed when it takes too long or a process ends meanwhile."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            self._check_all_run()
            found = look()
            if found is not None:
                return found
            time.sleep(0.05)
        raise DemoFailed(f"waited {PATIENCE_S:.0f} s in vain until {what}; {self._last_words()}")

    def _own_environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The owner's environment without any setting of Skyclaw but the demo's own, and with this very program on the path."""
        token_file = self.folder / "token"
        token_file.touch(0o600)
        token_file.write_text(self.token, encoding="ascii")
        own = str(Path(__file__).parents[2])
        return {
            **{name: value for name, value in environ.items() if not name.startswith("SKYCLAW_")},
            "PYTHONPATH": os.pathsep.join(filter(None, (own, environ.get("PYTHONPATH")))),
            "SKYCLAW_HOME": str(self.folder / "home"),
            "SKYCLAW_DB_PATH": str(self.folder / "coordinator.db"),
            "SKYCLAW_TOKEN_FILE": str(token_file),
            "SKYCLAW_COORDINATOR_HOST": "127.0.0.1",
            "SKYCLAW_COORDINATOR_NODE_ID": "demo",
        }

    def _start(self, verb: str, settings: Mapping[str, str]) -> None:
        output = self._stops.enter_context((self.folder / f"{verb}.out").open("wb"))
        self._running[verb] = self._spawn((verb,), settings, output, subprocess.STDOUT)

    def _spawn(self, words: Sequence[str], settings: Mapping[str, str], out: int | IO[bytes], err: int) -> "subprocess.Popen[bytes]":
        """In a session of its own: a Ctrl-C in the terminal is for us, and we stop what we started, in order."""
        with self._interruption.shielded():
            process = subprocess.Popen(  # noqa: S603 this very program
                [sys.executable, "-m", "skyclaw", *words],
                env={**self._environ, **settings},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            self._stops.callback(_stop, process)
        return process

    def _address(self) -> str | None:
        """What a complete line of the coordinator says about where it listens."""
        lines = [line for line in self._printed("coordinator").splitlines(keepends=True) if line.endswith("\n")]
        return next((line.partition(LISTENING)[2].strip() for line in lines if LISTENING in line), None)

    def _printed(self, verb: str) -> str:
        return (self.folder / f"{verb}.out").read_text(encoding="utf-8", errors="replace")

    def _check_all_run(self) -> None:
        for name, process in self._running.items():
            if process.poll() is not None:
                raise DemoFailed(f"the {name} ended with exit code {process.returncode}; {self._last_words()}")

    def _last_words(self) -> str:
        return "; ".join(f"the {name} said: {(self._printed(name).splitlines() or ['nothing'])[-1]}" for name in self._running)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

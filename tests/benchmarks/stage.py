"""What a measurement stands on: a folder on the real disk, processes that are started for it, and how much of everything it takes."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import mkdtemp
from types import FrameType
from urllib.parse import urlsplit

from tests.benchmarks.children import Child, serve_calls
from tests.benchmarks.hello import serve_hello
from tests.benchmarks.wire import Address
from tests.support.real_processes import TOKEN, CoordinatorProcess, HostProcess, Process, wait_until

HEADERS = {"x-skyclaw-token": TOKEN}
START_S = 120.0
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: rounds, seconds for each measurement, sizes. `within_s` is what the rounds of one comparison may take."""

    rounds: int
    seconds: float
    within_s: float
    true_jobs: int  # for each round
    depths: tuple[int, ...]
    samples: int  # of a latency, for each round
    live_jobs: int  # of a restart
    events: int


FULL = Scale(5, 0.8, 20.0, 2_000, (100, 10_000, 1_000_000), 60, 100_000, 1_000_000)
QUICK = Scale(2, 0.3, 3.0, 200, (100, 1_000, 20_000), 20, 2_000, 20_000)


class Stage(ExitStack):
    """Starts processes; whatever was started is stopped when it is left, the last first."""

    def __init__(self, folder: Path, scale: Scale) -> None:
        super().__init__()
        self._folder, self.scale, self._count = folder, scale, 0

    def folder(self, name: str) -> Path:
        """A new folder."""
        return Path(mkdtemp(prefix=f"{name}-", dir=self._folder))

    def child(self) -> Child:
        """An interpreter that runs what it is told to."""
        return self.keep(lambda: Child(serve_calls))

    def keep(self, make: Callable[[], Child]) -> Child:
        """A new child that is stopped with the rest."""
        with undisturbed():
            child = make()
            self.callback(child.stop)
        return child

    def hello(self, serve: Callable[[Connection], None] = serve_hello) -> Address:
        """A server that says hello world."""
        return "127.0.0.1", int(self.keep(lambda: Child(serve)).answer())

    def coordinator(self, folder: Path | None = None, **settings: object) -> CoordinatorProcess:
        """A coordinator that answers, on the database in that folder or on a new one."""
        coordinator = CoordinatorProcess(folder or self.folder("coordinator"), None, **settings)
        self.start(coordinator)
        wait_until(coordinator.answers, f"the coordinator answers; it printed: {coordinator.printed}", START_S)
        return coordinator

    def host(self, coordinator: CoordinatorProcess, **settings: object) -> HostProcess:
        """A host that is registered."""
        host = HostProcess(self.folder("host"), coordinator.url, name="host", **settings)
        self.start(host)
        wait_until(lambda: "host registered" in host.printed, f"the host is registered; it printed: {host.printed}")
        return host

    def start(self, process: Process) -> None:
        """Start it, and have it stopped with the rest."""
        with undisturbed():
            self.callback(end, process)
            Process.start(process)

    def scene(self) -> "Stage":
        """A stage on this one, for processes that go before the rest."""
        return self.enter_context(Stage(self._folder, self.scale))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Whatever asks this program to end is heard at the end of the block: a process is started and known, or not started at all."""
    came: list[tuple[int, FrameType | None]] = []
    before = {number: signal.signal(number, lambda *signalled: came.append(signalled)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number, frame in came:
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        else:
            signal.raise_signal(number)


def end(process: Process) -> None:
    """Stop it, the hard way when it does not."""
    try:
        process.stop()
    except subprocess.TimeoutExpired:
        process.kill()


def address(coordinator: CoordinatorProcess) -> Address:
    """Where it listens."""
    parts = urlsplit(coordinator.url)
    return str(parts.hostname), int(parts.port or 0)


def memory_bytes(process: Process) -> int:
    """What a process has in memory at this moment."""
    assert process.process is not None
    status = Path(f"/proc/{process.process.pid}/status").read_text(encoding="ascii")
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

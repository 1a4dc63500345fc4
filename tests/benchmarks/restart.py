"""How long a restart takes, and what memory depends on. The snapshot is as old as the coordinator ever lets it become."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from actors.job_queue import SNAPSHOT_EVERY
from tests.benchmarks.figures import Figure, Target
from tests.benchmarks.filling import EVENTS_OF_FINISHED, fill
from tests.benchmarks.rounds import in_turns
from tests.benchmarks.stage import HEADERS, START_S, Stage, address, memory_bytes
from tests.benchmarks.wire import Connection, request
from tests.support.real_processes import CoordinatorProcess

LOOK_S = 0.002
HEALTH = request("GET", "/health", headers=HEADERS)
SHORTER = 10  # times less history


class Restarts:
    """Starts a coordinator again and again on one database; remembers how much memory it took."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self._stage, self._coordinator = stage, CoordinatorProcess(folder)
        self.memory: list[int] = []

    def seconds(self) -> float:
        """From the start of the process to its first good answer about its health."""
        with self._stage.scene() as scene:
            began = time.monotonic()
            scene.start(self._coordinator)
            while not self._answers():
                if time.monotonic() > began + START_S:
                    raise TimeoutError(f"the coordinator does not answer; it printed: {self._coordinator.printed}")
                time.sleep(LOOK_S)
            took = time.monotonic() - began
            self.memory.append(memory_bytes(self._coordinator))
        return took

    def _answers(self) -> bool:
        try:
            connection = Connection(address(self._coordinator))
        except OSError:
            return False
        try:
            return connection.ask(HEALTH).status == 200
        finally:
            connection.close()


def measure(stage: Stage) -> Iterator[Figure]:
    """A log of many events of which few belong to live jobs; the same with less history; and an empty one."""
    scale, child = stage.scale, stage.child()
    history = scale.events - scale.live_jobs
    folders = [stage.folder("restart") for _ in range(3)]
    for folder, past in zip(folders, (history, history // SHORTER), strict=False):
        unsnapped = min(max(SNAPSHOT_EVERY, scale.live_jobs), (scale.live_jobs + past) // 2)
        child.call(fill, folder / "coordinator.db", scale.live_jobs, past // EVENTS_OF_FINISHED, unsnapped)
    long, short, empty = (Restarts(stage, folder) for folder in folders)
    path = folders[0] / "coordinator.db"
    takes: list[Callable[[], float]] = [long.seconds, short.seconds, empty.seconds]
    takes += [lambda: child.call(read_needed, path), lambda: child.call(read_all, path)]
    rounds = in_turns(takes, min(3, scale.rounds), scale.within_s * 2)
    name = f"restart with {scale.events:,} events, {scale.live_jobs:,} live jobs"
    yield Figure("restart", name, rounds.median(0), "s", target=Target(3, most=True))
    yield Figure(
        "restart", "... beyond the start of an empty one", rounds.median(0) - rounds.median(2), "s", rounds.median(3), "s to read the rows"
    )
    yield Figure("restart", "the start of an empty coordinator", rounds.median(2), "s")
    yield Figure("restart", "SQLite alone, reading all events", rounds.median(4), "s")
    grown = (min(long.memory) - min(empty.memory)) / scale.live_jobs / 1000
    yield Figure("restart", f"memory for each of {scale.live_jobs:,} live jobs", grown, "kB", target=Target(1.5, most=True))
    small, large = min(short.memory) / 1e6, min(long.memory) / 1e6
    yield Figure("restart", "memory", large, "MB", small, f"MB, {SHORTER} times less history", large / small, Target(1.1, most=True))


def read_needed(path: Path) -> float:
    """Seconds to read what a restart needs: the newest snapshot, and the events after it. Runs in a child process."""
    return _read(
        path,
        "SELECT data FROM snapshot_part WHERE number = (SELECT max(number) FROM snapshot)",
        "SELECT * FROM event WHERE log = (SELECT log FROM identity) AND seq > (SELECT max(seq) FROM snapshot) ORDER BY seq",
    )


def read_all(path: Path) -> float:
    """Seconds to read every event. Runs in a child process."""
    return _read(path, "SELECT * FROM event WHERE log = (SELECT log FROM identity) ORDER BY seq")


def _read(path: Path, *queries: str) -> float:
    began = time.monotonic()
    with closing(sqlite3.connect(path)) as connection:
        for query in queries:
            for _ in connection.execute(query):
                pass
    return time.monotonic() - began

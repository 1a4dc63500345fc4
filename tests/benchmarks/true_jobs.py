"""How many jobs that do nothing go through coordinator and host, against how many such processes the machine can start at all."""

import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.benchmarks.figures import Figure, Target
from tests.benchmarks.loads import post_all
from tests.benchmarks.rounds import in_turns
from tests.benchmarks.stage import HEADERS, Stage, address
from tests.support.real_processes import CoordinatorProcess, wait_until

THREADS = 2
PARALLEL = 32
BATCH = 500
TRUE = {"payload": {"kind": "shell", "command": "true"}, "requirement": {"requiredCapabilities": ["shell"]}}
PATIENCE_S = 60.0


def measure(stage: Stage) -> Iterator[Figure]:
    """`true` from enqueue to completion, with both processes real. The jobs are enqueued while the host is paused."""
    child, coordinator = stage.child(), stage.coordinator()
    stage.host(coordinator, SKYCLAW_MAX_PARALLEL=PARALLEL, SKYCLAW_POLL_MS=50, SKYCLAW_GRACE_MS=0)
    through = Through(coordinator, stage.scale.true_jobs)
    rounds = in_turns(
        [through.rate, lambda: child.call(start_rate, stage.scale.seconds, THREADS)], stage.scale.rounds, stage.scale.within_s * 2
    )
    yield Figure(
        "true_jobs",
        "`true` jobs, end to end",
        rounds.median(0),
        "jobs/s",
        rounds.median(1),
        f"bare starts/s, {THREADS} threads",
        rounds.ratio(0, 1),
        Target(0.4),
    )


class Through:
    """Sends jobs through a coordinator that has one host."""

    def __init__(self, coordinator: CoordinatorProcess, jobs: int) -> None:
        self._coordinator, self._jobs = coordinator, jobs
        self._host = coordinator.get("/v1/hosts")["hosts"][0]["id"]

    def rate(self) -> float:
        """Jobs a second, from the first lease to the last completion, as the coordinator's log has them."""
        self._say("pause")
        begin = self._seen("max(seq)", "1")[0]
        batches = [{"jobs": [TRUE] * min(BATCH, self._jobs - at)} for at in range(0, self._jobs, BATCH)]
        post_all(address(self._coordinator), "/v1/jobs/batch", batches, HEADERS)
        self._say("resume")
        done = f"type = 'JobCompleted' AND seq > {begin}"
        wait_until(lambda: self._seen("count(*)", done)[0] == self._jobs, "all jobs are done", PATIENCE_S)
        first = self._seen("min(at)", f"type = 'JobLeased' AND seq > {begin}")[0]
        last = self._seen("max(at)", done)[0]
        return 1000 * self._jobs / max(1, last - first)

    def _say(self, mode: str) -> None:
        self._coordinator.post(f"/v1/hosts/{self._host}/{mode}", {})

    def _seen(self, what: str, where: str) -> tuple[int, ...]:
        """What the log says, read beside the coordinator."""
        path = Path(self._coordinator.env["SKYCLAW_DB_PATH"])
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            found: tuple[int, ...] = connection.execute(
                f"SELECT {what} FROM event WHERE log = (SELECT log FROM identity) AND {where}"  # noqa: S608  # only our own words
            ).fetchone()
        return found


def start_rate(seconds: float, threads: int) -> float:
    """How many times a second `true` can be started and its end seen, with pipes, in a session of its own. Runs in a child process."""
    counts = [0] * threads
    end = time.monotonic() + seconds

    def run(number: int) -> None:
        while time.monotonic() < end:
            process = subprocess.Popen(["/bin/true"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
            with process:
                assert process.stdout is not None
                assert process.stderr is not None
                process.stdout.read()
                process.stderr.read()
            counts[number] += 1

    began = time.monotonic()
    workers = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.monotonic() - began)

"""Durable enqueue, one job at a time and a hundred, against hello world on the same server."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from tests.benchmarks.figures import Figure, Target
from tests.benchmarks.hello import serve_hello_as_it_comes
from tests.benchmarks.loads import JOB, Load, flood
from tests.benchmarks.rounds import Take, in_turns
from tests.benchmarks.stage import HEADERS, Stage, address
from tests.benchmarks.wire import request

CLIENTS = (1, 8, 32)
JUDGED = 32
BATCH, BATCH_CLIENTS = 100, 8
HELLO = request("GET", "/")
ONE = request("POST", "/v1/jobs", JOB, HEADERS)
HUNDRED = request("POST", "/v1/jobs/batch", {"jobs": [JOB] * BATCH}, HEADERS)


def measure(stage: Stage) -> Iterator[Figure]:
    """Accepted jobs a second; each was on the disk when its answer left."""
    scale, child, hello, ours = stage.scale, stage.child(), stage.hello(), address(stage.coordinator())

    def rate(place: tuple[str, int], text: bytes, clients: int) -> float:
        load: Load = child.call(flood, place, text, clients, scale.seconds)
        return load.rate

    def commits() -> float:
        found: float = child.call(commit_rate, path, scale.seconds / 2)
        return found

    path = stage.folder("commits") / "raw.db"
    takes: list[Take]
    for clients in CLIENTS:
        takes = [partial(rate, ours, ONE, clients), partial(rate, hello, HELLO, clients), commits]
        rounds = in_turns(takes, scale.rounds, scale.within_s)
        yield Figure(
            "enqueue",
            f"durable enqueue, {clients} client{'s' * (clients > 1)}",
            rounds.median(0),
            "jobs/s",
            rounds.median(1),
            "hello/s",
            rounds.ratio(0, 1),
            Target(0.5) if clients == JUDGED else None,
        )
    takes = [partial(rate, ours, ONE, JUDGED), partial(rate, stage.hello(serve_hello_as_it_comes), HELLO, JUDGED)]
    untouched = in_turns(takes, scale.rounds, scale.within_s)
    yield Figure(
        "enqueue", "... beside waitress as it comes", untouched.median(0), "jobs/s", untouched.median(1), "hello/s", untouched.ratio(0, 1)
    )
    yield Figure("enqueue", "... in one commit of SQLite alone (FULL)", rounds.ratio(0, 2), "jobs", rounds.median(2), "commits/s")
    takes = [partial(rate, ours, HUNDRED, BATCH_CLIENTS), partial(rate, hello, HELLO, BATCH_CLIENTS)]
    rounds = in_turns(takes, scale.rounds, scale.within_s)
    yield Figure(
        "enqueue",
        f"enqueue in batches of {BATCH}, {BATCH_CLIENTS} clients",
        rounds.median(0) * BATCH,
        "jobs/s",
        rounds.median(1),
        "hello/s",
        rounds.ratio(0, 1) * BATCH,
        Target(5),
    )


def commit_rate(path: Path, seconds: float) -> float:
    """How many rows of an event's size SQLite commits a second, each by itself. Runs in a child process."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS event (seq INTEGER PRIMARY KEY, data TEXT)")
        count, began = 0, time.monotonic()
        while time.monotonic() < began + seconds:
            connection.execute("INSERT INTO event (data) VALUES (?)", ("x" * 400,))
            count += 1
        return count / (time.monotonic() - began)

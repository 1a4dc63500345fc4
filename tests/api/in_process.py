"""A coordinator without threads, sockets or files: the real queue and the real archive over logs that are a list."""

import json
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from falcon import testing

from api.app import create_app
from api.parts import Alone, Bundles, Cluster, HealthSeen, Parts
from skyclaw.codec import CODEC
from skyclaw.commands import Command, Reap
from skyclaw.errors import Undecided
from skyclaw.events import stream_of
from skyclaw.records import Record
from skyclaw.scheduling.jobs import Stamp
from skyclaw.scheduling.queue import Queue
from skyclaw.scheduling.turn import Rules
from skyclaw.scheduling.turns import Answers, Turns
from skyclaw.store.archive import Archive

TAG, EPOCH, START = "5eed5eed", "0.1.test", 1_700_000_000_000
SHELL = {"kind": "shell", "command": "true"}


class Waiting:
    """One who waits for an answer."""

    def __init__(self) -> None:
        self.came = threading.Event()
        self.answer: object = None


class InProcess:
    """Desk and event logs at once; `now` (ms) moves when a test says so. A refusal put into `failure` is what every command gets.

    What was committed here is handed to `followers`, which share `lock`.
    """

    def __init__(
        self, rules: Rules | None = None, log: str = TAG, epoch: str = EPOCH, lock: AbstractContextManager[Any] | None = None
    ) -> None:
        self.now, self.log, self.records = START, log, list[Record]()
        self.failure: Exception | None = None
        self.asked: list[Command] = []
        self.archive = Archive(self)  # type: ignore[arg-type]  # it only reads streams
        self.queue = Queue(log, rules or Rules(), self.archive.job, lambda: 0.0)
        self.followers: list[InProcess] = []
        self.lock: AbstractContextManager[Any] = lock or threading.RLock()
        self._answer(self.queue.own(log, epoch, self.now).answers)

    def stream(self, stream: str, until: int | None = None, after: int = 0, limit: int | None = None) -> list[Record]:
        found = [record for record in self.records if record.stream == stream and record.seq > after]
        return [record for record in found if until is None or record.seq <= until][:limit]

    def newest(self, log: str, types: Sequence[str], before: int | None, limit: int) -> list[tuple[int, str]]:
        fitting = [r for r in reversed(self.records) if r.log == log and r.type in types and (before is None or r.seq < before)]
        return [(r.seq, r.stream) for r in fitting][:limit]

    def last(self, log: str, streams: Sequence[str]) -> dict[str, int]:
        return {record.stream: record.seq for record in self.records if record.log == log and record.stream in streams}

    def ask(self, command: Command, timeout_s: float = 5.0) -> Any:
        return self._get(self._send(command), timeout_s)

    def ask_parked(self, command: Command, wait_ms: int) -> Any:
        waiting = self._send(command)
        if not waiting.came.wait(wait_ms / 1000):
            with self.lock:
                self._commit(self.queue.give_up(waiting, self.now))
        return self._get(waiting, 5.0)

    def pass_time(self, ms: int) -> None:
        self.now += ms
        self.ask(Reap())

    def follow(self, log: str, records: Sequence[Record]) -> None:
        """These records of a log that another one owns are committed."""
        self.records += records
        events = [(CODEC.decode(r.type, r.version, r.data), Stamp(r.seq, r.epoch, r.at)) for r in records]
        self._commit(self.queue.learn(log, events, self.now))

    def _send(self, command: Command) -> Waiting:
        self.asked.append(command)
        if self.failure is not None:
            raise self.failure
        waiting = Waiting()
        with self.lock:
            self._commit(self.queue.ask(waiting, command, self.now))
        return waiting

    def _get(self, waiting: Waiting, timeout_s: float) -> Any:
        if not waiting.came.wait(timeout_s):
            raise Undecided
        if isinstance(waiting.answer, Exception):
            raise waiting.answer
        return waiting.answer

    def _commit(self, turns: Turns) -> None:
        for turn in turns:
            log, epoch, records = turn.book.log, turn.book.epoch, list[Record]()
            for seq, event in enumerate(turn.events, turn.start + 1):
                name, version, data = CODEC.encode(event)
                records.append(Record(log, seq, epoch, stream_of(event), name, version, turn.now, data))
            self.records += records
            self.queue.committed(log, turn.end)
            for follower in self.followers if records else ():
                follower.follow(log, records)
        self._answer(turns.answers)

    @staticmethod
    def _answer(answers: Answers) -> None:
        for waiting, answer in answers:
            assert isinstance(waiting, Waiting)
            waiting.answer = answer
            waiting.came.set()


class Answer:
    """What came back."""

    def __init__(self, result: Any) -> None:
        self.status: int = result.status_code
        self.headers = {name.lower(): value for name, value in result.headers.items()}
        self.text: str = result.text
        self.json: Any = json.loads(result.text) if result.text else None


class Client:
    """Asks the application without a network."""

    def __init__(
        self,
        inside: InProcess,
        tokens: tuple[str, ...] = (),
        health: HealthSeen | None = None,
        cluster: Cluster | None = None,
        label: str = "node-a",
        bundles: Bundles | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.inside = inside
        self.health = health or HealthSeen(ok=True, ready=True)
        parts = Parts(
            inside,
            inside.archive,
            label,
            inside.log,
            tokens,
            lambda: inside.now,
            lambda: self.health,
            cluster=cluster or Alone(),
            bundles=bundles,
        )
        self.app = create_app(parts)
        self._client, self._from = testing.TestClient(self.app), {"REMOTE_ADDR": address}

    def get(self, path: str, **headers: str) -> Answer:
        path, _, query = path.partition("?")
        return Answer(self._client.simulate_get(path, query_string=query, headers=named(headers)))

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        """`body`: None for none at all, bytes as they are, anything else as JSON."""
        given = {"content-type": "application/json", **named(headers)}
        text = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return Answer(self._client.simulate_post(path, body=text, headers=given, extras=self._from))

    def ask(self, method: str, path: str, **headers: str) -> Answer:
        return Answer(self._client.simulate_request(method, path, headers=named(headers)))

    # What most tests need first.

    def register(self, host_id: str = "h1", **fields: Any) -> Any:
        body = {"hostId": host_id, "name": host_id, "capabilities": ["shell"], "maxParallel": 4, **fields}
        return self.expect(200, self.post("/v1/hosts/register", body))["host"]

    def enqueue(self, **fields: Any) -> Any:
        return self.expect(200, self.post("/v1/jobs", {"payload": SHELL, **fields}))["job"]

    def claim(self, host_id: str = "h1", **fields: Any) -> Any:
        return self.expect(200, self.post(f"/v1/hosts/{host_id}/claim", fields))["job"]

    def complete(self, job: Any, **fields: Any) -> Answer:
        return self.post(f"/v1/jobs/{job['id']}/complete", {"hostId": job["assignedHostId"], **result(**fields)})

    @staticmethod
    def expect(status: int, answer: Answer) -> Any:
        assert answer.status == status, answer.text
        return answer.json


def named(headers: dict[str, str]) -> dict[str, str]:
    """Header names from keyword names."""
    return {name.replace("_", "-"): value for name, value in headers.items()}


def result(**fields: Any) -> dict[str, Any]:
    """The result of an attempt that went well, unless the fields say otherwise."""
    return {"success": True, "durationMs": 12, "exitCode": 0, "stdout": "out", "stderr": "err", **fields}


def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds, which other threads bring about."""
    pause = threading.Event()
    for _ in range(2000):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("waited in vain")

"""What clients do to a coordinator while it is measured. These functions run in a child process."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any, NamedTuple

from tests.benchmarks.wire import Address, Answer, Connection, Poll, Refused, request

SETTLE_S = 0.1  # at the beginning of each load, not counted
CAPABILITY = "bench"
JOB = {"payload": {"kind": "shell", "command": "true"}, "requirement": {"requiredCapabilities": [CAPABILITY]}}
DONE = {"success": True, "durationMs": 1, "exitCode": 0, "stdout": "", "stderr": ""}


class Load(NamedTuple):
    """How much was done in a second, and how long one took (s): the middle one of all, for each step of it."""

    rate: float
    step_s: tuple[float, ...]


class Clock:
    """Counts what is finished within the time that counts."""

    def __init__(self, seconds: float) -> None:
        self.begins = time.perf_counter() + SETTLE_S
        self.ends = self.begins + seconds
        self.count = 0
        self._last = self.begins

    def finished(self, now: float) -> None:
        """One more."""
        if self.begins <= now < self.ends:
            self.count += 1
            self._last = now

    @property
    def rate(self) -> float:
        """Finished ones a second, up to the last one: at slow rates the rest of the time belongs to none."""
        return self.count / (self._last - self.begins) if self.count else 0.0


def flood(address: Address, text: bytes, clients: int, seconds: float) -> Load:
    """Each client sends the request again as soon as it is answered. Raises Refused when one is not a success."""
    poll, clock = Poll(), Clock(seconds)
    took: list[float] = []
    sent, busy = [0.0] * clients, set[int]()
    connections = [Connection(address) for _ in range(clients)]

    def go_on(number: int) -> None:
        answer = connections[number].receive()
        if answer is None:
            return
        if answer.status != 200:
            answer.json()
        now = time.perf_counter()
        clock.finished(now)
        took.append(now - sent[number])
        send(number, now)

    def send(number: int, now: float) -> None:
        """Nothing is sent any more when the time is over, so that nothing of this load is left for the next."""
        busy.discard(number)
        if now < clock.ends:
            busy.add(number)
            sent[number] = now
            connections[number].send(text)

    for number, connection in enumerate(connections):
        poll.add(connection, partial(go_on, number))
        send(number, time.perf_counter())
    while busy:
        poll.once(1.0)
    for connection in connections:
        connection.close()
    poll.close()
    return Load(clock.rate, (median(took),))


class Cycler:
    """A client that enqueues a job, claims one as a host of its own and reports it done: the queue stays as deep as it was."""

    def __init__(self, address: Address, headers: Mapping[str, str], number: int, clock: Clock) -> None:
        self.connection, self._clock, self._headers = Connection(address), clock, headers
        host_id = f"host-cycler-{number}"
        body = {"hostId": host_id, "name": host_id, "capabilities": [CAPABILITY], "maxParallel": 8}
        self.connection.ask(request("POST", "/v1/hosts/register", body, headers)).json()
        self._enqueue = request("POST", "/v1/jobs", JOB, headers)
        self._claim = request("POST", f"/v1/hosts/{host_id}/claim", {"max": 1}, headers)
        self._results = f"/v1/hosts/{host_id}/results"
        self._sent = 0.0
        self._steps = (self._enqueued, self._claimed, self._reported)
        self._step = 0
        self.busy = True
        self.took: tuple[list[float], ...] = ([], [], [])

    def begin(self) -> None:
        """The first cycle."""
        self._send(self._enqueue)

    def go_on(self) -> None:
        """Something has come."""
        answer = self.connection.receive()
        if answer is None:
            return
        now = time.perf_counter()
        self.took[self._step].append(now - self._sent)
        following = self._steps[self._step](answer)
        self._step = (self._step + 1) % len(self._steps)
        if self._step == 0:
            self._clock.finished(now)
            self.busy = now < self._clock.ends
        if self.busy:
            self._send(following)

    def _send(self, text: bytes) -> None:
        self._sent = time.perf_counter()
        self.connection.send(text)

    def _enqueued(self, answer: Answer) -> bytes:
        answer.json()
        return self._claim

    def _claimed(self, answer: Answer) -> bytes:
        job = answer.json()["job"]
        if job is None:
            raise Refused("a claim got nothing though there are jobs")
        result = {"jobId": job["id"], "leaseToken": job["leaseToken"], **DONE}
        return request("POST", self._results, {"results": [result]}, self._headers)

    def _reported(self, answer: Answer) -> bytes:
        said = answer.json()["results"][0]
        if not said["ok"]:
            raise Refused(f"a result was refused: {said}")
        return self._enqueue


def cycle(address: Address, headers: Mapping[str, str], clients: int, seconds: float) -> Load:
    """Cycles of enqueue, claim and report; the steps' times are those of the three."""
    poll, clock = Poll(), Clock(seconds + SETTLE_S)
    cyclers = [Cycler(address, headers, number, clock) for number in range(clients)]
    for cycler in cyclers:
        poll.add(cycler.connection, cycler.go_on)
        cycler.begin()
    while any(cycler.busy for cycler in cyclers):
        poll.once(1.0)
    for cycler in cyclers:
        cycler.connection.close()
    poll.close()
    return Load(clock.rate, tuple(median(_all(cyclers, step)) for step in range(3)))


def post_all(address: Address, path: str, bodies: Sequence[Any], headers: Mapping[str, str]) -> None:
    """Send these one after the other; raises Refused."""
    connection = Connection(address)
    for body in bodies:
        connection.ask(request("POST", path, body, headers)).json()
    connection.close()


def _all(cyclers: Sequence[Cycler], step: int) -> list[float]:
    return [seconds for cycler in cyclers for seconds in cycler.took[step]]

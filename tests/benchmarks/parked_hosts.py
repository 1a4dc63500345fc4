"""Many hosts that wait for a job, in one child process. A host that is told to come back later does."""

import heapq
import time
from collections import deque
from collections.abc import Mapping
from functools import partial
from multiprocessing.connection import Connection as Link

from tests.benchmarks.loads import CAPABILITY, DONE, JOB
from tests.benchmarks.wire import Address, Connection, Poll, request

WAIT_MS = 30_000
QUIET_S = 0.5  # as long as nothing is heard of a claim, it is parked
PACE_S = 0.005  # between two samples


class ParkedHosts:
    """Registers hosts and keeps a claim of each under way; what is claimed is reported done at once."""

    def __init__(self, address: Address, headers: Mapping[str, str], count: int) -> None:
        self._headers, self.poll = headers, Poll()
        self._enqueueing = Connection(address)
        self._connections = [Connection(address) for _ in range(count)]
        self._claims = [self._registered(number) for number in range(count)]
        self._claiming = [False] * count
        self._later: list[tuple[float, int]] = []  # when to claim again, and which host
        self.arrived: list[float] = []
        for number, connection in enumerate(self._connections):
            self.poll.add(connection, partial(self._on_answer, number))
            self._claim(number)
        self.tend(QUIET_S)

    def tend(self, seconds: float) -> None:
        """Be those hosts for a while."""
        end = time.perf_counter() + seconds
        while (now := time.perf_counter()) < end:
            self.once(end - now)

    def once(self, most_s: float) -> None:
        """Deal with what comes next."""
        now = time.perf_counter()
        while self._later and self._later[0][0] <= now:
            self._claim(heapq.heappop(self._later)[1])
        self.poll.once(min(most_s, self._later[0][0] - now) if self._later else most_s)

    def latencies(self, samples: int) -> list[float]:
        """From sending a job to its arrival at one of the hosts, in seconds."""
        found = []
        text = request("POST", "/v1/jobs", JOB, self._headers)
        for _ in range(samples):
            while not all(self._claiming):
                self.once(1.0)
            self.tend(PACE_S)
            self.arrived.clear()
            sent = time.perf_counter()
            self._enqueueing.send(text)
            while not self.arrived:
                self.once(1.0)
            found.append(self.arrived[0] - sent)
            while (answer := self._enqueueing.receive()) is None:
                continue
            answer.json()
        return found

    def _registered(self, number: int) -> bytes:
        """The request with which this host claims."""
        host_id = f"host-parked-{number}"
        body = {"hostId": host_id, "name": host_id, "capabilities": [CAPABILITY]}
        self._connections[number].ask(request("POST", "/v1/hosts/register", body, self._headers)).json()
        return request("POST", f"/v1/hosts/{host_id}/claim", {"waitMs": WAIT_MS, "max": 1}, self._headers)

    def _claim(self, number: int) -> None:
        self._claiming[number] = True
        self._connections[number].send(self._claims[number])

    def _on_answer(self, number: int) -> None:
        answer = self._connections[number].receive()
        if answer is None:
            return
        now = time.perf_counter()
        said = answer.json()
        if not self._claiming[number]:
            self._claim(number)
        elif job := said["job"]:
            self.arrived.append(now)
            self._claiming[number] = False
            body = {"results": [{"jobId": job["id"], "leaseToken": job["leaseToken"], **DONE}]}
            self._connections[number].send(request("POST", f"/v1/hosts/host-parked-{number}/results", body, self._headers))
        else:
            heapq.heappush(self._later, (now + said.get("retryAfterMs", 0) / 1000, number))


def be_hosts(link: Link, address: Address, headers: Mapping[str, str], count: int) -> None:
    """A child's main function: says when the hosts wait, and then takes as many samples as it is asked for."""
    hosts, asked = ParkedHosts(address, headers, count), deque[tuple[int]]()
    hosts.poll.add(link, lambda: asked.append(link.recv()))
    link.send("waiting")
    while True:
        hosts.once(1.0)
        while asked:
            link.send(hosts.latencies(*asked.popleft()))


def round_trips(address: Address, headers: Mapping[str, str], samples: int) -> list[float]:
    """How long an enqueue takes from request to answer, in seconds, at the same pace. Runs in a child process."""
    connection, text, found = Connection(address), request("POST", "/v1/jobs", JOB, headers), []
    for _ in range(samples):
        time.sleep(PACE_S)
        sent = time.perf_counter()
        connection.ask(text).json()
        found.append(time.perf_counter() - sent)
    connection.close()
    return found

"""Twenty requests at once with one key, through the real server and the real actors: one effect and one answer, also after a restart."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from actors.coordinator import Coordinator
from api.app import create_app
from api.parts import HealthSeen, Parts
from skyclaw.entrypoints.serve import Server
from skyclaw.scheduling.turn import Rules
from skyclaw.store.memory import MemoryEventLog
from tests.api.in_process import SHELL, START, result
from tests.api.raw_http import RawAnswer, exchange, request

AT_ONCE = 20
KEY = "X-Idempotency-Key: the-same"
REGISTRATION = {"hostId": "h1", "name": "h1", "capabilities": ["shell"], "maxParallel": 4}

Case = tuple[str, dict[str, Any]]


class Served:
    """A coordinator at a port; its clock stands still, so that answers differ only in what happened."""

    def __init__(self, log: MemoryEventLog) -> None:
        self.coordinator = Coordinator(log, lambda: START, Rules(), on_fatal=lambda: None, reap_every_s=None)
        self.coordinator.start()
        desk, archive = self.coordinator.desk, self.coordinator.archive
        app = create_app(Parts(desk, archive, "node-a", log.log, (), lambda: START, lambda: HealthSeen(ok=True, ready=True)))
        self.server = Server(app, "127.0.0.1", 0)
        self.server.start()

    def stop(self) -> None:
        self.server.stop()
        self.coordinator.stop()

    def post(self, path: str, body: Any, *lines: str) -> RawAnswer:
        return exchange(self.server.port, request("POST", path, json.dumps(body).encode(), *lines))

    def ok(self, path: str, body: Any) -> Any:
        answer = self.post(path, body)
        assert answer.status == 200, answer.body
        return answer.json


@contextmanager
def served(log: MemoryEventLog) -> Iterator[Served]:
    here = Served(log)
    try:
        yield here
    finally:
        here.stop()


def queued(here: Served) -> str:
    here.ok("/v1/hosts/register", REGISTRATION)
    job_id: str = here.ok("/v1/jobs", {"payload": SHELL})["job"]["id"]
    return job_id


def leased(here: Served) -> dict[str, Any]:
    job_id = queued(here)
    job: dict[str, Any] = here.ok("/v1/hosts/h1/claim", {})["job"]
    assert job["id"] == job_id
    return job


def register(_here: Served) -> Case:
    return "/v1/hosts/register", REGISTRATION


def claim(here: Served) -> Case:
    for _ in range(3):
        queued(here)
    return "/v1/hosts/h1/claim", {}


def complete(here: Served) -> Case:
    job = leased(here)
    return f"/v1/jobs/{job['id']}/complete", {"hostId": "h1", "leaseToken": job["leaseToken"], **result()}


def cancel(here: Served) -> Case:
    return f"/v1/jobs/{queued(here)}/cancel", {}


def retry(here: Served) -> Case:
    job_id = queued(here)
    here.ok(f"/v1/jobs/{job_id}/cancel", {})
    return f"/v1/jobs/{job_id}/retry", {}


def release(here: Served) -> Case:
    job = leased(here)
    return f"/v1/jobs/{job['id']}/release", {"hostId": "h1", "leaseToken": job["leaseToken"]}


def drain(here: Served) -> Case:
    here.ok("/v1/hosts/register", REGISTRATION)
    return "/v1/hosts/h1/drain", {}


def at_once(here: Served, path: str, body: Any) -> list[tuple[int, Any]]:
    """What the requests with one key were answered, all sent at the same time."""
    gate, heard = threading.Barrier(AT_ONCE), list[tuple[int, Any]]()

    def send() -> None:
        gate.wait(10)
        heard.append(said(here.post(path, body, KEY)))

    threads = [threading.Thread(target=send) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(heard) == AT_ONCE
    return heard


def said(answer: RawAnswer) -> tuple[int, Any]:
    return answer.status, {name: value for name, value in answer.json.items() if name != "requestId"}


def happened(log: MemoryEventLog, since: int = 0) -> Counter[str]:
    return Counter(record.type for record in log.tail(log.log, since))


@pytest.mark.parametrize(
    ("prepare", "effect"),
    [
        (register, "HostRegistered"),
        (claim, "JobLeased"),
        (complete, "JobCompleted"),
        (cancel, "JobCancelled"),
        (retry, "JobRevived"),
        (release, "JobReleased"),
        (drain, "HostModeChanged"),
    ],
)
def test_twenty_at_once_have_one_effect_and_one_answer_also_after_a_restart(prepare: Callable[[Served], Case], effect: str) -> None:
    log = MemoryEventLog("test")
    with served(log) as here:
        path, body = prepare(here)
        before = log.head(log.log).seq
        heard = at_once(here, path, body)
        assert heard[0][0] == 200, heard[0]
        assert heard == [heard[0]] * AT_ONCE
        assert happened(log, before) == {effect: 1, "RequestAnswered": 1}
        end = log.head(log.log).seq
    with served(log) as here:
        assert said(here.post(path, body, KEY)) == heard[0]
        assert happened(log, end) == {"OwnershipTaken": 1}

"""Time travel through HTTP: lease expiry, backoff, notBefore, under a frozen clock that the test moves."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from falcon import testing

from actors.coordinator import Coordinator
from api.app import create_app
from api.parts import HealthSeen, Parts
from skyclaw.commands import Reap
from skyclaw.outside.clock import utc_now
from skyclaw.scheduling.turn import Rules
from skyclaw.store.memory import MemoryEventLog
from tests.time_travel.journeys import journey

LEASE_S = 60


class Traveller:
    """A coordinator over HTTP, and its clock."""

    def __init__(self, log: MemoryEventLog, clock: Any) -> None:
        self.clock = clock
        self.coordinator = Coordinator(log, utc_now, Rules(lease_ms=LEASE_S * 1000), lambda: None, reap_every_s=None)
        self.coordinator.start()
        healthy = HealthSeen(True, True)
        parts = Parts(self.coordinator.desk, self.coordinator.archive, "node-a", log.log, (), utc_now, lambda: healthy)
        self.client = testing.TestClient(create_app(parts))

    def later(self, seconds: float) -> Any:
        """Let time pass, and do what it demands."""
        self.clock.tick(timedelta(seconds=seconds))
        return self.coordinator.desk.ask(Reap())

    def post(self, path: str, status: int = 200, **body: Any) -> Any:
        """The body of the answer, which must have that status."""
        answer = self.client.simulate_post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json

    def enqueue(self, **fields: Any) -> str:
        """A job of `true`; returns its id."""
        job: str = self.post("/v1/jobs", payload={"kind": "shell", "command": "true"}, **fields)["job"]["id"]
        return job

    def claim(self, host: str = "h") -> Any:
        """The job that a host gets, or None."""
        return self.post(f"/v1/hosts/{host}/claim")["job"]

    def complete(self, job: Any, status: int = 200, success: bool = True, host: str = "h") -> Any:
        """Report the end of a claimed job."""
        report = {"durationMs": 1, "exitCode": 0 if success else 1, "stdout": "", "stderr": ""}
        return self.post(f"/v1/jobs/{job['id']}/complete", status, hostId=host, leaseToken=job["leaseToken"], success=success, **report)

    def heartbeat(self, host: str = "h", **body: Any) -> Any:
        """A host lives."""
        return self.post(f"/v1/hosts/{host}/heartbeat", **body)

    def status(self, job_id: str) -> str:
        """The present status of a job."""
        status: str = self.client.simulate_get(f"/v1/jobs/{job_id}").json["job"]["status"]
        return status


@pytest.fixture
def log() -> MemoryEventLog:
    return MemoryEventLog("node-a")


@pytest.fixture
def travel(log: MemoryEventLog) -> Iterator[Callable[[], Traveller]]:
    with journey(log, Traveller) as start:
        yield start


@pytest.fixture
def world(travel: Callable[[], Traveller]) -> Traveller:
    traveller = travel()
    for host in ("h", "k"):
        traveller.post("/v1/hosts/register", hostId=host, name=host, capabilities=["shell"], maxParallel=4)
    return traveller


def test_a_lease_ends_at_its_very_end_and_the_job_goes_to_the_next_host(world: Traveller) -> None:
    job_id = world.enqueue()
    first = world.claim("h")
    assert first["leaseExpiresAt"] == "2030-01-01T12:01:00.000Z"
    assert world.later(LEASE_S - 0.001).expired == 0
    assert world.later(0.001).expired == 1
    assert world.status(job_id) == "queued"
    second = world.claim("k")
    assert (second["id"], second["attempts"]) == (job_id, 2)
    refused = world.complete(first, 409)
    assert refused["code"] == "stale_attempt"
    assert world.complete(second, host="k")["job"]["status"] == "completed"


def test_a_heartbeat_moves_the_end_of_a_lease(world: Traveller) -> None:
    world.enqueue()
    job = world.claim()
    for _ in range(5):
        assert world.later(LEASE_S - 1).expired == 0
        assert world.heartbeat(leases=[{"jobId": job["id"], "leaseToken": job["leaseToken"]}])["lost"] == []
    assert world.complete(job)["job"]["attempts"] == 1


def test_a_heartbeat_without_a_list_renews_all_of_a_hosts_leases(world: Traveller) -> None:
    world.enqueue()
    job = world.claim()
    world.later(LEASE_S - 1)
    world.heartbeat()
    assert world.later(LEASE_S - 1).expired == 0
    assert world.complete(job)["job"]["status"] == "completed"


def test_a_lease_that_a_host_does_not_list_is_released(world: Traveller) -> None:
    job_id = world.enqueue()
    world.claim()
    world.later(11)
    world.heartbeat(leases=[])
    assert world.status(job_id) == "queued"


def test_renewals_end_with_the_time_limit_of_the_job(world: Traveller) -> None:
    job_id = world.enqueue(timeoutMs=120_000)
    job = world.claim()
    for _ in range(7):
        world.later(20)
        world.heartbeat(leases=[{"jobId": job["id"], "leaseToken": job["leaseToken"]}])
    assert world.status(job_id) == "leased"
    assert world.later(10).expired == 1  # 120 s and 30 s of overtime


def test_five_lost_leases_end_a_job_as_exhausted(world: Traveller) -> None:
    job_id = world.enqueue()
    for _ in range(5):
        assert world.claim("h" if world.status(job_id) == "queued" else "k") is not None
        world.later(LEASE_S)
        world.heartbeat("h"), world.heartbeat("k")
    job = world.client.simulate_get(f"/v1/jobs/{job_id}").json["job"]
    assert (job["status"], job["reason"], job["attempts"]) == ("failed", "exhausted", 5)


def test_a_failed_job_waits_twice_as_long_before_each_attempt(world: Traveller) -> None:
    job_id = world.enqueue(maxAttempts=3, backoff={"initialMs": 10_000})
    waits = []
    for _ in range(2):
        failed = world.complete(world.claim(), success=False)["job"]
        assert failed["status"] == "queued"
        assert world.claim() is None
        due = datetime.fromisoformat(failed["notBefore"])
        waits.append((due - datetime.now(UTC)).total_seconds())
        world.later(waits[-1] - 0.001)
        assert world.claim() is None
        world.later(0.001)
    assert 5 <= waits[0] <= 10 <= waits[1] <= 20
    assert world.complete(world.claim(), success=False)["job"]["status"] == "failed"
    assert world.status(job_id) == "failed"


def test_the_delay_of_a_retry_is_the_same_after_a_restart(travel: Callable[[], Traveller], world: Traveller) -> None:
    job_id = world.enqueue(maxAttempts=2, backoff={"initialMs": 10_000})
    due = world.complete(world.claim(), success=False)["job"]["notBefore"]
    reborn = travel()
    assert reborn.client.simulate_get(f"/v1/jobs/{job_id}").json["job"]["notBefore"] == due
    reborn.later((datetime.fromisoformat(due) - datetime.now(UTC)).total_seconds())
    assert reborn.claim()["id"] == job_id


def test_a_job_with_a_start_time_waits_for_it(world: Traveller) -> None:
    job_id = world.enqueue(notBefore="2030-01-01T13:00:00.000Z")
    assert world.claim() is None
    world.later(3599)
    assert world.claim() is None
    world.later(1)
    assert world.claim()["id"] == job_id


def test_leases_have_their_full_time_again_after_a_restart(travel: Callable[[], Traveller], world: Traveller) -> None:
    world.enqueue()
    job = world.claim()
    world.clock.tick(timedelta(seconds=LEASE_S - 1))
    reborn = travel()
    assert reborn.later(LEASE_S - 1).expired == 0
    assert reborn.complete(job)["job"]["status"] == "completed"


def test_an_idempotency_key_is_forgotten_after_its_time(world: Traveller) -> None:
    body = {"payload": {"kind": "shell", "command": "true"}}

    def enqueue() -> str:
        answer = world.client.simulate_post("/v1/jobs", json=body, headers={"x-idempotency-key": "k"})
        job: str = answer.json["job"]["id"]
        return job

    first = enqueue()
    world.later(86_400 + 59)
    assert enqueue() == first  # expired, but not purged yet
    world.later(2)
    assert enqueue() != first


def test_a_host_that_loses_five_leases_in_a_row_is_quarantined(world: Traveller) -> None:
    for _ in range(5):
        world.enqueue(labels={"n": "x"})
        assert world.claim() is not None
        world.later(LEASE_S)
        world.heartbeat("k")
        world.post("/v1/jobs/" + world.claim("k")["id"] + "/cancel")
    answer = world.post("/v1/hosts/h/claim")
    assert (answer["job"], answer["reason"]) == (None, "quarantined")
    world.later(600)
    world.enqueue()
    assert world.claim() is not None


def test_a_host_that_registers_again_gets_its_old_jobs_back_in_the_queue_at_once(world: Traveller) -> None:
    kept, lost = world.enqueue(), world.enqueue()
    first, second = world.claim(), world.claim()
    assert (first["id"], second["id"]) == (kept, lost)
    lease = {"jobId": kept, "leaseToken": first["leaseToken"]}
    world.post("/v1/hosts/register", hostId="h", name="h", capabilities=["shell"], maxParallel=4, leases=[lease])
    assert (world.status(kept), world.status(lost)) == ("leased", "queued")
    assert world.heartbeat(leases=[lease, {"jobId": lost, "leaseToken": second["leaseToken"]}])["lost"] == [lost]
    assert world.complete(second, 409)["code"] == "not_leased"

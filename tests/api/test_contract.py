"""The fields that existing clients read and write, route by route: exactly these, with these values."""

import re
from typing import Any

import pytest

from skyclaw.hosting.payloads import Means, timeout_of
from skyclaw.trust.command_policy import look_up
from tests.api.in_process import SHELL, TAG, Client, InProcess, result

NOW = "2023-11-14T22:13:20.000Z"
LEASE_END = "2023-11-14T22:14:20.000Z"
JOB_ID = re.compile(rf"job_{TAG}-[0-9a-f]{{4}}-4[0-9a-f]{{3}}-[0-9a-f]{{4}}-[0-9a-f]{{12}}")

HOST = {
    "id": "h1",
    "name": "h1",
    "capabilities": ["shell"],
    "maxParallel": 4,
    "activeLeases": 0,
    "lastSeenAt": NOW,
    "registeredAt": NOW,
    "updatedAt": NOW,
    "updatedBy": "node-a",
    "version": 1,
    "mode": "active",
    "online": True,
}
QUEUED = {
    "createdAt": NOW,
    "updatedAt": NOW,
    "updatedBy": "node-a",
    "version": 1,
    "status": "queued",
    "attempts": 0,
    "requirement": {"requiredCapabilities": ["shell"]},
    "payload": SHELL,
    "submittedBy": "me",
}
LEASED = {**QUEUED, "version": 2, "status": "leased", "attempts": 1, "assignedHostId": "h1", "leaseExpiresAt": LEASE_END}
RESULT = {"finishedAt": NOW, "durationMs": 12, "exitCode": 0, "stdout": "out", "stderr": "err"}
COMPLETED = {**QUEUED, "version": 3, "status": "completed", "attempts": 1, "assignedHostId": "h1", "result": RESULT}
ASKED = {"payload": SHELL, "requirement": {"requiredCapabilities": ["shell", "shell"]}, "submittedBy": "me"}


def without_id(job: dict[str, Any]) -> dict[str, Any]:
    assert JOB_ID.fullmatch(job["id"])
    return {name: value for name, value in job.items() if name != "id"}


def test_the_life_of_a_job_in_the_fields_of_the_existing_clients(client: Client) -> None:
    registered = client.post("/v1/hosts/register", {"hostId": "h1", "name": " h1 ", "capabilities": ["shell"], "maxParallel": 4})
    assert registered.json == {"host": HOST}
    job = client.post("/v1/jobs", ASKED).json["job"]
    assert without_id(job) == QUEUED
    claimed = client.post("/v1/hosts/h1/claim", {}).json
    token, lease_ms = claimed["job"].pop("leaseToken"), claimed["job"].pop("leaseMs")
    assert without_id(claimed["job"]) == LEASED
    assert (token, lease_ms) == ("0.1.test/3", 60_000)
    assert client.post("/v1/hosts/h1/heartbeat", {"activeLeases": 1}).json == {
        "host": {**HOST, "activeLeases": 1},
        "cancelled": [],
        "lost": [],
    }
    completed = client.post(f"/v1/jobs/{job['id']}/complete", {"hostId": "h1", **result()})
    assert without_id(completed.json["job"]) == COMPLETED
    state = client.get("/v1/state").json
    assert state == {"nodeId": "node-a", "hosts": [HOST], "jobs": [{"id": job["id"], **COMPLETED}], "services": []}


def test_a_claim_without_a_job_is_a_literal_null(client: Client) -> None:
    client.register()
    assert client.post("/v1/hosts/h1/claim").json == {"job": None, "jobs": []}


def test_a_failed_job_shows_its_error_and_result(client: Client) -> None:
    client.register()
    client.enqueue()
    job = client.complete(client.claim(), success=False, exitCode=3, error="it broke", signal="SIGTERM", timedOut=False).json["job"]
    assert (job["status"], job["error"], job["reason"]) == ("failed", "it broke", "failed")
    assert job["result"] == {**RESULT, "exitCode": 3, "signal": "SIGTERM", "timedOut": False}


def test_what_was_asked_beyond_the_usual_is_shown(client: Client) -> None:
    wishes = {
        "priority": 5,
        "notBefore": "2023-11-14T23:00:00.000Z",
        "maxAttempts": 3,
        "timeoutMs": 1000,
        "labels": {"team": "a"},
        "backoff": {"initialMs": 5},
    }
    job = client.enqueue(**wishes)
    shown = {name: job[name] for name in wishes if name != "backoff"}
    assert shown == {name: value for name, value in wishes.items() if name != "backoff"}


def test_what_was_not_asked_is_left_out(client: Client) -> None:
    client.register()
    assert set(client.enqueue()) == {*QUEUED, "id"} - {"submittedBy"}


@pytest.mark.parametrize("not_before", [1_700_000_060_000, "2023-11-14T22:14:20Z", "2023-11-14T23:14:20+01:00"])
def test_a_moment_is_iso_with_a_zone_or_milliseconds(client: Client, not_before: Any) -> None:
    assert client.enqueue(notBefore=not_before)["notBefore"] == "2023-11-14T22:14:20.000Z"


def test_a_moment_that_has_passed_is_at_once(client: Client) -> None:
    client.register()
    assert "notBefore" not in client.enqueue(notBefore="2001-01-01T00:00:00Z")
    assert client.claim()


def test_the_time_limit_in_the_payload_comes_before_the_jobs_own_as_for_the_host_that_runs_it(client: Client) -> None:
    means = Means(look_up([], {}.get, real_path=str, work_roots=[]), "", "", timeout_ms=300_000, max_timeout_ms=3_600_000)
    jobs = [
        client.enqueue(payload={**SHELL, "timeoutMs": 7_000}),
        client.enqueue(payload={**SHELL, "timeoutMs": 7_000}, timeoutMs=9_000),
        client.enqueue(timeoutMs=9_000),
    ]
    assert [job["timeoutMs"] for job in jobs] == [timeout_of(job, means) for job in jobs] == [7_000, 7_000, 9_000]


@pytest.mark.parametrize(
    "payload",
    [
        {"kind": "shell", "command": "bash", "args": ["-lc", "echo é 😀"], "cwd": "sub", "env": {"A": "b", "PATH": "/bin"}, "timeoutMs": 5},
        {"kind": "openclaw-run", "args": ["--help"], "openclawDir": "/x"},
        {"kind": "automaton-run", "args": [], "automatonDir": "/x"},
        {"kind": "something-else", "args": {"not": "a list"}, "deep": [1, 2.5, None, {"a": []}]},
        {"kind": "shell", "command": "x", "unknownField": {"kept": True}},
    ],
)
def test_a_payload_comes_back_as_it_was_sent(client: Client, payload: dict[str, Any]) -> None:
    job = client.enqueue(payload=payload)
    assert job["payload"] == payload
    assert client.get(f"/v1/jobs/{job['id']}").json["job"]["payload"] == payload


def test_answers_are_pretty_printed_json_in_utf_8(client: Client) -> None:
    answer = client.get("/v1/hosts")
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.text == '{\n  "hosts": []\n}'


def test_a_host_without_an_id_gets_one(client: Client) -> None:
    host = client.post("/v1/hosts/register", {"name": "n"}).json["host"]
    assert re.fullmatch(r"host_[0-9a-f-]{36}", host["id"])
    assert (host["capabilities"], host["maxParallel"]) == ([], 1)


def test_health_is_open_and_says_how_the_coordinator_is(inside: InProcess) -> None:
    answer = Client(inside, tokens=("secret",)).get("/health")
    assert answer.json == {"ok": True, "nodeId": "node-a", "log": TAG, "ready": True, "degraded": [], "version": "0.1.0"}

"""The routes about hosts, in front of the real queue."""

from dataclasses import replace
from typing import Any

import pytest
from falcon import testing

from api.app import create_app
from api.parts import HealthSeen, Parts
from tests.api.in_process import TAG, Client, InProcess, result

NOBODY = f"job_{TAG}-0000-4000-8000-000000000000"


def results(client: Client, *told: dict[str, Any], **headers: str) -> Any:
    return client.expect(200, client.post("/v1/hosts/h1/results", {"results": list(told)}, **headers))["results"]


def test_hosts_are_listed_and_found(client: Client) -> None:
    first, second = client.register("h1", labels={"zone": "a"}), client.register("h2", capabilities=["b", "a"])
    assert client.get("/v1/hosts").json == {"hosts": [first, second]}
    assert client.get("/v1/hosts/h1").json == {"host": first}
    assert first["labels"] == {"zone": "a"}
    assert second["capabilities"] == ["a", "b"]


@pytest.mark.parametrize("host_id", ["h9", "..", "a" * 200, "%e2%80%ae"])
def test_an_unknown_host_is_told_to_register(client: Client, host_id: str) -> None:
    for answer in (
        client.get(f"/v1/hosts/{host_id}"),
        *(client.post(f"/v1/hosts/{host_id}/{verb}") for verb in ("heartbeat", "claim", "drain")),
    ):
        assert (answer.status, answer.json["code"]) == (404, "unknown_host")
        assert answer.json["error"].startswith("unknown host: ")
        assert answer.text.isascii()


def test_a_host_that_registers_again_loses_the_leases_it_does_not_list(client: Client) -> None:
    client.register()
    kept, lost = client.enqueue(), client.enqueue()
    held = client.post("/v1/hosts/h1/claim", {"max": 2}).json["jobs"]
    host = client.register(leases=[{"jobId": kept["id"], "leaseToken": held[0]["leaseToken"]}])
    assert (host["version"], host["activeLeases"]) == (2, 1)
    assert client.get(f"/v1/jobs/{lost['id']}").json["job"]["status"] == "queued"
    assert client.get(f"/v1/jobs/{kept['id']}").json["job"]["status"] == "leased"


def test_a_heartbeat_says_what_was_cancelled_and_what_is_lost(client: Client, inside: InProcess) -> None:
    client.register()
    for _ in range(3):
        client.enqueue()
    held = [{"jobId": job["id"], "leaseToken": job["leaseToken"]} for job in client.post("/v1/hosts/h1/claim", {"max": 3}).json["jobs"]]
    client.post(f"/v1/jobs/{held[0]['jobId']}/cancel")
    client.post(f"/v1/jobs/{held[1]['jobId']}/release", {"hostId": "h1"})
    inside.pass_time(5_000)
    answer = client.post("/v1/hosts/h1/heartbeat", {"leases": held, "load": {"cpu": 0.5, "jobs": 3}}).json
    assert (answer["cancelled"], answer["lost"]) == ([held[0]["jobId"]], [held[1]["jobId"]])
    assert (answer["host"]["activeLeases"], answer["host"]["lastSeenAt"]) == (1, "2023-11-14T22:13:25.000Z")


def test_a_host_gets_no_work_while_it_is_paused_or_drained(client: Client) -> None:
    client.register()
    client.enqueue()
    for verb, mode in (("pause", "paused"), ("drain", "draining")):
        assert client.post(f"/v1/hosts/h1/{verb}", {}).json["host"]["mode"] == mode
        assert client.post("/v1/hosts/h1/claim", {"waitMs": 30_000}).json == {"job": None, "jobs": [], "reason": mode}
        assert client.post("/v1/hosts/h1/resume").json["host"]["mode"] == "active"
    assert client.claim()


def test_a_quarantined_host_is_told_so(client: Client, inside: InProcess) -> None:
    client.register()
    for _ in range(5):
        client.enqueue(payload={"kind": "openclaw-run"})
        client.claim()
        inside.pass_time(60_001)
    client.enqueue()
    assert client.post("/v1/hosts/h1/claim", {}).json["reason"] == "quarantined"
    assert client.get("/v1/hosts/h1").json["host"]["mode"] == "quarantined"


def test_a_silent_host_is_shown_as_offline(client: Client, inside: InProcess) -> None:
    client.register()
    inside.pass_time(16_000)
    assert client.get("/v1/hosts/h1").json["host"]["online"] is False


def test_several_results_are_taken_or_refused_one_by_one(client: Client) -> None:
    client.register()
    first, second = client.enqueue(), client.enqueue(maxAttempts=2)
    client.post("/v1/hosts/h1/claim", {"max": 2})
    told = [
        {"jobId": first["id"], **result()},
        {"jobId": NOBODY, **result()},
        {"jobId": second["id"], **result(success=False, exitCode=1)},
        {"jobId": second["id"], **result()},
    ]
    assert results(client, *told) == [
        {"jobId": first["id"], "ok": True, "status": "completed"},
        {"jobId": NOBODY, "ok": False, "code": "unknown_job", "error": f"unknown job: {NOBODY}"},
        {"jobId": second["id"], "ok": True, "status": "queued"},
        {"jobId": second["id"], "ok": False, "code": "not_leased", "error": f"job {second['id']} is assigned to nobody"},
    ]


def test_results_of_an_unknown_host_are_refused(client: Client) -> None:
    answer = client.post("/v1/hosts/h9/results", {"results": [{"jobId": NOBODY, **result()}]})
    assert (answer.status, answer.json["code"]) == (404, "unknown_host")


@pytest.mark.parametrize("given", [None, [], {}, [{}] * 257])
def test_results_are_a_list_of_one_to_256(client: Client, given: Any) -> None:
    client.register()
    assert client.post("/v1/hosts/h1/results", {"results": given}).status == 400


def test_the_coordinator_may_say_how_often_it_wants_to_hear_of_hosts(inside: InProcess) -> None:
    parts = Parts(inside, inside.archive, "n", TAG, (), lambda: 0, lambda: HealthSeen(ok=True, ready=True))
    answers = [
        testing.TestClient(create_app(replace(parts, heartbeat_ms=ms))).simulate_post("/v1/hosts/register", json={"name": "n"}).json
        for ms in (None, 2000)
    ]
    assert [answer.get("heartbeatMs") for answer in answers] == [None, 2000]

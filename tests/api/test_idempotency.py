"""The same key with the same request has one effect and one answer; with another request it is refused."""

from typing import Any

import pytest

from tests.api.in_process import SHELL, Client, InProcess, result

KEY = {"x_idempotency_key": "k1"}


def counts(inside: InProcess) -> int:
    return len(inside.records)


def test_a_job_is_accepted_once_whatever_the_order_of_its_fields(client: Client, inside: InProcess) -> None:
    client.register()
    first = client.post("/v1/jobs", {"payload": {"kind": "shell", "command": "x"}, "priority": 1}, **KEY)
    before = counts(inside)
    again = client.post("/v1/jobs", b' {"priority":1, "payload":{"command":"x","kind":"shell"}}', **KEY)
    assert (again.status, again.json) == (200, first.json)
    assert counts(inside) == before


def test_the_answer_is_the_one_that_was_given_then(client: Client) -> None:
    client.register()
    first = client.post("/v1/jobs", {"payload": SHELL}, **KEY)
    client.post(f"/v1/jobs/{first.json['job']['id']}/cancel")
    assert client.post("/v1/jobs", {"payload": SHELL}, **KEY).json == first.json


def test_another_body_under_the_same_key_is_refused(client: Client) -> None:
    client.post("/v1/jobs", {"payload": SHELL}, **KEY)
    answer = client.post("/v1/jobs", {"payload": SHELL, "priority": 1}, **KEY)
    assert (answer.status, answer.json["code"]) == (409, "idempotency_conflict")
    assert answer.json["error"] == "idempotency key reuse conflict for route /v1/jobs"


def test_the_order_in_a_list_is_part_of_the_request(client: Client) -> None:
    client.post("/v1/jobs", {"payload": {**SHELL, "args": ["a", "b"]}}, **KEY)
    assert client.post("/v1/jobs", {"payload": {**SHELL, "args": ["b", "a"]}}, **KEY).status == 409


def test_a_key_counts_for_one_path_only(client: Client) -> None:
    jobs = [client.enqueue()["id"], client.enqueue()["id"]]
    for job in jobs:
        assert client.post(f"/v1/jobs/{job}/cancel", {}, **KEY).status == 200


def test_a_batch_is_accepted_once(client: Client, inside: InProcess) -> None:
    client.register()
    body = {"jobs": [{"payload": SHELL}] * 3}
    first = client.post("/v1/jobs/batch", body, **KEY)
    before = counts(inside)
    assert client.post("/v1/jobs/batch", body, **KEY).json == first.json
    assert counts(inside) == before


def test_a_claim_is_answered_with_the_same_leases(client: Client) -> None:
    client.register()
    client.enqueue()
    client.enqueue()
    first = client.post("/v1/hosts/h1/claim", {"max": 1}, **KEY)
    assert first.json["job"]["leaseToken"]
    assert client.post("/v1/hosts/h1/claim", {"max": 1}, **KEY).json == first.json


def test_a_result_is_answered_with_the_job_as_it_was_then(client: Client) -> None:
    client.register()
    client.enqueue(maxAttempts=2)
    job = client.claim()
    path, body = f"/v1/jobs/{job['id']}/complete", {"hostId": "h1", **result(success=False, exitCode=1)}
    first = client.post(path, body, **KEY)
    assert first.json["job"]["status"] == "queued"
    assert client.post(path, body).status == 409
    assert client.post(path, body, **KEY).json == first.json


def test_several_results_are_answered_again_as_they_were(client: Client, inside: InProcess) -> None:
    client.register()
    jobs = [client.enqueue(maxAttempts=2)["id"], client.enqueue()["id"]]
    client.post("/v1/hosts/h1/claim", {"max": 2})
    unknown = jobs[0][:-4] + "0000"
    told = [{"jobId": jobs[0], **result(success=False, exitCode=1)}, {"jobId": jobs[1], **result()}, {"jobId": unknown, **result()}]
    first = client.post("/v1/hosts/h1/results", {"results": told}, **KEY)
    assert [one.get("status") for one in first.json["results"]] == ["queued", "completed", None]
    inside.pass_time(5_000)
    client.claim()
    before = counts(inside)
    assert client.post("/v1/hosts/h1/results", {"results": told}, **KEY).json == first.json
    assert counts(inside) == before


def test_results_that_were_refused_are_refused_again(client: Client) -> None:
    client.register()
    queued, leased = client.enqueue()["id"], client.enqueue(priority=1)["id"]
    client.claim()
    told = [{"jobId": queued, **result()}, {"jobId": leased, "leaseToken": "old", **result()}]
    first = client.post("/v1/hosts/h1/results", {"results": told}, **KEY)
    assert [one["code"] for one in first.json["results"]] == ["not_leased", "stale_attempt"]
    assert client.post("/v1/hosts/h1/results", {"results": told}, **KEY).json == first.json


def test_a_result_of_another_hosts_job_is_refused_again(client: Client) -> None:
    client.register("h1")
    client.register("h2")
    job = client.enqueue()["id"]
    client.claim("h1")
    told = {"results": [{"jobId": job, **result()}]}
    first = client.post("/v1/hosts/h2/results", told, **KEY)
    assert first.json["results"][0]["code"] == "stale_attempt"
    assert client.post("/v1/hosts/h2/results", told, **KEY).json == first.json


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/hosts/register", {"hostId": "h1", "name": "other"}),
        ("/v1/hosts/h1/pause", {}),
        ("/v1/hosts/h1/heartbeat", {"leases": []}),
    ],
)
def test_a_host_is_shown_as_it_is_now(client: Client, inside: InProcess, path: str, body: Any) -> None:
    client.register()
    first = client.post(path, body, **KEY)
    before = counts(inside)
    assert client.post(path, body, **KEY).json == first.json
    assert counts(inside) == before
    assert client.post(path, {**body, "labels": {}}, **KEY).status in (400, 409)


def test_what_was_refused_leaves_the_key_free(client: Client) -> None:
    assert client.post("/v1/jobs", {"payload": {}}, **KEY).status == 400
    assert client.post("/v1/jobs", {"payload": SHELL}, **KEY).status == 200


@pytest.mark.parametrize("key", ["", "a" * 256, "a b", "é", "a\x00", "a\tb"])
def test_a_bad_key_is_refused(client: Client, key: str) -> None:
    answer = client.post("/v1/jobs", {"payload": SHELL}, x_idempotency_key=key)
    assert (answer.status, answer.json["code"]) == (400, "bad_idempotency_key")


def test_a_key_of_255_characters_is_taken(client: Client) -> None:
    assert client.post("/v1/jobs", {"payload": SHELL}, x_idempotency_key="~" * 255).status == 200

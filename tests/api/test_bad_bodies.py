"""Bad bodies get 400 with the field's name, whatever is wrong with them, and change nothing."""

import json
from typing import Any

import pytest

from tests.api.in_process import SHELL, Client, InProcess, result

REGISTER = {"hostId": "h1", "name": "n"}
LEASE = {"jobId": "job_00000000-0000-4000-8000-000000000000", "leaseToken": "t"}


def job(**fields: Any) -> dict[str, Any]:
    return {"payload": SHELL, **fields}


def shell(**fields: Any) -> dict[str, Any]:
    return {"payload": {**SHELL, **fields}}


def capable(names: Any) -> dict[str, Any]:
    return job(requirement={"requiredCapabilities": names})


BAD_JOBS: list[tuple[Any, str]] = [
    ({}, "payload"),
    ({"payload": None}, "payload"),
    ({"payload": "shell"}, "payload"),
    ({"payload": []}, "payload"),
    ({"payload": {}}, "payload.kind"),
    ({"payload": {"kind": "SHELL"}}, "payload.kind"),
    ({"payload": {"kind": 1}}, "payload.kind"),
    ({"payload": {"kind": None}}, "payload.kind"),
    ({"payload": {"kind": ["shell"]}}, "payload.kind"),
    ({"payload": {"kind": "a" * 65}}, "payload.kind"),
    ({"payload": {"kind": ".a"}}, "payload.kind"),
    ({"payload": {"kind": "_a"}}, "payload.kind"),
    ({"payload": {"kind": "a/b"}}, "payload.kind"),
    ({"payload": {"kind": "a.b\n"}}, "payload.kind"),
    ({"payload": {"kind": "shell"}}, "payload.command"),
    (shell(command=""), "payload.command"),
    (shell(command=["ls"]), "payload.command"),
    (shell(cwd=1), "payload.cwd"),
    (shell(args="x"), "payload.args"),
    (shell(args=["x", 1]), "payload.args.1"),
    (shell(args=[None]), "payload.args.0"),
    (shell(args=["x"] * 1025), "payload.args"),
    (shell(env=[]), "payload.env"),
    (shell(env={"A=B": "x"}), "payload.env"),
    (shell(env={"": "x"}), "payload.env"),
    (shell(env={"LD_PRELOAD": "x"}), "payload.env"),
    (shell(env={"DYLD_INSERT_LIBRARIES": "x"}), "payload.env"),
    (shell(env={"SKYCLAW_TOKEN": "x"}), "payload.env"),
    (shell(env={"1X": "x"}), "payload.env"),
    (shell(env={"X": 1}), "payload.env.X"),
    (shell(timeoutMs=0), "payload.timeoutMs"),
    (shell(timeoutMs="5"), "payload.timeoutMs"),
    (shell(timeoutMs=None), "payload.timeoutMs"),
    (shell(timeoutMs=True), "payload.timeoutMs"),
    (capable("shell"), "requirement.requiredCapabilities"),
    (capable([f"c{n}" for n in range(65)]), "requirement.requiredCapabilities"),
    (capable([""]), "requirement.requiredCapabilities"),
    (capable(["a" * 65]), "requirement.requiredCapabilities"),
    (capable(["Shell "]), "requirement.requiredCapabilities"),
    (capable([1]), "requirement.requiredCapabilities"),
    (job(requirement=[]), "requirement"),
    (job(requirement={"caps": []}), "requirement.caps"),
    (job(submittedBy=1), "submittedBy"),
    (job(submittedBy="a\nb"), "submittedBy"),
    (job(priority=1001), "priority"),
    (job(priority=1.0), "priority"),
    (job(priority=False), "priority"),
    (job(notBefore="tomorrow"), "notBefore"),
    (job(notBefore="2026-01-01T00:00:00"), "notBefore"),
    (job(notBefore="1969-01-01T00:00:00Z"), "notBefore"),
    (job(notBefore=-1), "notBefore"),
    (job(notBefore=1.5), "notBefore"),
    (job(notBefore=10**15), "notBefore"),
    (job(maxAttempts=0), "maxAttempts"),
    (job(maxAttempts=101), "maxAttempts"),
    (job(maxAttempts=None), "maxAttempts"),
    (job(backoff=5), "backoff"),
    (job(backoff={"initialMs": -1}), "backoff.initialMs"),
    (job(backoff={"factor": 2}), "backoff.factor"),
    (job(timeoutMs=86_400_001), "timeoutMs"),
    (job(labels=["a"]), "labels"),
    (job(labels={"a b": "x"}), "labels"),
    (job(labels={"a": 1}), "labels.a"),
    (job(labels={"a": "x" * 257}), "labels.a"),
    (job(labels={f"l{n}": "x" for n in range(33)}), "labels"),
    (job(unknown=1), "unknown"),
]
BAD_HOSTS: list[tuple[Any, str]] = [
    ({}, "name"),
    ({"name": ""}, "name"),
    ({"name": " \u00a0"}, "name"),
    ({"name": None}, "name"),
    ({"name": 1}, "name"),
    ({"name": "a" * 129}, "name"),
    ({"name": "a\nb"}, "name"),
    ({"name": "a\u202eb"}, "name"),
    ({"name": "a\u2066b"}, "name"),
    ({**REGISTER, "hostId": ""}, "hostId"),
    ({**REGISTER, "hostId": "a/b"}, "hostId"),
    ({**REGISTER, "hostId": "a" * 129}, "hostId"),
    ({**REGISTER, "hostId": None}, "hostId"),
    ({**REGISTER, "maxParallel": 0}, "maxParallel"),
    ({**REGISTER, "maxParallel": -1}, "maxParallel"),
    ({**REGISTER, "maxParallel": 10**9}, "maxParallel"),
    ({**REGISTER, "maxParallel": 1.5}, "maxParallel"),
    ({**REGISTER, "maxParallel": "1_0"}, "maxParallel"),
    ({**REGISTER, "capabilities": "shell"}, "capabilities"),
    ({**REGISTER, "capabilities": ["a b"]}, "capabilities"),
    ({**REGISTER, "labels": {"a": None}}, "labels.a"),
    ({**REGISTER, "leases": {}}, "leases"),
    ({**REGISTER, "leases": [{}]}, "leases.0"),
    ({**REGISTER, "leases": [{**LEASE, "jobId": "x"}]}, "leases.0.jobId"),
    ({**REGISTER, "leases": [{**LEASE, "leaseToken": ""}]}, "leases.0.leaseToken"),
    ({**REGISTER, "token": "x"}, "token"),
]
BAD_HEARTBEATS: list[tuple[Any, str]] = [
    ({"activeLeases": -1}, "activeLeases"),
    ({"activeLeases": 1e9}, "activeLeases"),
    ({"activeLeases": 10**9}, "activeLeases"),
    ({"activeLeases": "3"}, "activeLeases"),
    ({"leases": "x"}, "leases"),
    ({"leases": [1]}, "leases.0"),
    ({"load": 1}, "load"),
    ({"load": {"cpu": "high"}}, "load.cpu"),
    ({"load": {f"l{n}": 1 for n in range(33)}}, "load"),
    ({"unknown": 1}, "unknown"),
]
BAD_CLAIMS: list[tuple[Any, str]] = [
    ({"waitMs": -1}, "waitMs"),
    ({"waitMs": 30_001}, "waitMs"),
    ({"waitMs": "5"}, "waitMs"),
    ({"max": 0}, "max"),
    ({"max": 257}, "max"),
    ({"claimId": ""}, "claimId"),
    ({"claimId": "a b"}, "claimId"),
    ({"claimId": 5}, "claimId"),
    ({"unknown": 1}, "unknown"),
]
BAD_RESULTS: list[tuple[Any, str]] = [
    (result(exitCode=2**40), "exitCode"),
    (result(exitCode="0"), "exitCode"),
    (result(exitCode=None), "exitCode"),
    (result(durationMs=-5), "durationMs"),
    (result(durationMs=1.5), "durationMs"),
    (result(success="yes"), "success"),
    (result(success=1), "success"),
    (result(success=None), "success"),
    (result(stdout=None), "stdout"),
    (result(stderr=5), "stderr"),
    (result(error=5), "error"),
    (result(leaseToken="a b"), "leaseToken"),
    (result(leaseToken=5), "leaseToken"),
    (result(artifact="\ud800"), "body"),
    ({name: value for name, value in result().items() if name != "exitCode"}, "exitCode"),
]


def refused(client: Client, path: str, body: Any, field: str) -> None:
    before = len(client.inside.records)
    answer = client.post(path, body)
    assert answer.status == 400, answer.text
    assert answer.json["code"] == "invalid"
    assert field in answer.json["details"], answer.text
    assert len(answer.text) < 1000
    assert len(client.inside.records) == before


@pytest.mark.parametrize(("body", "field"), BAD_JOBS)
def test_a_bad_job_is_refused(client: Client, body: Any, field: str) -> None:
    refused(client, "/v1/jobs", body, field)


@pytest.mark.parametrize(("body", "field"), BAD_JOBS)
def test_a_bad_job_spoils_its_batch(client: Client, body: Any, field: str) -> None:
    refused(client, "/v1/jobs/batch", {"jobs": [job(), body]}, f"jobs.1.{field}")


@pytest.mark.parametrize("jobs", [None, [], {}, [5], "x", [{"payload": SHELL}] * 1001])
def test_a_batch_is_a_list_of_jobs(client: Client, jobs: Any) -> None:
    answer = client.post("/v1/jobs/batch", {"jobs": jobs})
    assert (answer.status, answer.json["code"]) == (400, "invalid")
    assert next(iter(answer.json["details"])).startswith("jobs")


@pytest.mark.parametrize(("body", "field"), BAD_HOSTS)
def test_a_bad_registration_is_refused(client: Client, body: Any, field: str) -> None:
    refused(client, "/v1/hosts/register", body, field)


@pytest.mark.parametrize(("body", "field"), BAD_HEARTBEATS)
def test_a_bad_heartbeat_is_refused(client: Client, body: Any, field: str) -> None:
    client.register()
    refused(client, "/v1/hosts/h1/heartbeat", body, field)


@pytest.mark.parametrize(("body", "field"), BAD_CLAIMS)
def test_a_bad_claim_is_refused(client: Client, body: Any, field: str) -> None:
    client.register()
    refused(client, "/v1/hosts/h1/claim", body, field)


@pytest.mark.parametrize(("body", "field"), BAD_RESULTS)
def test_a_bad_result_is_refused(client: Client, body: Any, field: str) -> None:
    client.register()
    client.enqueue()
    path = f"/v1/jobs/{client.claim()['id']}/complete"
    refused(client, path, {"hostId": "h1", **body}, field)
    client.expect(200, client.post(path, {"hostId": "h1", **result()}))


@pytest.mark.parametrize(("body", "field"), BAD_RESULTS)
def test_a_bad_result_spoils_its_batch(client: Client, body: Any, field: str) -> None:
    client.register()
    inner = "results.1" if field == "body" else f"results.1.{field}"
    good, bad = ({"jobId": LEASE["jobId"], **one} for one in (result(), body))
    refused(client, "/v1/hosts/h1/results", {"results": [good, bad]}, inner)


@pytest.mark.parametrize("host_id", [None, 5, "", "a b", "a" * 129])
def test_a_result_names_its_host(client: Client, host_id: Any) -> None:
    refused(client, f"/v1/jobs/{LEASE['jobId']}/complete", {"hostId": host_id, **result()}, "hostId")
    refused(client, f"/v1/jobs/{LEASE['jobId']}/release", {"hostId": host_id}, "hostId")


@pytest.mark.parametrize("path", ["/v1/hosts/h1/drain", "/v1/hosts/h1/pause", "/v1/hosts/h1/resume", f"/v1/jobs/{LEASE['jobId']}/cancel"])
def test_an_order_has_nothing_to_say(client: Client, path: str) -> None:
    client.register()
    refused(client, path, {"force": True}, "force")


@pytest.mark.parametrize("body", [{}, {"name": ""}])
def test_a_missing_name_is_told_in_the_usual_words(client: Client, body: Any) -> None:
    assert client.post("/v1/hosts/register", body).json["error"] == "name is required"


def test_what_was_sent_is_repeated_shortened_and_escaped(client: Client) -> None:
    answer = client.post("/v1/jobs", {"payload": {"kind": "\x1b]0;\u202e" + "A" * 5000}, "\x1b" * 900: 1})
    assert "\x1b" not in answer.text
    assert answer.text.isascii()
    assert "A" * 65 not in answer.text
    assert len(answer.text) < 1500


def test_twice_the_same_capability_is_once(client: Client) -> None:
    assert client.enqueue(requirement={"requiredCapabilities": ["b", "a", "b"]})["requirement"] == {"requiredCapabilities": ["a", "b"]}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{} x",
        b'{"a":NaN}',
        b'{"a":1e999}',
        b"\xff",
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'{"a":"\\ud800"}',
        b'{"a":1,"a":1}',
        b"[]",
        b"5",
    ],
)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/hosts/register", "/v1/hosts/h1/heartbeat", "/v1/hosts/h1/claim", "/v1/jobs/batch"])
def test_what_is_not_a_json_object_is_refused(client: Client, path: str, body: bytes) -> None:
    answer = client.post(path, body)
    assert (answer.status, answer.json["code"]) == (400, "invalid_json")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "", "application/json; charset=latin-1", "application/jsonx", "multipart/form-data"]
)
def test_a_body_of_another_type_is_refused(client: Client, content_type: str) -> None:
    answer = client.post("/v1/jobs", job(), content_type=content_type)
    assert (answer.status, answer.json["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON", "application/json; charset=utf-8", 'application/json;charset="UTF-8"']
)
def test_json_in_utf_8_is_taken_however_it_is_written(client: Client, content_type: str) -> None:
    client.expect(200, client.post("/v1/jobs", job(), content_type=content_type))


def test_a_compressed_body_is_refused(client: Client) -> None:
    assert client.post("/v1/jobs", job(), content_encoding="gzip").status == 415


def test_an_empty_body_needs_no_type(client: Client) -> None:
    client.register()
    assert client.post("/v1/hosts/h1/heartbeat", None, content_type="").status == 200


def test_sizes_are_limited(client: Client) -> None:
    client.register()
    assert client.post("/v1/jobs", b" " * (1024 * 1024 + 1)).json["code"] == "payload_too_large"
    assert client.post("/v1/hosts/h1/results", b" " * (4 * 1024 * 1024 + 1)).status == 413
    assert client.post("/v1/jobs", b" " * 1024 * 1024).json["code"] == "invalid_json"


def test_outputs_may_hold_whatever_a_program_prints(client: Client, inside: InProcess) -> None:
    client.register()
    client.enqueue()
    text = "x" * 2_000_000 + "\x00\x1b\ud83d"
    body = {"hostId": "h1", **result(stdout=text, stderr="\udc00")}
    answer = client.post(f"/v1/jobs/{client.claim()['id']}/complete", json.dumps(body).encode())
    shown = client.expect(200, answer)["job"]["result"]
    assert shown["stdout"] == text[:-1] + "\ufffd"
    assert shown["stderr"] == "\ufffd"


@pytest.mark.parametrize(("size", "kept"), [(4096, "é" * 4096), (4097, "é" * 4090 + " [cut]"), (200_000, "é" * 4090 + " [cut]")])
def test_the_error_of_an_attempt_is_cut_where_it_is_too_long(client: Client, size: int, kept: str) -> None:
    client.register()
    client.enqueue()
    answer = client.complete(client.claim(), success=False, exitCode=1, error="é" * size)
    assert client.expect(200, answer)["job"]["error"] == kept


@pytest.mark.parametrize("more", [0, 1, 40_000])
def test_what_a_host_adds_to_a_result_is_dropped_where_it_is_too_long(client: Client, more: int) -> None:
    client.register()
    client.enqueue()
    detail = {"signal": "SIGKILL", "artifact": ""}
    detail["artifact"] = "x" * (16_384 - len(json.dumps(detail, separators=(",", ":"))) + more)
    shown = client.expect(200, client.complete(client.claim(), **detail))["job"]["result"]
    added = {name: value for name, value in shown.items() if name not in {"finishedAt", "durationMs", "exitCode", "stdout", "stderr"}}
    assert added == (detail if more == 0 else {"detailDropped": True})


@pytest.mark.parametrize("more", [{"error": "e" * 5000}, {"artifact": "x" * 20_000}])
def test_a_result_among_several_is_cut_too(client: Client, more: dict[str, Any]) -> None:
    client.register()
    job_id = client.enqueue()["id"]
    client.claim()
    told = {"results": [{"jobId": job_id, **result(success=False), **more}]}
    assert client.expect(200, client.post("/v1/hosts/h1/results", told))["results"][0]["ok"]
    shown = client.get(f"/v1/jobs/{job_id}").json["job"]
    assert shown.get("error", "").endswith("[cut]") or shown["result"]["detailDropped"]


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("/v1/jobs", {}, "payload is required"),
        ("/v1/jobs", {"payload": None}, "payload is required"),
        ("/v1/jobs", {"payload": {}}, "payload is required"),
        ("/v1/jobs/batch", {"jobs": [{"payload": None}]}, "jobs.0.payload is required"),
        ("/v1/hosts/register", {}, "name is required"),
        ("/v1/hosts/register", {"name": None}, "name is required"),
        ("/v1/hosts/register", {"name": " "}, "name is required"),
    ],
)
def test_null_is_missing_where_something_is_required(client: Client, path: str, body: Any, sentence: str) -> None:
    answer = client.post(path, body)
    assert (answer.status, answer.json["error"]) == (400, sentence)


@pytest.mark.parametrize("kind", ["a", "a_b", "a.b-c", "a" * 64, "v1.2_3"])
def test_a_kind_that_is_not_known_may_have_points_and_underscores(client: Client, kind: str) -> None:
    assert client.enqueue(payload={"kind": kind})["payload"] == {"kind": kind}


def test_a_failed_attempt_without_an_exit_code_has_exit_code_one(client: Client) -> None:
    client.register()
    client.enqueue()
    assert client.complete(client.claim(), success=False, exitCode=None).json["job"]["result"]["exitCode"] == 1

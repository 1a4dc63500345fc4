"""What hosts say about services, and hear of them: those of the TypeScript version, and ours."""

from typing import Any

import pytest

from tests.api.in_process import START, TAG, Client, InProcess
from tests.api.service_talk import WEB, assignment, deploy, managed, run, sync, unmanaged

SOMEBODY = "ins_5eed5eed-0000-4000-8000-000000000000"
ELSEWHERE = "ins_aaaaaaaa-0000-4000-8000-000000000000"
NOW = "2023-11-14T22:13:20.000Z"


def claim(client: Client, host_id: str = "h1") -> Any:
    return client.expect(200, client.post(f"/v1/hosts/{host_id}/services/claim", {}))["service"]


def report(client: Client, status: str = "running", service: str = "web", host_id: str = "h1", **fields: Any) -> Any:
    return client.post(f"/v1/services/{service}/report", {"hostId": host_id, "status": status, **fields})


# Hosts of the TypeScript version


def test_a_host_that_asks_for_a_service_gets_none_where_there_is_none(client: Client, inside: InProcess) -> None:
    unmanaged(client)
    before = len(inside.records)
    for body in (None, {}):
        answer = client.post("/v1/hosts/h1/services/claim", body)
        assert (answer.status, answer.json) == (200, {"service": None})
    assert len(inside.records) == before


def test_the_round_trip_of_a_host_of_the_typescript_version(client: Client) -> None:
    unmanaged(client)
    deploy(client, args=["-p"], env={"A": "canary"}, cwd="sub")
    service = claim(client)
    told = {name: service[name] for name in ("name", "command", "args", "env", "cwd", "replicas", "requiredCapabilities", "status")}
    assert told == {
        "name": "web",
        "command": "serve",
        "args": ["-p"],
        "env": {"A": "canary"},
        "cwd": "sub",
        "replicas": 1,
        "requiredCapabilities": ["service-host"],
        "status": "pending",
    }
    answer = report(client, service=service["id"], endpoint="http://10.0.0.7:3100")
    assert answer.json["service"]["env"] == {"A": "***"}
    [assigned] = answer.json["service"]["assignments"]
    del assigned["instanceId"]
    expected = {"hostId": "h1", "status": "running", "endpoint": "http://10.0.0.7:3100", "startedAt": NOW, "updatedAt": NOW, "revision": 1}
    assert assigned == expected
    assert claim(client)["id"] == service["id"]


def test_a_report_without_an_endpoint_clears_it(client: Client) -> None:
    unmanaged(client)
    deploy(client)
    claim(client)
    report(client, endpoint="http://10.0.0.7:3100")
    report(client)
    assert "endpoint" not in assignment(client)


def test_a_service_that_failed_shows_why(client: Client) -> None:
    unmanaged(client)
    deploy(client)
    claim(client)
    answer = report(client, "failed", error="service process exited with code 1")
    service = answer.json["service"]
    assert service["status"] == "failed"
    [assigned] = service["assignments"]
    assert (assigned["status"], assigned["error"], assigned["hostId"]) == ("failed", "service process exited with code 1", "h1")


def test_only_the_host_that_runs_a_service_reports_about_it(client: Client) -> None:
    unmanaged(client)
    service = deploy(client)
    client.register("h2")
    answer = report(client, host_id="h2", service=service["id"])
    assert (answer.status, answer.json["code"]) == (409, "not_assigned")
    assert answer.json["error"] == f"service {service['id']} is not assigned to host h2"
    answer = report(client, service="gone")
    assert (answer.status, answer.json["error"]) == (404, "unknown service: gone")
    assert report(client, host_id="h9").json["code"] == "unknown_host"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"status": "running"}, "hostId is required"),
        ({"hostId": "h1"}, "status is required"),
        ({"hostId": "h1", "status": "ended"}, "status must be one of pending, running, failed"),
        ({"hostId": "h1", "status": []}, "status must be one of"),
        ({"hostId": "h1", "status": "running", "endpoint": 5}, "endpoint must be an address"),
        ({"hostId": "h1", "status": "running", "port": 5}, "port is not a field"),
    ],
)
def test_a_report_of_another_form_is_refused(client: Client, body: Any, sentence: str) -> None:
    unmanaged(client)
    deploy(client)
    answer = client.post("/v1/services/web/report", body)
    assert (answer.status, answer.json["error"][: len(sentence)]) == (400, sentence)


@pytest.mark.parametrize("path", ["services/claim", "services/sync"])
@pytest.mark.parametrize("host_id", ["h9", "a" * 200])
def test_an_unknown_host_is_told_to_register(client: Client, host_id: str, path: str) -> None:
    answer = client.post(f"/v1/hosts/{host_id}/{path}", {} if path.endswith("claim") else {"instances": []})
    assert (answer.status, answer.json["code"]) == (404, "unknown_host")


def test_a_claim_says_nothing_more(client: Client) -> None:
    unmanaged(client)
    assert client.post("/v1/hosts/h1/services/claim", {"max": 1}).json["details"] == {"max": ["is not a field of this request"]}


# Hosts of ours


def test_a_host_hears_what_it_is_to_run(client: Client) -> None:
    managed(client)
    service = deploy(client, args=["a"], health={"path": "/up"}, drainMs=7)
    heard = sync(client)
    [instance] = heard.pop("instances")
    assert instance.pop("instanceId").startswith(f"ins_{TAG}-")
    assert instance == {
        "serviceId": service["id"],
        "name": "web",
        "revision": 1,
        "command": "serve",
        "args": ["a"],
        "env": {},
        "health": {"path": "/up", "timeoutMs": 30_000},
        "drainMs": 7,
        "state": "run",
        "outputAt": 0,
    }
    assert len(heard.pop("digest")) == 8
    assert heard == {"stop": [], "logs": [TAG], "leaseMs": 15_000}


def test_an_instance_is_told_what_its_own_revision_is(client: Client) -> None:
    managed(client)
    client.register("h2", capabilities=["service-host"], labels={"services": "16"})
    deploy(client, args=["old"], env={"A": "old"})
    former = next(host_id for host_id in ("h1", "h2") if sync(client, host_id=host_id)["instances"])
    run(client, former)
    deploy(client, args=["new"])
    heard = [one for host_id in ("h1", "h2") for one in sync(client, host_id=host_id)["instances"]]
    assert {one["revision"]: (one["args"], one["env"], one["state"]) for one in heard} == {
        1: (["old"], {"A": "old"}, "run"),
        2: (["new"], {}, "run"),
    }


def test_heartbeats_and_claims_say_when_something_else_is_wanted(client: Client) -> None:
    managed(client)
    assert "services" not in client.post("/v1/hosts/h1/heartbeat", {}).json
    assert "services" not in client.post("/v1/hosts/h1/claim", {}).json
    deploy(client)
    digest = sync(client)["digest"]
    assert client.post("/v1/hosts/h1/heartbeat", {}).json["services"] == digest
    assert client.post("/v1/hosts/h1/claim", {}).json["services"] == digest
    client.post("/v1/services/web/scale", {"replicas": 2})
    assert client.post("/v1/hosts/h1/heartbeat", {}).json["services"] != digest


def test_a_drained_instance_is_told_so_until_it_has_ended_and_one_that_nobody_wants_is_stopped(client: Client) -> None:
    managed(client)
    deploy(client)
    instance_id = run(client)
    client.post("/v1/services/web/stop")
    heard = sync(client, {"instanceId": instance_id, "status": "running", "port": 3100})
    assert [(one["instanceId"], one["state"]) for one in heard["instances"]] == [(instance_id, "drain")]
    assert heard["stop"] == []
    sync(client, {"instanceId": instance_id, "status": "ended"})
    heard = sync(client, {"instanceId": instance_id, "status": "running"}, {"instanceId": SOMEBODY, "status": "starting"})
    assert (heard["instances"], sorted(heard["stop"])) == ([], sorted([instance_id, SOMEBODY]))


def test_nobody_speaks_for_a_log_that_is_not_known(client: Client) -> None:
    managed(client)
    heard = sync(client, {"instanceId": ELSEWHERE, "status": "running"})
    assert (heard["stop"], heard["logs"]) == ([], [TAG])


def test_a_sync_keeps_the_host_and_its_instances_alive(client: Client, inside: InProcess) -> None:
    managed(client)
    deploy(client)
    instance_id = run(client)
    for _ in range(5):
        inside.pass_time(10_000)
        sync(client, {"instanceId": instance_id, "status": "running", "port": 3100})
    assert (assignment(client)["instanceId"], assignment(client)["status"]) == (instance_id, "running")
    inside.pass_time(16_000)
    assert instance_id not in client.get("/v1/services/web").text
    assert inside.now > START


ENDPOINTS: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "where the host is seen": ({"port": 3100}, "10.0.0.7", "http://10.0.0.7:3100"),
    "where the host is seen over IPv6": ({"port": 3100}, "fd00::7", "http://[fd00::7]:3100"),
    "where the host is seen by IPv4 in IPv6": ({"port": 3100}, "::ffff:10.0.0.7", "http://10.0.0.7:3100"),
    "on this machine": ({"port": 3100}, "127.0.0.1", "http://127.0.0.1:3100"),
    "on its link": ({"port": 3100}, "fe80::1%eth0", None),
    "no port yet": ({}, "10.0.0.7", None),
    "what the host says": ({"port": 1, "endpoint": "https://web.example:8443/a/"}, "10.0.0.7", "https://web.example:8443/a"),
    "another network": ({"endpoint": "http://100.64.0.1:3100"}, "10.0.0.7", "http://100.64.0.1:3100"),
    "this machine, said elsewhere": ({"endpoint": "http://127.0.0.1:3100"}, "10.0.0.7", None),
    "this machine by its name, said elsewhere": ({"endpoint": "http://localhost:3100"}, "10.0.0.7", None),
    "this machine, said here": ({"endpoint": "http://localhost:3100"}, "127.0.0.1", "http://localhost:3100"),
    "what a cloud tells secrets at": ({"endpoint": "http://169.254.169.254/latest"}, "127.0.0.1", None),
    "every address": ({"endpoint": "http://0.0.0.0:3100"}, "127.0.0.1", None),
    "many": ({"endpoint": "http://224.0.0.1:3100"}, "127.0.0.1", None),
    "another protocol": ({"endpoint": "ftp://10.0.0.8:3100"}, "10.0.0.7", None),
    "a user": ({"endpoint": "http://a:b@10.0.0.8:3100"}, "10.0.0.7", None),
    "a query": ({"endpoint": "http://10.0.0.8:3100/?a"}, "10.0.0.7", None),
    "a fragment": ({"endpoint": "http://10.0.0.8:3100/#a"}, "10.0.0.7", None),
    "a disguise": ({"endpoint": "http://0x7f.1:3100"}, "10.0.0.7", None),
}


@pytest.mark.parametrize("case", ENDPOINTS)
def test_an_endpoint_is_one_that_may_be_contacted_or_none(inside: InProcess, case: str) -> None:
    said, address, endpoint = ENDPOINTS[case]
    client = Client(inside, address=address)
    managed(client)
    deploy(client)
    instance_id = sync(client)["instances"][0]["instanceId"]
    sync(client, {"instanceId": instance_id, "status": "running", **said})
    assigned = assignment(client)
    assert assigned.get("endpoint") == endpoint
    assert ("error" in assigned) == (endpoint is None and bool(said))


def test_an_endpoint_in_a_report_is_checked_alike(inside: InProcess) -> None:
    client = Client(inside, address="10.0.0.7")
    unmanaged(client)
    deploy(client)
    claim(client)
    assert report(client, endpoint="http://127.0.0.1:3100").status == 200
    assert ("endpoint" in assignment(client), "error" in assignment(client)) == (False, True)


INSTANCE: dict[str, Any] = {"instanceId": SOMEBODY, "status": "running"}
BAD_SYNCS: dict[str, tuple[Any, str]] = {
    "no instances": ({}, "instances is required"),
    "an object": ({"instances": {}}, "instances must be a list"),
    "too many": ({"instances": [INSTANCE] * 1025}, "instances must be a list of at most 1024"),
    "one twice": ({"instances": [INSTANCE, INSTANCE]}, "instances must have each instance once"),
    "no id": ({"instances": [{"status": "running"}]}, "instances.0.instanceId is required"),
    "the id of something else": (
        {"instances": [{**INSTANCE, "instanceId": "job_1"}]},
        "instances.0.instanceId must be the id of an instance",
    ),
    "another status": ({"instances": [{**INSTANCE, "status": "placed"}]}, "instances.0.status must be one of"),
    "no port": ({"instances": [{**INSTANCE, "port": 0}]}, "instances.0.port must be a whole number from 1 to 65535"),
    "a text as port": ({"instances": [{**INSTANCE, "port": "1"}]}, "instances.0.port must be"),
    "an endpoint with a line break": ({"instances": [{**INSTANCE, "endpoint": "http://a\nb"}]}, "instances.0.endpoint must be"),
    "output that is a text": ({"instances": [{**INSTANCE, "output": "x"}]}, "instances.0.output must be an object with at and text"),
    "output before the beginning": ({"instances": [{**INSTANCE, "output": {"at": -1, "text": ""}}]}, "instances.0.output.at must be"),
    "much output": ({"instances": [{**INSTANCE, "output": {"at": 0, "text": "x" * 32_769}}]}, "instances.0.output.text must be"),
    "much output of few characters": (
        {"instances": [{**INSTANCE, "output": {"at": 0, "text": "é" * 16_385}}]},
        "instances.0.output.text must be",
    ),
    "something more": ({"instances": [{**INSTANCE, "pid": 1}]}, "instances.0.pid is not a field"),
}


@pytest.mark.parametrize("case", BAD_SYNCS)
def test_a_sync_of_another_form_is_refused(client: Client, case: str) -> None:
    managed(client)
    body, sentence = BAD_SYNCS[case]
    answer = client.post("/v1/hosts/h1/services/sync", body)
    assert (answer.status, answer.json["error"][: len(sentence)]) == (400, sentence)


def test_a_sync_may_be_larger_than_other_requests_but_not_without_bound(client: Client) -> None:
    managed(client)
    ids = [f"ins_5eed5eed-0000-4000-8000-{number:012x}" for number in range(100)]
    instances = [{"instanceId": one, "status": "running", "output": {"at": 0, "text": "x" * 32_768}} for one in ids]
    assert client.post("/v1/hosts/h1/services/sync", {"instances": instances}).status == 200
    assert client.post("/v1/hosts/h1/services/sync", b" " * (4 * 1024 * 1024 + 1)).status == 413


def test_all_that_a_deployment_does_not_say_stays_as_it_was(client: Client) -> None:
    first = deploy(client, replicas=3, health={"path": "/up"}, drainMs=1)
    second = deploy(client)
    assert {name: second[name] for name in ("replicas", "health", "drainMs")} == {n: first[n] for n in ("replicas", "health", "drainMs")}
    assert second["id"] == first["id"]
    assert deploy(client, serviceId=first["id"])["revision"] == 3
    gone = client.post("/v1/services", {**WEB, "serviceId": "svc_5eed5eed-0000-4000-8000-000000000000"})
    assert (gone.status, gone.json["code"]) == (404, "unknown_service")

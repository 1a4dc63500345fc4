"""Services as their users see them."""

import re
from typing import Any

import pytest

from tests.api.in_process import TAG, Client, InProcess
from tests.api.service_talk import WEB, deploy, managed, run, sync

NOW = "2023-11-14T22:13:20.000Z"
SERVICE_ID = re.compile(rf"svc_{TAG}-[0-9a-f]{{4}}-4[0-9a-f]{{3}}-[0-9a-f]{{4}}-[0-9a-f]{{12}}")
INSTANCE_ID = re.compile(rf"ins_{TAG}-[0-9a-f]{{4}}-4[0-9a-f]{{3}}-[0-9a-f]{{4}}-[0-9a-f]{{12}}")

RECORD = {
    "name": "web",
    "command": "serve",
    "args": ["-p", "é"],
    "cwd": "sub",
    "env": {"A": "***", "B": "***"},
    "replicas": 1,
    "requiredCapabilities": ["service-host"],
    "status": "pending",
    "createdAt": NOW,
    "updatedAt": NOW,
    "updatedBy": "node-a",
    "version": 2,
    "assignments": [{"hostId": "h1", "status": "pending", "updatedAt": NOW, "revision": 1}],
    "revision": 1,
    "rollout": {"revision": 1, "state": "rolling"},
    "health": {"path": "/up", "timeoutMs": 5000},
    "drainMs": 20,
}
ASKED = {
    "name": "web",
    "command": "serve",
    "args": ["-p", "é"],
    "cwd": "sub",
    "env": {"B": "canary", "A": "canary"},
    "health": {"path": "/up", "timeoutMs": 5000},
    "drainMs": 20,
}
ORDERS: tuple[tuple[str, Any], ...] = (("scale", {"replicas": 2}), ("stop", None), ("restart", {}), ("rollback", {"revision": 1}))


def without_ids(service: dict[str, Any]) -> dict[str, Any]:
    assert SERVICE_ID.fullmatch(service.pop("id"))
    for one in service["assignments"]:
        assert INSTANCE_ID.fullmatch(one.pop("instanceId"))
    return service


def test_a_service_in_the_fields_of_the_existing_clients(client: Client) -> None:
    managed(client)
    assert without_ids(deploy(client, **ASKED)) == RECORD
    run(client)
    [listed] = client.get("/v1/services").json["services"]
    running = {"status": "running", "endpoint": "http://127.0.0.1:3100", "startedAt": NOW}
    assert without_ids(listed) == {
        **RECORD,
        "version": 4,
        "status": "running",
        "goodRevision": 1,
        "rollout": {"revision": 1, "state": "succeeded"},
        "assignments": [{**RECORD["assignments"][0], **running}],  # type: ignore[index]
    }
    [in_state] = client.get("/v1/state").json["services"]
    assert without_ids(in_state) == listed


def test_a_service_is_found_by_its_name_and_by_its_id_with_its_revisions(client: Client) -> None:
    first = deploy(client)
    deploy(client, args=["x"])
    by_name, by_id = client.get("/v1/services/web").json["service"], client.get(f"/v1/services/{first['id']}").json["service"]
    assert by_name == by_id
    assert [(one["revision"], one["args"], one["reason"], one["state"]) for one in by_id["revisions"]] == [
        (2, ["x"], "deployed", "rolling"),
        (1, [], "deployed", "superseded"),
    ]
    assert all(one["deployedAt"] == NOW and one["command"] == "serve" for one in by_id["revisions"])


def test_what_a_service_is_told_in_its_environment_is_shown_to_no_user(client: Client) -> None:
    managed(client)
    client.expect(200, client.post("/v1/services", {**WEB, **ASKED}, x_idempotency_key="k"))
    run(client)
    deployed = client.get("/v1/services/web/events").json["events"][0]["data"]
    assert deployed.keys().isdisjoint({"scope", "key", "digest"})  # the environment could be guessed, and the guess proved
    for path in ("services", "services/web", "services/web/events", "services/web/explain", "services/web/log", "state"):
        answer = client.get(f"/v1/{path}")
        assert (answer.status, "canary" in answer.text) == (200, False), path
    assert sync(client)["instances"][0]["env"] == {"A": "canary", "B": "canary"}


@pytest.mark.parametrize(("order", "body"), ORDERS)
def test_an_order_is_given_by_name(client: Client, order: str, body: Any) -> None:
    managed(client)
    deploy(client)
    run(client)
    deploy(client, args=["new"])
    service = client.expect(200, client.post(f"/v1/services/web/{order}", body))["service"]
    changed = {"scale": ("replicas", 2), "stop": ("stopped", True), "restart": ("revision", 3), "rollback": ("revision", 3)}
    name, value = changed[order]
    assert service[name] == value


def test_a_removed_service_is_gone_when_nothing_of_it_runs(client: Client) -> None:
    managed(client)
    deploy(client)
    instance_id = run(client)
    removed = client.ask("DELETE", "/v1/services/web").json["service"]
    assert (removed["removed"], removed["status"], removed["assignments"][0]["status"]) == (True, "running", "draining")
    sync(client, {"instanceId": instance_id, "status": "ended"})
    assert client.get("/v1/services").json == {"services": []}


def test_an_explanation_names_the_hosts(client: Client) -> None:
    client.register("h2")
    service = deploy(client)
    said = client.get("/v1/services/web/explain").json
    assert said["service"] == {"id": service["id"], "name": "web"}
    assert said["reasons"]
    assert [(fit["hostId"], fit["can"]) for fit in said["hosts"]] == [("h2", False)]


def test_the_events_of_a_service_come_in_pages(client: Client) -> None:
    managed(client)
    deploy(client)
    run(client)
    every = client.get("/v1/services/web/events").json
    assert [one["type"] for one in every["events"]][:2] == ["ServiceDeployed", "InstancePlaced"]
    assert "next" not in every
    first = client.get("/v1/services/web/events?limit=2").json
    rest = client.get(f"/v1/services/web/events?after={first['next']}").json
    assert first["events"] + rest["events"] == every["events"]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({"name": None}, "name is required"),
    "an empty name": ({"name": ""}, "name is required"),
    "a name of blanks": ({"name": "  "}, "name is required"),
    "a name that climbs": (
        {"name": "../x"},
        'name must be a name of at most 63 letters, digits and . _ -, beginning with a letter or digit, not "../x"',
    ),
    "a name with a space": ({"name": "A B"}, "name must be"),
    "a long name": ({"name": "a" * 64}, "name must be"),
    "a name with a line break": ({"name": "a\n"}, "name must be"),
    "a number as name": ({"name": 1}, "name must be"),
    "the reserved name": ({"name": "v1"}, "name must be another one"),
    "the id of a service as name": ({"name": "svc_00000000-0000-4000-8000-000000000000"}, "name must be another one"),
    "no command": ({"command": None}, "command is required"),
    "an empty command": ({"command": ""}, "command is required"),
    "a list as command": ({"command": ["a"]}, "command must be a text"),
    "an argument that is a number": ({"args": [1]}, "args.0 must be a text, not 1"),
    "arguments that are a text": ({"args": "a b"}, "args must be a list"),
    "no replicas": ({"replicas": 0}, "replicas must be a whole number from 1 to 64, not 0"),
    "too many replicas": ({"replicas": 100}, "replicas must be"),
    "a text as replicas": ({"replicas": "2"}, "replicas must be"),
    "a fraction of replicas": ({"replicas": 1.5}, "replicas must be"),
    "a name in the environment that is none": ({"env": {"A=B": "x"}}, "env must have names"),
    "an empty name in the environment": ({"env": {"": "x"}}, "env must have names"),
    "a name in the environment for the linker": ({"env": {"LD_PRELOAD": "x"}}, "env must have names"),
    "our token in the environment": ({"env": {"SKYCLAW_TOKEN": "x"}}, "env must have names"),
    "a name in the environment that begins with a digit": (
        {"env": {"1X": "x"}},
        "env must have names that a job may set: at most 128 letters, digits and underscores, no digit first, and none that begins with "
        'LD_, DYLD_ or SKYCLAW_; unlike "1X"',
    ),
    "a number in the environment": ({"env": {"A": 1}}, "env.A must be a text, not 1"),
    "the port in the environment": ({"env": {"PORT": "80"}}, "env must not contain PORT"),
    "a capability that is none": ({"requiredCapabilities": ["a b"]}, "requiredCapabilities must"),
    "a path without a slash": ({"health": {"path": "up"}}, "health.path must be a path"),
    "a path with a space": ({"health": {"path": "/a b"}}, "health.path must be a path"),
    "a path that is not ASCII": ({"health": {"path": "/é"}}, "health.path must be a path"),
    "a long path": ({"health": {"path": "/" + "a" * 1024}}, "health.path must be a path"),
    "little time": ({"health": {"timeoutMs": 999}}, "health.timeoutMs must be a whole number from 1000 to 600000"),
    "much time": ({"health": {"timeoutMs": 600_001}}, "health.timeoutMs must be"),
    "another field of health": ({"health": {"port": 1}}, "health.port is not a field of this request"),
    "health that is a text": ({"health": "/up"}, "health must be an object"),
    "a long drain": ({"drainMs": 600_001}, "drainMs must be a whole number from 0 to 600000"),
    "a bundle that is none": ({"bundle": "A" * 64}, "bundle must be the SHA-256"),
    "an id of another form": ({"serviceId": "my-service"}, "serviceId must be the id of a service"),
    "a field that is not known": ({"image": "x"}, "image is not a field of this request"),
    "a folder with a NUL": ({"cwd": "a\0b"}, "the body is not valid JSON"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_service_is_refused(client: Client, inside: InProcess, case: str) -> None:
    wrong, sentence = REFUSED[case]
    before = len(inside.records)
    answer = client.post("/v1/services", {name: value for name, value in {**WEB, **wrong}.items() if value is not None})
    assert (answer.status, answer.json["error"][: len(sentence)]) == (400, sentence)
    assert len(inside.records) == before


def test_an_empty_text_unsets_what_the_former_revision_had(client: Client) -> None:
    deploy(client, cwd="sub", health={"path": "/up"})
    service = deploy(client, cwd="", bundle="", health={"path": "", "timeoutMs": 5_000})
    assert (service["revision"], service["health"]) == (2, {"timeoutMs": 5_000})
    assert not {"cwd", "bundle"} & service.keys()


@pytest.mark.parametrize("name", ["a", "A", "0", "web.v2_x-y", "a" * 63])
def test_what_the_existing_command_line_may_call_a_service_is_a_name(client: Client, name: str) -> None:
    assert deploy(client, name=name)["name"] == name
    assert client.get(f"/v1/services/{name}").status == 200


@pytest.mark.parametrize("body", [{}, {"replicas": 0}, {"replicas": 65}, {"replicas": 2, "more": 1}])
def test_a_scale_says_a_number_in_bounds(client: Client, body: Any) -> None:
    deploy(client)
    assert client.post("/v1/services/web/scale", body).status == 400
    assert client.get("/v1/services/web").json["service"]["replicas"] == 1


def test_a_rollback_to_what_there_is_not_is_refused(client: Client) -> None:
    deploy(client)
    assert client.post("/v1/services/web/rollback", {}).json["code"] == "refused"
    assert client.post("/v1/services/web/rollback", {"revision": 7}).status == 409
    assert client.post("/v1/services/web/rollback", {"revision": 0}).status == 400


@pytest.mark.parametrize("service", ["gone", "svc_5eed5eed-0000-4000-8000-000000000000", "a" * 64, "ä"])
def test_an_unknown_service_is_not_found(client: Client, service: str) -> None:
    asked = [client.ask("DELETE", f"/v1/services/{service}"), client.get(f"/v1/services/{service}/log")]
    asked += [client.post(f"/v1/services/{service}/{order}", body) for order, body in ORDERS]
    asked += [client.get(f"/v1/services/{service}{path}") for path in ("", "/explain", "/events")]
    assert {(answer.status, answer.json["code"]) for answer in asked} == {(404, "unknown_service")}


def test_the_existing_clients_read_the_words_they_know(client: Client) -> None:
    assert client.get("/v1/services/gone").json["error"] == "service not found"
    assert client.post("/v1/services/gone/stop").json["error"] == "unknown service: gone"


def test_the_same_request_makes_one_revision(client: Client) -> None:
    first = client.post("/v1/services", WEB, x_idempotency_key="k")
    deploy(client, args=["later"])
    again = client.post("/v1/services", WEB, x_idempotency_key="k")
    assert (again.status, again.json) == (200, first.json)
    assert client.post("/v1/services", {**WEB, "args": ["x"]}, x_idempotency_key="k").json["code"] == "idempotency_conflict"
    assert client.get("/v1/services/web").json["service"]["revision"] == 2


@pytest.mark.parametrize(("order", "body"), [*ORDERS[:3], ("DELETE", None)])
def test_an_order_that_is_repeated_is_given_once(client: Client, inside: InProcess, order: str, body: Any) -> None:
    managed(client)
    deploy(client)
    run(client)

    def give() -> Any:
        if order == "DELETE":
            return client.ask("DELETE", "/v1/services/web", x_idempotency_key="k")
        return client.post(f"/v1/services/web/{order}", body, x_idempotency_key="k")

    first, count = give(), len(inside.records)
    again = give()
    assert (again.status, again.json, len(inside.records)) == (200, first.json, count)


def test_nobody_is_answered_without_the_token(inside: InProcess) -> None:
    client = Client(inside, tokens=("secret",))
    for answer in (client.get("/v1/services"), client.post("/v1/services", WEB), client.post("/v1/hosts/h1/services/sync", {})):
        assert answer.status == 401
    assert client.get("/v1/services", x_skyclaw_token="secret").status == 200  # noqa: S106  # only the tests' own client knows it

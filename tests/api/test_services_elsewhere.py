"""Services that another coordinator decides for: asked, changed, claimed, reported and synchronized at any of them."""

from typing import Any

import pytest

from skyclaw.commands import SyncServices
from tests.api.in_process import Client
from tests.api.service_talk import WEB, assignment, deploy, managed, run, sync, unmanaged
from tests.api.several import Member, Several, header

GONE = "svc_aaaaaaaa-0000-4000-8000-000000000000"


@pytest.fixture
def known(a: Member, b: Member, c: Member) -> None:
    """All logs are known to all."""
    for member in (a, b, c):
        member.enqueue()


@pytest.mark.usefixtures("known")
def test_a_service_is_deployed_and_changed_at_any_coordinator(a: Member, b: Member, c: Member) -> None:
    service = deploy(b)
    assert service["id"].startswith(f"svc_{a.tag}")
    assert deploy(c, args=["x"])["id"] == service["id"]
    assert b.post("/v1/services/web/scale", {"replicas": 3}).json["service"]["replicas"] == 3
    for member in (a, b, c):
        assert member.get("/v1/services/web").json["service"]["replicas"] == 3
    assert c.ask("DELETE", f"/v1/services/{service['id']}").status == 200
    assert [member.get("/v1/services").json["services"] for member in (a, b, c)] == [[], [], []]


@pytest.mark.usefixtures("known")
def test_the_same_request_at_two_coordinators_makes_one_revision(b: Member, c: Member) -> None:
    first = b.post("/v1/services", WEB, x_idempotency_key="k").json["service"]
    again = c.post("/v1/services", WEB, x_idempotency_key="k").json["service"]
    assert (again["id"], again["revision"]) == (first["id"], 1)


@pytest.mark.usefixtures("known", "hasty")
@pytest.mark.parametrize("service", ["gone", GONE])
def test_that_there_is_no_service_only_the_one_who_decides_says(a: Member, b: Member, service: str) -> None:
    answer = b.get(f"/v1/services/{service}")
    assert (answer.status, answer.json["error"]) == (404, "service not found")
    assert [node for node, _ in b.seat.forwarded] == [a.node]
    a.gone()
    answer = b.get(f"/v1/services/{service}")
    assert (answer.status, answer.json["code"]) == (503, "owner_unknown")


@pytest.mark.parametrize("service", ["gone", "svc_99999999-0000-4000-8000-000000000000"])
def test_who_is_behind_does_not_say_that_there_is_no_service(a: Member, service: str) -> None:
    a.seat.ready = False
    answer = a.get(f"/v1/services/{service}")
    assert (answer.status, answer.json["code"]) == (503, "unavailable")


def test_who_is_behind_says_it_of_what_it_decides_itself(a: Member) -> None:
    a.seat.ready = False
    assert a.get(f"/v1/services/{GONE}").status == 404


@pytest.mark.usefixtures("known")
def test_a_host_of_the_typescript_version_may_ask_any_coordinator(a: Member, b: Member) -> None:
    unmanaged(b)
    service = deploy(a, env={"A": "canary"})
    claimed = b.post("/v1/hosts/h1/services/claim", {}).json["service"]
    assert (claimed["id"], claimed["env"]) == (service["id"], {"A": "canary"})
    answer = b.post(f"/v1/services/{service['id']}/report", {"hostId": "h1", "status": "running", "endpoint": "http://10.0.0.7:3100"})
    assert answer.json["service"]["status"] == "running"
    assert assignment(a)["endpoint"] == "http://10.0.0.7:3100"


@pytest.mark.usefixtures("known")
def test_a_host_of_the_typescript_version_is_sent_on_by_who_may_not_know_what_it_is_to_run(a: Member) -> None:
    unmanaged(a)
    a.seat.ready = False
    assert a.post("/v1/hosts/h1/services/claim", {}).status == 503
    deploy(a)
    assert a.post("/v1/hosts/h1/services/claim", {}).status == 200
    a.seat.cut_off = True
    assert a.post("/v1/hosts/h1/services/claim", {}).status == 503


@pytest.mark.usefixtures("known")
def test_a_host_of_ours_may_ask_any_coordinator(a: Member, b: Member) -> None:
    managed(b)
    deploy(a, env={"A": "canary"})
    heard = sync(b)
    assert sorted(heard["logs"]) == [a.tag, b.tag]
    [instance] = heard["instances"]
    assert instance["env"] == {"A": "canary"}
    assert heard["digest"] == b.post("/v1/hosts/h1/heartbeat", {}).json["services"] == a.post("/v1/hosts/h1/heartbeat", {}).json["services"]
    run(b, output={"at": 0, "text": "hello\n"})
    assert assignment(a)["endpoint"] == "http://127.0.0.1:3100"
    for member in (a, b):
        assert [one["text"] for one in member.get("/v1/services/web/log").json["instances"]] == ["hello\n"]
    [instance] = sync(b)["instances"]
    assert instance["outputAt"] == 6


@pytest.mark.usefixtures("known", "hasty")
def test_nobody_speaks_for_a_coordinator_that_does_not_answer(a: Member, b: Member) -> None:
    managed(b)
    deploy(a)
    instance_id = run(b)
    a.gone()
    heard = sync(b, {"instanceId": instance_id, "status": "running", "port": 3100})
    assert (heard["instances"], heard["stop"], heard["logs"], heard["partial"]) == ([], [], [b.tag], True)


@pytest.mark.usefixtures("known")
def test_who_has_lost_contact_with_the_voters_of_a_log_does_not_speak_for_it(a: Member, b: Member) -> None:
    managed(b)
    deploy(a)
    run(b)
    of_another_owner: Any = {"instanceId": f"ins_{a.tag}-0000-4000-8000-000000000000", "status": "running", "port": 3100}
    a.seat.cut_off = True
    heard = sync(a, of_another_owner)
    assert (heard["instances"], heard["stop"], heard["logs"], heard["partial"]) == ([], [], [], True)
    a.seat.cut_off = False
    heard = sync(a, of_another_owner)
    assert (len(heard["instances"]), heard["stop"], heard["logs"]) == (1, [of_another_owner["instanceId"]], [a.tag])
    assert "partial" not in heard
    a.seat.ready = False
    assert sync(a, of_another_owner)["partial"] is True


@pytest.mark.usefixtures("known")
def test_each_coordinator_hears_of_its_own_instances_and_stops_what_it_does_not_want(
    three: Several, a: Member, b: Member, c: Member
) -> None:
    managed(c)
    deploy(a)
    instance_id = run(c)
    three.move(a.tag, b)
    unwanted = f"ins_{a.tag}-0000-4000-8000-000000000000"
    other = f"ins_{c.tag}-0000-4000-8000-000000000000"
    running: list[Any] = [{"instanceId": one, "status": "running", "port": 3100} for one in (instance_id, unwanted, other)]
    heard = sync(c, *running)
    assert [one["instanceId"] for one in heard["instances"]] == [instance_id]
    assert sorted(heard["stop"]) == sorted([unwanted, other])
    assert sorted(heard["logs"]) == [a.tag, b.tag, c.tag]
    told = [command for command in b.inside.asked if isinstance(command, SyncServices)][-1]
    assert [one.instance_id for one in told.news] == [instance_id, unwanted]


@pytest.mark.usefixtures("known")
def test_only_the_coordinator_that_sees_the_host_judges_its_endpoint(a: Member, b: Member) -> None:
    away = Client(b.inside, cluster=b.seat, address="10.0.0.7")
    managed(away)
    deploy(a)
    instance_id = sync(away)["instances"][0]["instanceId"]
    sync(away, {"instanceId": instance_id, "status": "running", "port": 3100})
    assert assignment(a)["endpoint"] == "http://10.0.0.7:3100"
    sync(away, {"instanceId": instance_id, "status": "running", "endpoint": "http://127.0.0.1:3100"})
    assert ("endpoint" in assignment(a), "error" in assignment(a)) == (False, True)
    forwarded = {"x_skyclaw_tried": header(b.node)}
    sync(a, {"instanceId": instance_id, "status": "running", "port": 3100}, **forwarded)
    assert ("endpoint" in assignment(a), "error" in assignment(a)) == (False, False)
    sync(a, {"instanceId": instance_id, "status": "running", "endpoint": "http://169.254.169.254/"}, **forwarded)
    assert "endpoint" not in assignment(a)


@pytest.mark.usefixtures("known")
def test_a_bad_endpoint_in_a_report_is_not_passed_on(a: Member, b: Member) -> None:
    away = Client(b.inside, cluster=b.seat, address="10.0.0.7")
    unmanaged(away)
    deploy(a)
    away.post("/v1/hosts/h1/services/claim", {})
    answer = away.post("/v1/services/web/report", {"hostId": "h1", "status": "running", "endpoint": "http://127.0.0.1:3100"})
    assert answer.status == 200
    assert ("endpoint" in assignment(a), "error" in assignment(a)) == (False, True)


@pytest.mark.usefixtures("known")
def test_a_copy_says_how_old_it_is(a: Member, b: Member) -> None:
    service = deploy(a)
    answer = b.get(f"/v1/services/{service['id']}")
    assert answer.headers["x-skyclaw-position"] == f"{a.tag}:{a.seat.committed(a.tag)}"
    assert b.seat.forwarded == []

"""Every route works at every coordinator: what another one decides goes there as it came, and its answer comes back as it is."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from api import forwarding
from skyclaw.errors import NotOwner, StorageFull
from skyclaw.outside.peer_channel import PeerSilent, Reply
from tests.api.in_process import SHELL, Client, result, until
from tests.api.raw_http import exchange, request
from tests.api.several import Member, Several, header, several

PATIENCE_S = 20.0
NOBODYS = "job_99999999-0000-4000-8000-000000000000"


def test_the_life_of_a_job_whose_log_another_coordinator_owns(a: Member, b: Member) -> None:
    b.register()
    job = a.enqueue(maxAttempts=2)
    assert job["id"].startswith("job_aaaaaaaa-")
    claimed = b.claim()
    released = b.post(f"/v1/jobs/{job['id']}/release", {"hostId": "h1", "leaseToken": claimed["leaseToken"]})
    assert released.json["job"]["status"] == "queued"
    assert b.complete(b.claim(), success=False, exitCode=1).json["job"]["status"] == "queued"
    a.inside.pass_time(3_600_001)
    assert b.post(f"/v1/jobs/{job['id']}/cancel", {}).json["job"]["status"] == "cancelled"
    assert b.post(f"/v1/jobs/{job['id']}/retry", {}).json["job"]["status"] == "queued"
    assert {record.log for record in b.inside.records if record.stream == job["id"]} == {"aaaaaaaa"}


def test_the_request_arrives_as_it_was_sent_and_the_answer_comes_back_byte_for_byte(a: Member, b: Member) -> None:
    job_id, body = b.enqueue()["id"], b'{"hostId" : "h1",\n "reason":"\\u00e9"}'
    path = f"/v1/jobs/{job_id}/release?x=%41+%2B"
    sent = request("POST", path, body, "X-Request-Id: r", "X-Idempotency-Key: k-1")
    here, there = exchange(b.port, sent), exchange(a.port, sent)
    assert (there.status, there.body) == (here.status, here.body) == (404, there.body)
    assert [there.headers[name] for name in ("content-type", "x-request-id")] == [
        here.headers[name] for name in ("content-type", "x-request-id")
    ]
    assert a.seat.forwarded == [(b.node, path)]


def test_the_owners_refusal_keeps_its_status_its_words_and_when_to_come_back(a: Member, b: Member) -> None:
    job_id = b.enqueue()["id"]
    b.inside.failure = StorageFull()
    answer = a.post(f"/v1/jobs/{job_id}/cancel", {})
    assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (507, "storage_full", "1")
    assert answer.json["details"] == {"written": False}


def test_a_request_goes_to_at_most_three_coordinators_after_the_first_and_to_none_twice(
    monkeypatch: pytest.MonkeyPatch, hasty: None
) -> None:
    with several(5) as them:
        log, first = "99999999", them.members[0]
        for member, to in zip(them.members, them.members[1:] + them.members[:1], strict=True):
            member.inside.failure = NotOwner(log)
            member.seat.thinks[log] = to.node
        answer = first.post(f"/v1/jobs/{NOBODYS}/cancel", {})
        assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (503, "owner_unknown", "1")
        assert answer.json["details"] == {"log": log, "written": False}
        assert [len(member.seat.forwarded) for member in them.members] == [1, 1, 1, 0, 0]


def test_two_coordinators_that_name_each_other_do_not_send_a_request_to_and_fro(a: Member, b: Member, hasty: None) -> None:
    a.inside.failure = b.inside.failure = NotOwner("99999999")
    a.seat.thinks["99999999"], b.seat.thinks["99999999"] = b.node, a.node
    assert a.post(f"/v1/jobs/{NOBODYS}/cancel", {}).json["code"] == "owner_unknown"
    assert (len(a.seat.forwarded), len(b.seat.forwarded)) == (1, 0)


def test_while_nobody_owns_the_log_it_is_unavailable_and_neither_unknown_nor_refused(
    three: Several, a: Member, b: Member, hasty: None
) -> None:
    a.register()
    job = b.enqueue()
    claimed = a.claim()
    three.owners[b.tag] = None
    b.inside.queue.disown(b.tag)
    never_heard_of = f"job_{b.tag}-0000-4000-8000-000000000000"
    for job_id in (job["id"], never_heard_of):
        path = f"/v1/jobs/{job_id}"
        told = {"hostId": "h1", "leaseToken": claimed["leaseToken"], **result()}
        for answer in (
            *(a.post(f"{path}/{order}", {}) for order in ("cancel", "retry")),
            a.post(f"{path}/complete", told),
            a.post(f"{path}/release", {"hostId": "h1", "leaseToken": claimed["leaseToken"]}),
        ):
            assert (answer.status, answer.json["code"], answer.json["details"]["written"]) == (503, "owner_unknown", False)
    assert {a.get(f"/v1/jobs/{never_heard_of}{below}").status for below in ("", "/log", "/events", "/explain")} == {503}
    assert a.get(f"/v1/jobs/{job['id']}").json["job"]["status"] == "leased"


def test_a_hand_over_does_not_show(three: Several, a: Member, b: Member, c: Member) -> None:
    job_id = b.enqueue()["id"]
    three.owners[b.tag] = None
    b.inside.queue.disown(b.tag)
    with ThreadPoolExecutor(1) as pool:
        cancelled = pool.submit(a.post, f"/v1/jobs/{job_id}/cancel", {})
        until(lambda: len(a.inside.asked) == 1)
        three.move(b.tag, c)
        assert cancelled.result(PATIENCE_S).json["job"]["status"] == "cancelled"


def test_whoever_becomes_the_owner_meanwhile_does_it_itself(three: Several, a: Member, b: Member) -> None:
    job_id = b.enqueue()["id"]
    three.owners[b.tag] = None
    b.inside.queue.disown(b.tag)
    with ThreadPoolExecutor(1) as pool:
        cancelled = pool.submit(a.post, f"/v1/jobs/{job_id}/cancel", {}, x_request_id="r")
        until(lambda: len(a.inside.asked) == 1)
        three.owners[b.tag] = a.node  # before its queue knows
        until(lambda: len(a.inside.asked) > 2)
        three.owners[b.tag] = None
        three.move(b.tag, a)
        answer = cancelled.result(PATIENCE_S)
    assert (answer.json["job"]["status"], answer.headers["x-request-id"]) == ("cancelled", "r")
    assert a.seat.forwarded == []


def test_an_owner_that_is_gone_has_certainly_written_nothing(a: Member, b: Member, hasty: None) -> None:
    job_id = b.enqueue()["id"]
    b.gone()
    answer = a.post(f"/v1/jobs/{job_id}/cancel", {})
    assert (answer.status, answer.json["code"], answer.json["details"]) == (503, "owner_unknown", {"log": b.tag, "written": False})


@pytest.mark.parametrize(("method", "written"), [("POST", "unknown"), ("GET", False)])
def test_what_an_owner_that_does_not_answer_has_written_is_unknown(
    a: Member, b: Member, monkeypatch: pytest.MonkeyPatch, hasty: None, method: str, written: object
) -> None:
    path, asked = f"/v1/jobs/{b.enqueue()['id']}", list[str]()

    def breaks_off(node: str, *_: object) -> Reply:
        asked.append(node)
        raise PeerSilent("connection closed", sent=True)

    monkeypatch.setattr(a.seat, "forward", breaks_off)
    answer = a.post(f"{path}/cancel", {}) if method == "POST" else a.get(f"{path}?consistent=1")
    assert (answer.status, answer.json["code"], answer.json["details"]) == (503, "owner_unknown", {"log": b.tag, "written": written})
    assert asked == [b.node]


def test_only_so_many_requests_wait_for_others(a: Member, b: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    job_ids, go_on, forward = [b.enqueue()["id"] for _ in range(forwarding.PLACES + 1)], threading.Event(), a.seat.forward
    inside = []

    def held_up(*call: Any) -> Reply:
        inside.append(1)
        assert go_on.wait(PATIENCE_S)
        return forward(*call)

    monkeypatch.setattr(a.seat, "forward", held_up)
    with ThreadPoolExecutor(forwarding.PLACES) as pool:
        waiting = [pool.submit(a.post, f"/v1/jobs/{job_id}/cancel", {}) for job_id in job_ids[1:]]
        until(lambda: len(inside) == forwarding.PLACES)
        refused = a.post(f"/v1/jobs/{job_ids[0]}/cancel", {})
        assert (refused.status, refused.json["code"], refused.json["details"]) == (503, "unavailable", {"written": False})
        go_on.set()
        assert {one.result(PATIENCE_S).status for one in waiting} == {200}
    assert a.post(f"/v1/jobs/{job_ids[0]}/cancel", {}).status == 200


def test_a_forwarded_request_never_parks(a: Member, b: Member) -> None:
    b.register()
    path, tried = f"/v1/jobs/{b.enqueue()['id']}", header(a.node)
    began = time.monotonic()
    assert b.get(f"{path}?waitMs=30000", x_skyclaw_tried=tried).json["job"]["status"] == "queued"
    assert b.post("/v1/hosts/h1/claim", {"waitMs": 30_000, "claimId": "c1"}, x_skyclaw_tried=tried).json["job"] is not None
    assert b.post("/v1/hosts/h1/claim", {"waitMs": 30_000, "claimId": "c2"}, x_skyclaw_tried=tried).json["job"] is None
    assert time.monotonic() - began < 25


def test_a_waiting_reader_hears_at_once_of_an_end_in_another_log(a: Member, b: Member) -> None:
    job_id = b.enqueue()["id"]
    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(a.get, f"/v1/jobs/{job_id}?waitMs=30000")
        until(lambda: len(a.inside.queue.parking) == 1)
        b.post(f"/v1/jobs/{job_id}/cancel", {})
        assert seen.result(PATIENCE_S).json["job"]["status"] == "cancelled"


def jobs_of(member: Client) -> set[str]:
    return {job["id"] for job in member.get("/v1/jobs").json["jobs"]}


def test_a_job_goes_to_the_home_that_its_client_names(a: Member, b: Member) -> None:
    job = a.post("/v1/jobs", {"payload": SHELL}, x_skyclaw_home=b.tag).json["job"]
    batch = a.post("/v1/jobs/batch", {"jobs": [{"payload": SHELL}] * 2}, x_skyclaw_home=b.tag).json["jobs"]
    assert {one["id"][4:12] for one in (job, *batch)} == {b.tag}
    assert a.enqueue()["id"][4:12] == a.tag


@pytest.mark.parametrize("home", ["", "x", "AAAAAAAA", "aaaaaaaa1", "aaaaaaa", "aaaaaaa\xe9"])
@pytest.mark.parametrize(("path", "body"), [("/v1/jobs", {"payload": SHELL}), ("/v1/jobs/batch", {"jobs": [{"payload": SHELL}]})])
def test_a_home_that_cannot_be_one_is_refused(a: Member, home: str, path: str, body: object) -> None:
    sent = request("POST", path, json.dumps(body).encode(), f"X-Skyclaw-Home: {home}")
    answer = exchange(a.port, sent)
    assert (answer.status, answer.json["code"]) == (400, "bad_home")


def test_a_home_that_nobody_knows_is_unavailable(a: Member, hasty: None) -> None:
    answer = a.post("/v1/jobs", {"payload": SHELL}, x_skyclaw_home="99999999")
    assert (answer.status, answer.json["code"], answer.json["details"]) == (503, "owner_unknown", {"log": "99999999", "written": False})


@pytest.mark.parametrize(("path", "body"), [("/v1/jobs", {"payload": SHELL}), ("/v1/jobs/batch", {"jobs": [{"payload": SHELL}] * 2})])
def test_one_request_with_a_home_makes_its_jobs_once_whoever_is_asked_and_whoever_owns_the_home(
    three: Several, a: Member, b: Member, c: Member, path: str, body: Any
) -> None:
    sent = {"x_skyclaw_home": b.tag, "x_idempotency_key": "k-1"}
    first = a.post(path, body, **sent)
    again = [b.post(path, body, **sent), c.post(path, body, **sent)]
    three.move(b.tag, c)
    b.gone()
    again += [a.post(path, body, **sent), c.post(path, body, **sent)]
    three.move(b.tag, a)
    again += [a.post(path, body, **sent)]
    assert {answer.status for answer in (first, *again)} == {200}
    ids = [[one["id"] for one in answer.json.get("jobs", [answer.json.get("job")])] for answer in (first, *again)]
    assert ids == [ids[0]] * 6
    assert jobs_of(a) == jobs_of(c) == set(ids[0])
    assert a.post(path, {**body, "x": 1}, **sent).status == 400
    other: Any = {"payload": SHELL, "priority": 1} if path == "/v1/jobs" else {"jobs": [{"payload": SHELL}]}
    assert c.post(path, other, **sent).json["code"] == "idempotency_conflict"


def test_without_a_home_a_key_is_found_in_the_copies_and_its_owner_answers(three: Several, a: Member, b: Member, c: Member) -> None:
    first = a.post("/v1/jobs", {"payload": SHELL}, x_idempotency_key="k-1").json
    assert b.post("/v1/jobs", {"payload": SHELL}, x_idempotency_key="k-1").json == first
    assert b.seat.forwarded == [(a.node, "/v1/jobs")]
    three.move(a.tag, b)
    assert c.post("/v1/jobs", {"payload": SHELL}, x_idempotency_key="k-1").json["job"]["id"] == first["job"]["id"]


def test_a_coordinator_s_own_log_takes_its_jobs_also_while_another_one_decides_for_it(three: Several, a: Member, b: Member) -> None:
    three.move(a.tag, b)
    assert a.enqueue()["id"][4:12] == a.tag
    assert a.post("/v1/jobs/batch", {"jobs": [{"payload": SHELL}]}).json["jobs"][0]["id"][4:12] == a.tag


def test_a_host_is_paused_wherever_it_is_registered(a: Member, b: Member) -> None:
    b.register()
    assert a.post("/v1/hosts/h1/pause", {}).json["host"]["mode"] == "paused"
    assert b.get("/v1/hosts/h1").json["host"]["mode"] == "paused"

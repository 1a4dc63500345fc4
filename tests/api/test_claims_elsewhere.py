"""Claims at one coordinator for jobs that others decide for: the best job counts, wherever it is, and news of it wakes whoever waits."""

import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from falcon import testing

from api import searching
from tests.api.in_process import Answer, until
from tests.api.several import Member, Several, several

PATIENCE_S = 20.0
TYPED = {"content-type": "application/json"}


def claims(member: Member, pool: ThreadPoolExecutor, host_id: str = "h1", **fields: object) -> "Future[Answer]":
    """A claim that waits."""
    before = len(member.inside.queue.parking)
    future = pool.submit(member.post, f"/v1/hosts/{host_id}/claim", {"waitMs": 30_000, **fields})
    until(lambda: len(member.inside.queue.parking) > before)
    return future


def events(member: Member, job_id: str) -> list[str]:
    return [event["type"] for event in member.get(f"/v1/jobs/{job_id}/events").json["events"]]


def test_the_best_job_is_claimed_whoever_decides_for_it_and_the_owner_s_answer_is_given_back(a: Member, b: Member, c: Member) -> None:
    a.register()
    low, high, middle = a.enqueue(priority=1), b.enqueue(priority=3), c.enqueue(priority=2)
    claimed = [a.claim() for _ in range(3)]
    assert [job["id"] for job in claimed] == [high["id"], middle["id"], low["id"]]
    assert claimed[0]["leaseToken"].startswith(f"0.1.{b.node}/")
    assert claimed[0]["leaseMs"] == 60_000


def test_a_job_that_was_given_away_meanwhile_is_looked_for_in_the_next_log(three: Several, a: Member, b: Member, c: Member) -> None:
    a.register()
    first, second = b.enqueue(priority=2), c.enqueue(priority=1)
    b.inside.followers = []  # nobody hears of what happens there
    b.post(f"/v1/jobs/{first['id']}/cancel", {})
    assert a.claim()["id"] == second["id"]
    assert a.claim() is None
    assert [node for node, _ in a.seat.forwarded] == [b.node, c.node, b.node]


def test_at_most_three_coordinators_are_asked_for_one_claim() -> None:
    with several(5) as them:
        first, others = them.members[0], them.members[1:]
        first.register()
        for other in others:
            job = other.enqueue()
            other.inside.followers = []
            other.post(f"/v1/jobs/{job['id']}/cancel", {})
        assert first.post("/v1/hosts/h1/claim", {}).json == {"job": None, "jobs": []}
        assert len(first.seat.forwarded) == searching.MOST_ASKED
        with ThreadPoolExecutor(1) as pool:
            claim = claims(first, pool)
            job = first.enqueue()
            assert claim.result(PATIENCE_S).json["job"]["id"] == job["id"]


def test_a_coordinator_that_cannot_be_reached_holds_no_claim_up(a: Member, b: Member, c: Member) -> None:
    a.register()
    b.enqueue(priority=2)
    job = c.enqueue(priority=1)
    b.gone()
    assert a.claim()["id"] == job["id"]
    assert a.claim() is None


def test_a_claim_that_waits_gets_the_job_that_comes_into_another_log(a: Member, b: Member) -> None:
    a.register()
    with ThreadPoolExecutor(1) as pool:
        claim = claims(a, pool)
        job = b.enqueue()
        assert claim.result(PATIENCE_S).json["job"]["id"] == job["id"]
    assert a.seat.forwarded == [(b.node, "/v1/hosts/h1/claim")]


def test_of_two_claims_that_wait_one_gets_the_job_and_the_other_goes_on_waiting(a: Member, b: Member, c: Member) -> None:
    a.register("h1")
    a.register("h2")
    with ThreadPoolExecutor(2) as pool:
        waiting = {host_id: claims(member, pool, host_id) for host_id, member in (("h1", a), ("h2", c))}
        first = b.enqueue()
        until(lambda: any(claim.done() for claim in waiting.values()))
        until(lambda: len(a.inside.queue.parking) + len(c.inside.queue.parking) == 1)
        second = b.enqueue()
        jobs = {claim.result(PATIENCE_S).json["job"]["id"] for claim in waiting.values()}
    assert jobs == {first["id"], second["id"]}


def test_what_came_while_the_log_was_searched_is_found_without_further_news(a: Member, b: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "AGAIN_MS", 20)
    a.register()
    stale, late = b.enqueue(priority=2), b.enqueue(labels={"late": "1"})
    b.inside.followers = []
    for job in (stale, late):
        b.post(f"/v1/jobs/{job['id']}/cancel", {})
    with ThreadPoolExecutor(1) as pool:
        claim = pool.submit(a.post, "/v1/hosts/h1/claim", {"waitMs": 30_000})
        until(lambda: len(a.seat.forwarded) > 1)
        b.post(f"/v1/jobs/{late['id']}/retry", {})  # which its copies do not tell either
        assert claim.result(PATIENCE_S).json["job"]["id"] == late["id"]


def test_a_search_that_finds_nothing_ends_with_its_time(a: Member, b: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "AGAIN_MS", 20)
    a.register()
    job = b.enqueue()
    b.inside.followers = []
    b.post(f"/v1/jobs/{job['id']}/cancel", {})
    assert a.post("/v1/hosts/h1/claim", {"waitMs": 1_500}).json == {"job": None, "jobs": []}
    assert len(a.seat.forwarded) > 1


def test_the_same_claim_again_gets_the_same_lease_from_whoever_gave_it(a: Member, b: Member, c: Member) -> None:
    a.register(maxParallel=4)
    b.enqueue()
    first = a.post("/v1/hosts/h1/claim", {"claimId": "c1"}).json
    b.enqueue()
    assert [member.post("/v1/hosts/h1/claim", {"claimId": "c1"}).json["jobs"] for member in (a, b, c)] == [first["jobs"]] * 3


def test_room_is_counted_over_all_logs(a: Member, b: Member, c: Member) -> None:
    a.register(maxParallel=2)
    for member in (a, b, c):
        member.enqueue()
    assert [a.claim() is not None for _ in range(2)] == [True, True]
    assert c.post("/v1/hosts/h1/claim", {}).json == {"job": None, "jobs": [], "reason": "full"}


def test_the_newer_claim_of_a_host_ends_the_one_that_waits_after_a_search(a: Member, b: Member) -> None:
    a.register()
    job = b.enqueue()
    b.inside.followers = []
    b.post(f"/v1/jobs/{job['id']}/cancel", {})
    with ThreadPoolExecutor(1) as pool:
        claim = claims(a, pool)
        assert a.post("/v1/hosts/h1/claim", {}).json["job"] is None
        assert claim.result(PATIENCE_S).json == {"job": None, "jobs": []}


def left(member: Member, body: dict[str, Any]) -> Any:
    """A claim whose client is no longer there when the answer is."""
    gone = testing.TestClient(member.app, headers=TYPED)
    return gone.simulate_post("/v1/hosts/h1/claim", body=json.dumps(body), extras={"waitress.client_disconnected": lambda: True}).json


def test_jobs_of_another_coordinator_whose_claim_was_left_are_free_again_at_once(a: Member, b: Member) -> None:
    a.register()
    job = b.enqueue()
    assert left(a, {"claimId": "c1"}) == {"job": None, "jobs": []}
    assert events(b, job["id"]) == ["JobEnqueued", "JobLeased", "JobReleased"]
    assert a.claim()["id"] == job["id"]


def test_jobs_of_a_claim_that_was_left_and_made_again_are_not_given_back(
    a: Member, b: Member, c: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    a.register()
    job, forward = b.enqueue(), a.seat.forward

    def meanwhile(node: str, method: str, target: str, *more: Any) -> Any:
        if target.endswith("/release"):
            assert c.claim(claimId="c1")["id"] == job["id"]
        return forward(node, method, target, *more)

    monkeypatch.setattr(a.seat, "forward", meanwhile)
    left(a, {"claimId": "c1"})
    assert events(b, job["id"]) == ["JobEnqueued", "JobLeased"]


def test_a_claim_that_came_from_another_coordinator_takes_only_what_is_decided_here(a: Member, b: Member) -> None:
    b.register()
    a.enqueue(priority=9)
    own = b.enqueue()
    began = time.monotonic()
    assert b.post("/v1/hosts/h1/claim", {"waitMs": 30_000}, x_skyclaw_tried="x").json["job"]["id"] == own["id"]
    assert b.post("/v1/hosts/h1/claim", {"waitMs": 30_000}, x_skyclaw_tried="x").json["job"] is None
    assert b.seat.forwarded == []
    assert time.monotonic() - began < 25

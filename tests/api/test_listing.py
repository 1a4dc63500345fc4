"""GET /v1/jobs: filters, orders and pages."""

from typing import Any

import pytest

from api import listing
from tests.api.in_process import Client, InProcess


@pytest.fixture
def mixed(client: Client, inside: InProcess) -> dict[str, str]:
    """Jobs by name: two finished in the opposite order of their age, one cancelled, one leased, two queued."""
    client.register(maxParallel=9)
    ids = {}
    for name in ("first", "second", "third", "fourth", "fifth", "sixth"):
        inside.now += 1000
        ids[name] = client.enqueue(labels={"name": name, "half": "lower" if name in ("first", "second", "third") else "upper"})["id"]
    claimed = [client.claim() for _ in range(3)]
    client.complete(claimed[1], success=False, exitCode=1)
    client.complete(claimed[0])
    client.post(f"/v1/jobs/{ids['fourth']}/cancel")
    return ids


def names(client: Client, query: str) -> list[str]:
    return [job["labels"]["name"] for job in client.expect(200, client.get(f"/v1/jobs?{query}"))["jobs"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["sixth", "fifth", "fourth", "third", "second", "first"]),
        ("status=queued", ["sixth", "fifth"]),
        ("status=leased", ["third"]),
        ("status=queued,leased", ["sixth", "fifth", "third"]),
        ("status=completed", ["first"]),
        ("status=failed", ["second"]),
        ("status=completed,failed,cancelled", ["fourth", "first", "second"]),
        ("status=queued,failed", ["sixth", "fifth", "second"]),
        ("label=half=lower", ["third", "second", "first"]),
        ("label=half=lower&status=completed,failed", ["first", "second"]),
        ("label=half=upper&label=name=fifth", ["fifth"]),
        ("label=half=upper&status=queued&limit=1", ["sixth"]),
        ("label=name=nobody", []),
        ("label=half=", []),
    ],
)
def test_jobs_are_filtered_the_newest_first(client: Client, mixed: dict[str, str], query: str, expected: list[str]) -> None:
    assert mixed
    assert names(client, query) == expected


@pytest.mark.parametrize(
    "query", ["", "status=queued,leased", "status=completed,failed,cancelled", "status=queued,failed", "label=half=lower"]
)
@pytest.mark.parametrize("limit", [1, 2, 4])
def test_pages_together_are_the_whole_list(client: Client, mixed: dict[str, str], query: str, limit: int) -> None:
    assert mixed
    found: list[Any] = []
    page = client.get(f"/v1/jobs?{query}&limit={limit}").json
    while "next" in page:
        assert len(page["jobs"]) <= limit
        found += page["jobs"]
        page = client.get(f"/v1/jobs?{query}&limit={limit}&after={page['next']}").json
    found += page["jobs"]
    assert found == client.get(f"/v1/jobs?{query}").json["jobs"]


def test_one_request_looks_at_so_many_jobs_only(client: Client, mixed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert mixed
    monkeypatch.setattr(listing, "MAX_LOOKED_AT", 4)
    page = client.get("/v1/jobs?label=name=first").json
    assert page["jobs"] == []
    assert [job["labels"]["name"] for job in client.get(f"/v1/jobs?label=name=first&after={page['next']}").json["jobs"]] == ["first"]


def often_retried(client: Client, inside: InProcess, jobs: int) -> list[str]:
    """So many jobs that failed nine times and then completed, in this order of their ends."""
    client.register()
    ids = []
    for _ in range(jobs):
        ids.append(client.enqueue(maxAttempts=10)["id"])
        for success in [False] * 9 + [True]:
            inside.pass_time(3_600_001)
            client.register()
            client.complete(client.claim(), success=success)
    return ids


@pytest.mark.parametrize(("status", "found"), [("failed", 0), ("completed", 12)])
def test_jobs_that_were_often_retried_are_passed_by_in_pages_that_read_little(
    client: Client, inside: InProcess, monkeypatch: pytest.MonkeyPatch, status: str, found: int
) -> None:
    often_retried(client, inside, 12)
    monkeypatch.setattr(listing, "MAX_LOOKED_AT", 50)
    read: list[str] = []
    stream = inside.stream
    monkeypatch.setattr(inside, "stream", lambda name, *where: read.append(name) or stream(name, *where))
    pages = [client.get(f"/v1/jobs?status={status}").json]
    while "next" in pages[-1]:
        pages.append(client.get(f"/v1/jobs?status={status}&after={pages[-1]['next']}").json)
    assert len(pages) == (1 if found else 3)  # of 108 failures, 50 at a time
    assert sum(len(page["jobs"]) for page in pages) == len(read) == found


def test_finished_jobs_are_listed_without_their_outputs(client: Client, mixed: dict[str, str]) -> None:
    assert mixed
    for query in ("", "status=completed"):
        result = client.get(f"/v1/jobs?{query}").json["jobs"][-1]["result"]
        assert set(result) == {"finishedAt", "durationMs", "exitCode"}


def test_a_listed_live_job_shows_its_soft_state(client: Client, mixed: dict[str, str], inside: InProcess) -> None:
    assert mixed
    inside.now += 5000
    client.post("/v1/hosts/h1/heartbeat", {})
    job = client.get("/v1/jobs?status=leased").json["jobs"][0]
    assert job["leaseExpiresAt"] == "2023-11-14T22:14:31.000Z"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=done", "status"),
        ("status=queued,", "status"),
        ("status=queued&status=failed", "status"),
        ("label=a", "label"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("after=x", "after"),
        ("after=all-x", "after"),
        ("after=ended-1", "after"),
        ("status=failed&after=all-1", "after"),
    ],
)
def test_a_wrong_query_is_refused(client: Client, query: str, field: str) -> None:
    answer = client.get(f"/v1/jobs?{query}")
    assert (answer.status, answer.json["code"], list(answer.json["details"])) == (400, "invalid", [field])

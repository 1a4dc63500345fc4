"""Reading at any coordinator: from its copies, which may be behind and say so; never "there is none" where another one may know better."""

from typing import Any

import pytest
from falcon import testing

from api.app import create_app
from api.parts import HealthSeen, Parts
from tests.api.in_process import SHELL, Answer, Client, InProcess, result
from tests.api.several import Member, Several, header

NOBODYS = "job_99999999-0000-4000-8000-000000000000"
BELOW = ("", "/log", "/events", "/explain")


def text_of(answer: Answer) -> str:
    """What was said, without who said it."""
    return answer.text.replace("node-0", "node").replace("node-1", "node")


def test_a_job_looks_the_same_at_every_coordinator_in_every_state(a: Member, b: Member) -> None:
    b.register()
    job = b.enqueue()
    for step in (lambda: None, b.claim, lambda: b.complete(job | {"assignedHostId": "h1"})):
        step()
        for below in BELOW:
            here, there = (member.get(f"/v1/jobs/{job['id']}{below}") for member in (a, b))
            assert (here.status, text_of(here)) == (200, text_of(there))
    assert a.get(f"/v1/jobs/{job['id']}").json["job"]["result"]["stdout"] == "out"
    assert a.seat.forwarded == []


@pytest.mark.parametrize("below", BELOW)
def test_a_job_that_a_copy_does_not_have_yet_is_asked_of_its_owner(a: Member, b: Member, below: str) -> None:
    b.inside.followers = []
    job = b.enqueue()
    here, there = (member.get(f"/v1/jobs/{job['id']}{below}?x=1") for member in (a, b))
    assert (here.status, here.text) == (200, there.text)
    assert here.headers["x-skyclaw-position"] == f"{b.tag}:1"
    assert a.seat.forwarded == [(b.node, f"/v1/jobs/{job['id']}{below}?x=1")]


@pytest.mark.parametrize("below", BELOW)
def test_a_job_that_its_owner_does_not_know_does_not_exist(a: Member, b: Member, below: str) -> None:
    answer = a.get(f"/v1/jobs/job_{b.tag}-0000-4000-8000-000000000000{below}")
    assert (answer.status, answer.json["code"]) == (404, "unknown_job")


@pytest.mark.parametrize("below", BELOW)
def test_a_job_of_a_log_that_nobody_knows_is_unknown_only_where_everything_is_known(a: Member, below: str) -> None:
    assert a.get(f"/v1/jobs/{NOBODYS}{below}").status == 404
    a.seat.ready = False
    answer = a.get(f"/v1/jobs/{NOBODYS}{below}")
    assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (503, "unavailable", "1")
    assert a.get(f"/v1/jobs/job_{a.tag}-0000-4000-8000-000000000000{below}").status == 404


def test_a_host_is_not_sent_to_register_again_by_a_coordinator_that_is_behind(a: Member) -> None:
    a.seat.ready = False
    for answer in (a.get("/v1/hosts/h1"), *(a.post(f"/v1/hosts/h1/{verb}", {}) for verb in ("heartbeat", "claim", "drain"))):
        assert (answer.status, answer.json["code"]) == (503, "unavailable")
    a.seat.ready = True
    assert a.post("/v1/hosts/h1/heartbeat", {}).json["code"] == "unknown_host"


def test_a_coordinator_that_is_behind_says_so_in_what_it_reads_itself(a: Member, b: Member) -> None:
    job_id = b.enqueue()["id"]
    a.seat.ready = False
    for path in (f"/v1/jobs/{job_id}", "/v1/jobs", "/v1/state", "/v1/hosts"):
        assert a.get(path).headers["x-skyclaw-stale"] == "true"
        assert "x-skyclaw-stale" not in b.get(path).headers
    assert "x-skyclaw-stale" not in a.get(f"/v1/jobs/{job_id}?consistent=1").headers


def test_a_job_is_read_with_the_position_of_its_log(a: Member, b: Member) -> None:
    b.register()
    job_id = b.enqueue()["id"]
    assert [a.get(f"/v1/jobs/{job_id}{below}").headers["x-skyclaw-position"] for below in BELOW] == [f"{b.tag}:2"] * 4
    assert "x-skyclaw-position" not in a.get("/v1/jobs").headers


def test_an_owner_that_is_cut_off_gives_no_consistent_read(a: Member, b: Member) -> None:
    job_id = b.enqueue()["id"]
    b.seat.cut_off = True
    for member in (a, b):
        answer = member.get(f"/v1/jobs/{job_id}?consistent=1")
        assert (answer.status, answer.json["code"]) == (503, "lost_contact")
    assert b.get(f"/v1/jobs/{job_id}").status == 200


def test_a_consistent_read_is_the_owners(a: Member, b: Member) -> None:
    job_id = b.enqueue()["id"]
    b.inside.followers = []
    b.post(f"/v1/jobs/{job_id}/cancel", {})
    statuses = [a.get(f"/v1/jobs/{job_id}{query}").json["job"]["status"] for query in ("", "?consistent=0", "?consistent=1")]
    assert statuses == ["queued", "queued", "cancelled"]
    assert b.get(f"/v1/jobs/{job_id}?consistent=1").json["job"]["status"] == "cancelled"
    assert a.get(f"/v1/jobs/{NOBODYS}?consistent=1").status == 404
    assert list(a.get(f"/v1/jobs/{job_id}?consistent=yes").json["details"]) == ["consistent"]


def test_what_is_stored_but_not_committed_is_not_shown(a: Member, b: Member) -> None:
    b.register()
    live, ended = b.enqueue()["id"], b.enqueue()["id"]
    b.post(f"/v1/jobs/{ended}/cancel", {})
    before = [a.get(f"/v1/jobs/{job_id}/events").json for job_id in (live, ended)]
    listed, state = a.get("/v1/jobs").json, a.get("/v1/state").json
    b.inside.followers = []
    b.post(f"/v1/jobs/{ended}/retry", {})
    b.post(f"/v1/jobs/{live}/cancel", {})
    b.enqueue()
    a.inside.records += b.inside.records[len(before[0]["events"]) + len(before[1]["events"]) + 1 :]  # stored, and perhaps replaced soon
    assert [a.get(f"/v1/jobs/{job_id}/events").json for job_id in (live, ended)] == before
    assert a.get(f"/v1/jobs/{ended}").json["job"]["status"] == "cancelled"
    assert [job["id"] for job in a.get("/v1/jobs").json["jobs"]] == [job["id"] for job in listed["jobs"]]
    assert a.get("/v1/state").json == state


@pytest.fixture
def spread(three: Several) -> list[str]:
    """The ids of nine jobs, three in each log, one a second, of which one in each log was cancelled; the oldest first."""
    ids = []
    for number in range(9):
        for member in three.members:
            member.inside.now += 1000
        ids.append(three.members[number % 3].enqueue(labels={"third": str(number // 3)})["id"])
    for member, job_id in zip(three.members, ids[3:6], strict=True):
        member.post(f"/v1/jobs/{job_id}/cancel", {})
    return ids


def test_jobs_of_all_logs_are_listed_the_newest_first(a: Member, spread: list[str]) -> None:
    assert [job["id"] for job in a.get("/v1/jobs").json["jobs"]] == spread[::-1]
    assert [job["id"] for job in a.get("/v1/jobs?status=queued").json["jobs"]] == spread[:5:-1] + spread[2::-1]
    assert {job["id"] for job in a.get("/v1/jobs?status=cancelled").json["jobs"]} == set(spread[3:6])
    assert [job["id"] for job in a.get("/v1/jobs?label=third=0").json["jobs"]] == spread[2::-1]


@pytest.mark.parametrize("query", ["", "status=queued", "status=cancelled,failed", "label=third=1"])
@pytest.mark.parametrize("limit", [1, 2, 4])
def test_pages_over_all_logs_are_the_whole_list_at_whichever_coordinator_they_are_read(
    three: Several, spread: list[str], query: str, limit: int
) -> None:
    whole = [job["id"] for job in three.members[0].get(f"/v1/jobs?{query}").json["jobs"]]
    found, after, turn = list[str](), "", 0
    while True:
        page = three.members[turn % 3].get(f"/v1/jobs?{query}&limit={limit}{after}").json
        found += [job["id"] for job in page["jobs"]]
        if "next" not in page:
            break
        after, turn = f"&after={page['next']}", turn + 1
    assert found == whole


def test_a_page_is_not_disturbed_by_what_comes_after_the_first_and_by_clocks_that_differ(a: Member, b: Member, spread: list[str]) -> None:
    b.inside.now -= 3_600_000
    spread.insert(0, b.enqueue()["id"])  # the newest of its log, and the oldest by its time: what is older in its log comes after it
    page = a.get("/v1/jobs?limit=4").json
    a.enqueue()
    rest = a.get(f"/v1/jobs?after={page['next']}").json["jobs"]
    ids = [job["id"] for job in page["jobs"] + rest]
    assert sorted(ids) == sorted(spread)


@pytest.mark.parametrize(
    "cursor", ["all-5", "all", "all-aaaaaaaa", "all-aaaaaaaa.x", "all-AAAAAAAA.1", "live-aaaaaaaa.1", "all-aaaaaaaa.1-"]
)
def test_a_cursor_of_another_making_is_refused(a: Member, cursor: str) -> None:
    answer = a.get(f"/v1/jobs?after={cursor}")
    assert (answer.status, list(answer.json["details"])) == (400, ["after"])


def test_the_state_shows_all_logs(a: Member, spread: list[str]) -> None:
    a.register()
    state = a.get("/v1/state").json
    assert [job["id"] for job in state["jobs"]] == spread
    assert [host["id"] for host in state["hosts"]] == ["h1"]


def witness(a: Member) -> Client:
    """A coordinator without a log of its own, which has copies and asks as `a` does."""
    client = Client(a.inside, cluster=a.seat)
    parts = Parts(a.inside, a.inside.archive, "w", None, (), lambda: 0, lambda: HealthSeen(ok=True, ready=True), cluster=a.seat)
    client.app = create_app(parts)
    client._client = testing.TestClient(client.app)
    return client


def test_a_witness_has_no_log_and_takes_jobs_into_one_that_somebody_owns(three: Several, a: Member, b: Member) -> None:
    for member in three.members[1:]:
        member.register(f"of-{member.tag}")  # so that there is something in their logs
    a.inside.queue.disown(a.tag)
    three.owners = {b.tag: b.node}
    here = witness(a)
    assert here.get("/health").json["log"] is None
    first = here.post("/v1/jobs", {"payload": SHELL}, x_idempotency_key="k").json["job"]
    assert first["id"][4:12] == b.tag
    assert here.post("/v1/jobs", {"payload": SHELL}, x_idempotency_key="k").json["job"]["id"] == first["id"]
    assert {job["id"][4:12] for job in here.post("/v1/jobs/batch", {"jobs": [{"payload": SHELL}] * 2}).json["jobs"]} == {b.tag}
    assert here.register("h2")["id"] == "h2"
    claimed: Any = here.claim("h2")
    assert here.post("/v1/hosts/h2/results", {"results": [{"jobId": claimed["id"], **result()}]}).json["results"][0]["ok"]
    three.owners = {}
    assert here.post("/v1/jobs", {"payload": SHELL}).json["code"] == "unavailable"


def test_a_read_that_came_from_another_coordinator_says_what_is_known_here(a: Member, b: Member) -> None:
    job_id = b.enqueue()["id"]
    answer = a.get(f"/v1/jobs/{job_id}", x_skyclaw_tried=header(b.node))
    assert answer.json["job"]["status"] == "queued"


def test_alone_a_coordinator_speaks_of_no_others() -> None:
    client = Client(InProcess())
    job = client.enqueue()
    headers = client.get(f"/v1/jobs/{job['id']}?consistent=1").headers
    assert not {"x-skyclaw-stale", "x-skyclaw-position"} & headers.keys()
    answer = client.get(f"/v1/jobs/{NOBODYS}?consistent=1")
    assert (answer.status, answer.json["code"]) == (404, "unknown_job")

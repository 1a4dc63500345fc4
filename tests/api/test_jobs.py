"""The routes about jobs, in front of the real queue."""

from typing import Any

import pytest

from skyclaw.answers import JobSeen
from skyclaw.scheduling.turn import Rules
from tests.api.in_process import SHELL, TAG, Client, InProcess, result

NOBODY = f"job_{TAG}-0000-4000-8000-000000000000"


def test_a_job_is_found_by_its_id_in_every_state(client: Client) -> None:
    client.register()
    job_id = client.enqueue()["id"]
    path = f"/v1/jobs/{job_id}"
    assert client.get(path).json["job"]["status"] == "queued"
    claimed = client.claim()
    leased = client.get(path).json["job"]
    assert (leased["status"], leased["leaseExpiresAt"]) == ("leased", "2023-11-14T22:14:20.000Z")
    assert "leaseToken" not in leased
    client.complete(claimed)
    finished = client.get(path).json["job"]
    assert (finished["status"], finished["result"]["stdout"]) == ("completed", "out")


def test_a_job_that_no_host_can_run_says_so(client: Client) -> None:
    client.register()
    jobs = [client.enqueue(requirement={"requiredCapabilities": [name]}) for name in ("gpu", "shell")]
    shown = [client.get(f"/v1/jobs/{job['id']}").json["job"].get("unschedulable") for job in jobs]
    assert shown == [True, None]


@pytest.mark.parametrize("job_id", [NOBODY, "job_x", "..", "a" * 300, "%e2%80%ae"])
@pytest.mark.parametrize("below", ["", "/log", "/events", "/explain"])
def test_an_unknown_job_is_not_found(client: Client, job_id: str, below: str) -> None:
    answer = client.get(f"/v1/jobs/{job_id}{below}")
    assert (answer.status, answer.json["code"]) == (404, "unknown_job")
    assert answer.text.isascii()
    assert len(answer.text) < 250


@pytest.mark.parametrize("order", ["cancel", "retry"])
def test_an_order_for_an_unknown_job_is_not_found(client: Client, order: str) -> None:
    assert client.post(f"/v1/jobs/{NOBODY}/{order}").json["error"] == f"unknown job: {NOBODY}"


def test_a_batch_is_accepted_in_its_order(client: Client) -> None:
    client.register()
    jobs = [{"payload": {**SHELL, "args": [str(number)]}} for number in range(3)]
    answer = client.post("/v1/jobs/batch", {"jobs": jobs})
    assert [job["payload"]["args"] for job in answer.json["jobs"]] == [["0"], ["1"], ["2"]]
    assert [client.claim()["payload"]["args"] for _ in jobs] == [["0"], ["1"], ["2"]]


def test_a_full_queue_takes_no_more_and_none_of_a_batch() -> None:
    client = Client(InProcess(Rules(max_queued=2)))
    answer = client.post("/v1/jobs/batch", {"jobs": [{"payload": SHELL}] * 3})
    assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (429, "queue_full", "5")
    assert client.get("/v1/jobs").json == {"jobs": []}
    assert client.post("/v1/jobs/batch", {"jobs": [{"payload": SHELL}] * 2}).status == 200
    assert client.post("/v1/jobs", {"payload": SHELL}).status == 429


def test_a_result_is_taken_once_and_its_repetition_is_a_duplicate(client: Client) -> None:
    client.register()
    client.enqueue()
    job = client.claim()
    first = client.complete(job, leaseToken=job["leaseToken"])
    second = client.complete(job, leaseToken=job["leaseToken"])
    assert "duplicate" not in first.json
    assert second.json == {"job": first.json["job"], "duplicate": True}


def test_what_a_host_tells_beyond_the_result_is_kept_with_it(client: Client) -> None:
    client.register()
    client.enqueue()
    more = {"signal": None, "stdoutBytes": 3, "exit_code": "x", "job_id": 1, "finishedAt": "never", "deep": {"a": [1.5]}}
    shown = client.complete(client.claim(), **more).json["job"]["result"]
    assert shown == {**more, "finishedAt": "2023-11-14T22:13:20.000Z", "durationMs": 12, "exitCode": 0, "stdout": "out", "stderr": "err"}


def test_results_that_are_not_awaited_are_refused(client: Client) -> None:
    client.register()
    client.register("h2")
    job = client.enqueue()
    path = f"/v1/jobs/{job['id']}/complete"
    assert client.post(path, {"hostId": "h1", **result()}).json["code"] == "not_leased"
    claimed = client.claim()
    assert client.post(path, {"hostId": "h2", **result()}).json["error"] == f"job {job['id']} is assigned to h1"
    stale = client.complete(claimed, leaseToken="0.0.x/1")
    assert (stale.status, stale.json["code"]) == (409, "stale_attempt")
    nobody = client.post(path, {"hostId": "h9", **result()})
    assert (nobody.status, nobody.json["code"]) == (404, "unknown_host")
    unknown = client.post(f"/v1/jobs/{NOBODY}/complete", {"hostId": "h1", **result()})
    assert (unknown.status, unknown.json["code"]) == (404, "unknown_job")


def test_a_job_given_back_is_queued_again_at_once(client: Client) -> None:
    client.register()
    client.enqueue()
    job = client.claim()
    released = client.post(f"/v1/jobs/{job['id']}/release", {"hostId": "h1", "leaseToken": job["leaseToken"], "reason": "drained"})
    assert (released.json["job"]["status"], released.json["job"]["attempts"]) == ("queued", 1)
    assert client.claim()["id"] == job["id"]


def test_a_cancelled_job_can_be_run_again_but_not_cancelled_again(client: Client) -> None:
    client.register()
    path = f"/v1/jobs/{client.enqueue()['id']}"
    assert client.post(f"{path}/retry", {}).json["code"] == "not_finished"
    assert client.post(f"{path}/cancel", {}).json["job"]["status"] == "cancelled"
    again = client.post(f"{path}/cancel", {})
    assert (again.status, again.json["code"]) == (409, "already_finished")
    assert client.claim() is None
    assert client.post(f"{path}/retry", {}).json["job"]["status"] == "queued"
    assert client.claim() is not None


def test_a_completed_job_is_not_run_again(client: Client) -> None:
    client.register()
    client.enqueue()
    job = client.complete(client.claim()).json["job"]
    assert client.post(f"/v1/jobs/{job['id']}/retry").status == 409


def test_waiting_for_a_finished_job_ends_at_once(client: Client) -> None:
    client.register()
    client.enqueue()
    job = client.complete(client.claim()).json["job"]
    assert client.get(f"/v1/jobs/{job['id']}?waitMs=30000").json == {"job": job}


def test_waiting_for_a_job_ends_after_its_time(client: Client) -> None:
    client.register()
    job = client.enqueue()
    assert client.get(f"/v1/jobs/{job['id']}?waitMs=20").json == {"job": job}


def test_when_too_many_wait_the_next_one_is_told_to_come_back() -> None:
    client = Client(InProcess(Rules(max_parked=0)))
    client.register()
    job = client.enqueue()
    answer = client.get(f"/v1/jobs/{job['id']}?waitMs=30000").json
    assert answer["job"] == job
    assert 500 <= answer["retryAfterMs"] <= 1500


@pytest.mark.parametrize(
    "query", ["waitMs=-1", "waitMs=30001", "waitMs=1e3", "waitMs=%2B5", "waitMs=", "waitMs=%D9%A3", "waitMs=1&waitMs=2"]
)
def test_a_wrong_waiting_time_is_refused(client: Client, query: str) -> None:
    answer = client.get(f"/v1/jobs/{NOBODY}?{query}")
    assert (answer.status, list(answer.json["details"])) == (400, ["waitMs"])


def test_output_is_read_from_where_one_left_off(client: Client) -> None:
    client.register()
    job = client.enqueue()
    path = f"/v1/jobs/{job['id']}/log"
    assert client.get(path).json == {"jobId": job["id"], "stdout": "", "stderr": "", "finished": False}
    client.complete(client.claim(), stdout="é1\n2\n", stderr="e")
    assert client.get(path).json == {"jobId": job["id"], "stdout": "é1\n2\n", "stderr": "e", "finished": True}
    part = client.get(f"{path}?stream=stdout&after=3").json
    assert part == {"jobId": job["id"], "stream": "stdout", "text": "2\n", "next": 5, "finished": True}
    assert client.get(f"{path}?stream=stderr").json["text"] == "e"
    assert client.get(f"{path}?stream=stdout&after=99").json["text"] == ""


@pytest.mark.parametrize("query", ["stream=both", "stream=", "after=-1&stream=stdout", "after=x&stream=stdout"])
def test_a_wrong_question_for_output_is_refused(client: Client, query: str) -> None:
    assert client.get(f"/v1/jobs/{client.enqueue()['id']}/log?{query}").status == 400


def test_the_events_of_a_job_tell_its_story(client: Client) -> None:
    client.register()
    client.enqueue()
    job = client.complete(client.claim()).json["job"]
    events = client.get(f"/v1/jobs/{job['id']}/events").json["events"]
    assert [event["type"] for event in events] == ["JobEnqueued", "JobLeased", "JobCompleted"]
    assert [event["seq"] for event in events] == [2, 3, 4]
    assert events[0]["at"] == "2023-11-14T22:13:20.000Z"
    assert (events[0]["version"], events[0]["data"]["payload"]) == (1, '{"kind":"shell","command":"true"}')


def test_why_a_job_waits_is_explained_host_by_host(client: Client) -> None:
    client.register()
    job = client.enqueue(requirement={"requiredCapabilities": ["gpu"]})
    said = client.get(f"/v1/jobs/{job['id']}/explain").json
    assert said == {
        "jobId": job["id"],
        "status": "queued",
        "reasons": ["no host has gpu"],
        "hosts": [{"hostId": "h1", "name": "h1", "can": False, "reason": "lacks gpu"}],
    }


def test_a_lost_lease_is_counted_and_an_attempt_without_result_explained(client: Client, inside: InProcess) -> None:
    client.register()
    client.enqueue(payload={"kind": "openclaw-run"})
    job = client.claim()
    inside.pass_time(60_001)
    lost: Any = client.get(f"/v1/jobs/{job['id']}").json["job"]
    assert (lost["status"], lost["reason"], lost["error"]) == ("failed", "exhausted", "its lease was lost once")
    assert "result" not in lost


def test_a_renewed_lease_shows_its_present_end(client: Client, inside: InProcess) -> None:
    client.register()
    client.enqueue()
    job = client.claim()
    inside.pass_time(10_000)
    client.post("/v1/hosts/h1/heartbeat", {})
    assert client.get(f"/v1/jobs/{job['id']}").json["job"]["leaseExpiresAt"] == "2023-11-14T22:14:30.000Z"
    seen: JobSeen = inside.queue.books.see_job(inside.queue.books.job(job["id"]))
    assert seen.lease_end == inside.now + 60_000

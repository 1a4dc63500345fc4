"""GET /v1/state: everything live and the latest finished jobs in one document."""

import pytest

from api import state
from skyclaw.records import Record
from tests.api.in_process import Client, InProcess


def finish(client: Client, inside: InProcess, stdout: str) -> str:
    inside.now += 1000
    job_id: str = client.enqueue()["id"]
    client.complete(client.claim(), stdout=stdout, stderr="")
    return job_id


def test_jobs_are_shown_by_the_time_they_were_created(client: Client, inside: InProcess) -> None:
    client.register()
    ids = [finish(client, inside, "a"), finish(client, inside, "b")]
    for _ in range(2):
        inside.now += 1000
        ids.append(client.enqueue()["id"])
    assert [job["id"] for job in client.get("/v1/state").json["jobs"]] == ids


def test_the_latest_finished_jobs_keep_their_outputs_as_far_as_these_fit(
    client: Client, inside: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "MAX_OUTPUTS", 25)
    client.register()
    for _ in range(5):
        finish(client, inside, "x" * 10)
    shown = [job["result"].get("stdout") for job in client.get("/v1/state").json["jobs"]]
    assert shown == [None, None, None, "x" * 10, "x" * 10]


def test_all_outputs_are_shown_when_they_fit(client: Client, inside: InProcess) -> None:
    client.register()
    for number in range(5):
        finish(client, inside, str(number))
    assert [job["result"]["stdout"] for job in client.get("/v1/state").json["jobs"]] == ["0", "1", "2", "3", "4"]


def test_each_finished_job_is_read_once_however_often_it_was_retried(
    client: Client, inside: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.register()
    ids = []
    for number in range(3):
        ids.append(client.enqueue(maxAttempts=10)["id"])
        for success in [False] * 9 + [True]:
            inside.pass_time(3_600_001)
            client.register()
            client.complete(client.claim(), success=success, stdout=str(number))
    read: list[str] = []
    stream = inside.stream
    monkeypatch.setattr(inside, "stream", lambda name, *where: read.append(name) or stream(name, *where))
    monkeypatch.setattr(inside, "newest", None)
    assert [job["result"]["stdout"] for job in client.get("/v1/state").json["jobs"]] == ["0", "1", "2"]
    assert read == ids[::-1]


def test_a_job_that_goes_on_while_it_is_looked_up_is_shown_as_it_was(
    client: Client, inside: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.register()
    job_id = client.enqueue()["id"]
    client.complete(client.claim(), success=False)
    stream = inside.stream

    def stream_after_a_retry(name: str, *where: int | None) -> list[Record]:
        monkeypatch.setattr(inside, "stream", stream)
        client.post(f"/v1/jobs/{job_id}/retry")
        return stream(name, *where)

    monkeypatch.setattr(inside, "stream", stream_after_a_retry)
    [shown] = client.get("/v1/state").json["jobs"]
    assert (shown["status"], "stdout" in shown["result"]) == ("failed", False)


def test_a_cancelled_job_is_shown_without_a_result(client: Client) -> None:
    job = client.enqueue()
    client.post(f"/v1/jobs/{job['id']}/cancel")
    [shown] = client.get("/v1/state").json["jobs"]
    assert (shown["status"], shown["reason"], "result" in shown) == ("cancelled", "requested", False)


def test_a_job_that_runs_again_is_shown_once(client: Client, inside: InProcess) -> None:
    client.register()
    job = client.enqueue()
    client.post(f"/v1/jobs/{job['id']}/cancel")
    client.post(f"/v1/jobs/{job['id']}/retry")
    assert [job["status"] for job in client.get("/v1/state").json["jobs"]] == ["queued"]
    assert inside.records

"""/v1/import, in front of the real queue: records as coordinators of the TypeScript version show them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api.bodies import REPLICATE_LIMIT
from tests.api.in_process import TAG, Client, InProcess
from tests.api.several import several

STATE: dict[str, Any] = json.loads((Path(__file__).parents[2] / "fixtures" / "typescript" / "state.json").read_text(encoding="utf-8"))
PAGE = {"source": STATE["nodeId"], "hosts": STATE["hosts"], "jobs": STATE["jobs"]}
OLD = "job_00000000-92ac-4000-8000-0123456789ab"


def bring(client: Client, **page: Any) -> Any:
    return client.expect(200, client.post("/v1/import", {**PAGE, **page} if not page else {"source": "node-a", **page}))


def here(former: str, log: str = TAG) -> str:
    """The id that a job has once it was taken over."""
    return f"job_{log}{former[12:]}"


def record(job_id: str = OLD, **more: Any) -> dict[str, Any]:
    return {
        "id": job_id,
        "status": "queued",
        "createdAt": "2026-11-20T12:20:05.000Z",
        "payload": {"kind": "shell", "command": "true"},
        **more,
    }


def test_everything_is_taken_over_once(client: Client, inside: InProcess) -> None:
    said = bring(client)
    assert said["new"] == {"jobs": [job["id"] for job in STATE["jobs"]], "hosts": [host["id"] for host in STATE["hosts"]]}
    assert (said["refused"], said["log"]) == ([], TAG)
    count = len(inside.records)
    assert bring(client)["new"] == {"jobs": [], "hosts": []}
    assert len(inside.records) == count


def test_nothing_comes_twice_even_when_its_keys_are_forgotten_and_memory_has_let_it_go(client: Client, inside: InProcess) -> None:
    bring(client)
    inside.pass_time(2 * 86_400_000)
    state = inside.queue.books.home.state
    assert len(state.keys) == 0
    state.recent.clear()
    assert bring(client)["new"]["jobs"] == []


def test_hosts_are_as_they_were_registered(client: Client, inside: InProcess) -> None:
    bring(client)
    inside.pass_time(16_000)
    for host in STATE["hosts"]:
        seen = client.get(f"/v1/hosts/{host['id']}").json["host"]
        assert {name: seen[name] for name in ("name", "capabilities", "maxParallel")} == {
            name: host[name] for name in ("name", "capabilities", "maxParallel")
        }
        assert (seen["online"], seen["activeLeases"]) == (False, 0)


def test_jobs_that_wait_keep_what_was_asked_and_who_asked(client: Client) -> None:
    bring(client)
    for job in STATE["jobs"]:
        if job["status"] in ("queued", "leased"):
            seen = client.get(f"/v1/jobs/{here(job['id'])}").json["job"]
            assert (seen["status"], seen["attempts"]) == ("queued", 0)
            assert {name: seen.get(name) for name in ("payload", "requirement", "submittedBy")} == {
                name: job.get(name) for name in ("payload", "requirement", "submittedBy")
            }
            assert seen["labels"]["imported-id"] == job["id"]
            assert seen["labels"]["imported-from"] == "node-a"
            assert seen["labels"]["imported-created-at"] == job["createdAt"]


def test_a_host_gets_them(client: Client) -> None:
    bring(client)
    host = client.register("kitchen", capabilities=["shell", "gpu", "openclaw"], maxParallel=9)
    jobs = client.post(f"/v1/hosts/{host['id']}/claim", {"max": 9}).json["jobs"]
    assert {job["labels"]["imported-id"] for job in jobs} == {job["id"] for job in STATE["jobs"] if job["status"] in ("queued", "leased")}


def test_finished_jobs_are_history_with_their_results(client: Client) -> None:
    bring(client)
    finished = [job for job in STATE["jobs"] if job["status"] in ("completed", "failed")]
    assert len(finished) == 4
    for job in finished:
        seen = client.get(f"/v1/jobs/{here(job['id'])}").json["job"]
        assert [seen.get(name) for name in ("status", "error", "assignedHostId", "payload")] == [
            job.get(name) for name in ("status", "error", "assignedHostId", "payload")
        ]
        result = {name: seen["result"][name] for name in ("durationMs", "exitCode", "stdout", "stderr")}
        assert result == {name: job["result"][name] for name in result}
        assert seen["result"]["importedFinishedAt"] == job["result"]["finishedAt"]
    listed = client.get("/v1/jobs?status=completed,failed").json["jobs"]
    assert {job["id"] for job in listed} == {here(job["id"]) for job in finished}


def test_a_finished_job_may_be_queued_again(client: Client) -> None:
    bring(client)
    failed = next(job for job in STATE["jobs"] if job["status"] == "failed")
    assert client.post(f"/v1/jobs/{here(failed['id'])}/retry", {}).json["job"]["status"] == "queued"
    assert bring(client)["new"]["jobs"] == []


def test_a_record_that_is_not_understood_is_named_and_spoils_no_other(client: Client) -> None:
    def other(number: int) -> str:
        return f"job_00000000-0000-4000-8000-{number:012d}"

    wrong = [
        (record(other(1), status="paused"), 'status must be one of queued, leased, completed, failed, not "paused"'),
        (record(other(2), payload={}), "payload.kind is required"),
        (
            record(other(3), payload={"kind": "shell", "command": "x", "env": {"LD_PRELOAD": "x"}}),
            "payload.env must have names that a job may set",
        ),
        (record(other(4), payload={"kind": "shell", "command": "x", "args": ["a\0b"]}), "payload must not contain the character NUL"),
        (record(other(5), requirement={"requiredCapabilities": ["no good"]}), "must consist of names of at most 64"),
        (record("job_1"), 'id must be the id of a job, not "job_1"'),
        ({"status": "queued"}, "must be an object with an id"),
        (7, "must be an object with an id"),
    ]
    said = bring(
        client, jobs=[*(one for one, _ in wrong), record()], hosts=[{"id": "h", "name": ""}, {"id": "h2", "name": "h2", "maxParallel": 0}]
    )
    assert said["new"] == {"jobs": [OLD], "hosts": []}
    sentences = [one["error"] for one in said["refused"]]
    assert sentences[:2] == ["name is required", "maxParallel must be a whole number from 1 to 256, not 0"]
    for sentence, (_, expected) in zip(sentences[2:], wrong, strict=True):
        assert sentence.startswith(expected)
    assert [one["id"] for one in said["refused"]][2:] == [other(1), other(2), other(3), other(4), other(5), "job_1", "", ""]


ODD: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no result": lambda job: job.pop("result", None),
    "a result of another shape": lambda job: job.update(result=[1], assignedHostId=["x"], error={"a": 1}, requirement=[]),
    "figures that are none": lambda job: job.update(result={"durationMs": "7", "exitCode": None, "stdout": 5, "finishedAt": 9}),
    "a payload that would be refused today": lambda job: job.update(payload={"kind": "Odd Kind", "timeoutMs": -1}),
    "an error that is a novel": lambda job: job.update(error="x" * 9_999),
}


@pytest.mark.parametrize("spoil", ODD.values(), ids=ODD)
@pytest.mark.parametrize("status", ["completed", "failed"])
def test_history_is_taken_as_far_as_it_goes(client: Client, spoil: Callable[[dict[str, Any]], Any], status: str) -> None:
    job = record(status=status, result={"durationMs": 1, "exitCode": 0, "stdout": "", "stderr": ""}, assignedHostId="h1")
    spoil(job)
    assert bring(client, jobs=[job])["refused"] == []
    seen = client.get(f"/v1/jobs/{here(OLD)}").json["job"]
    assert seen["status"] == status
    assert len(seen.get("error", "")) <= 4096


def test_outputs_as_large_as_the_typescript_version_keeps_them_pass(client: Client) -> None:
    result = {"durationMs": 1, "exitCode": 0, "stdout": "\u2713" * 128_000, "stderr": "\x1b\x00" * 60_000}
    assert bring(client, jobs=[record(status="completed", result=result)])["refused"] == []
    assert client.get(f"/v1/jobs/{here(OLD)}/log").json["stderr"] == result["stderr"]


@pytest.mark.parametrize(
    "page", [{"jobs": [record()] * 501}, {"jobs": {}}, {"hosts": 7}, {"services": []}, {"source": ""}, {"source": None}]
)
def test_a_page_has_a_form(client: Client, inside: InProcess, page: dict[str, Any]) -> None:
    answer = client.post("/v1/import", {"source": "node-a", **page})
    assert (answer.status, answer.json["code"]) == (400, "invalid")
    assert inside.asked == []


def test_a_page_has_a_largest_size(client: Client) -> None:
    assert client.post("/v1/import", b" " * (REPLICATE_LIMIT + 1)).status == 413


def test_whoever_does_not_own_the_log_passes_the_page_on() -> None:
    with several(2) as them:
        first, second = them.members
        said = bring(first, jobs=[record()])
        assert said["log"] == first.tag
        again = first.post("/v1/import", {"source": "node-a", "jobs": [record()]}, x_skyclaw_home=second.tag)
        assert again.json["new"]["jobs"] == []
        assert second.post("/v1/import", {"source": "node-a", "jobs": [record()]}).json["new"]["jobs"] == []
        new = record(OLD[:-1] + "0")
        elsewhere = first.expect(200, first.post("/v1/import", {"source": "node-a", "jobs": [new]}, x_skyclaw_home=second.tag))
        assert elsewhere["log"] == second.tag
        assert first.get(f"/v1/jobs/{here(new['id'], second.tag)}").json["job"]["status"] == "queued"

"""What befalls a real cluster in the course of time: a coordinator that hangs, one that lost its disk, restarts one after the other."""

import re
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from skyclaw.outside.coordinators import Coordinators
from tests.support.cluster import LEASE_MS, Cluster, Load, Member, running, shell, started
from tests.support.real_processes import TOKEN, HostProcess, wait_until

WRITES = 60
HANG_S = 10


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with started(Cluster(tmp_path, 3)) as cluster:
        yield cluster


def median_ms(client: Coordinators, name: str, during_s: float = 0.0) -> float:
    """How long a write takes in the middle; WRITES of them, or more if they are over before that time."""
    took: list[float] = []
    began = time.monotonic()
    while len(took) < WRITES or time.monotonic() - began < during_s:
        start = time.monotonic()
        client.post("/v1/jobs", shell("true"), f"{name}-{len(took)}")
        took.append(time.monotonic() - start)
        time.sleep(during_s / 1000)
    return statistics.median(took) * 1000


def test_a_coordinator_that_hangs_does_not_stop_the_writes_of_the_others(cluster: Cluster) -> None:
    own = Coordinators([cluster[0].url], TOKEN, patience_s=0)
    usual = median_ms(own, "usual")
    cluster[2].pause()
    hanging = median_ms(own, "hanging", HANG_S)
    cluster[2].resume()
    print(f"a write takes {usual:.1f} ms, while one of three hangs {hanging:.1f} ms")  # noqa: T201  # shown when the test fails
    assert cluster[0].owners()[cluster[0].log] == cluster[0].node
    cluster.wait_settled()
    cluster.wait_converged()
    assert len(cluster[2].jobs()) >= 2 * WRITES


def test_a_coordinator_that_lost_its_disk_comes_back_as_another_and_votes_in_place_of_the_former(cluster: Cluster) -> None:
    ids = {member.post("/v1/jobs", shell("true"))["job"]["id"] for member in cluster.members for _ in range(5)}
    cluster.wait_converged()
    lost, former, its_log = cluster[2], cluster[2].node, cluster[2].log
    lost.kill()
    lost.wipe()
    lost.start()
    assert (lost.node == former, lost.log == its_log) == (False, False)
    nodes = {member.node for member in cluster.members}
    logs = {its_log, *(member.log for member in cluster.members)}
    for member in cluster.members:
        wait_until(lambda m=member: m.configurations() == {log: [(nodes, 2)] for log in logs}, f"at {member.label} the new one votes")
    cluster.wait_converged()
    assert {job["id"] for job in lost.jobs()} == ids
    cluster[0].kill()  # the new one counts: without the first there are two copies because of it
    late = {cluster.client(1).post("/v1/jobs", shell("true"), f"late-{log}")["job"]["id"] for log in range(3)}
    assert ids | late <= {job["id"] for job in cluster[1].jobs()}


def test_a_restart_of_one_after_the_other_lets_no_write_fail_and_no_job_run_twice(tmp_path: Path, cluster: Cluster) -> None:
    host = HostProcess(tmp_path, *cluster.urls, SKYCLAW_MAX_PARALLEL=4, SKYCLAW_HEARTBEAT_MS=LEASE_MS // 10, SKYCLAW_POLL_MS=100)
    with running(host):
        load = Load(cluster, pause_s=0.1)
        load.start()
        load.wait_for_more(10)
        for member in cluster.members:
            member.restart()
            load.wait_for_more(10)
            cluster.wait_settled()
        load.stop()
        assert load.unanswered == set()
        cluster.wait_finished(load.ids)
        cluster.wait_converged()
        jobs = cluster[0].jobs()
        assert {job["id"] for job in jobs} == load.ids
        assert {(job["status"], job.get("losses", 0)) for job in jobs} == {("completed", 0)}
        runs = Counter(re.findall(r"running (job_\S+)", host.printed))
        assert runs == dict.fromkeys(load.ids, 1)


def test_nothing_is_lost_when_all_are_killed_at_once(cluster: Cluster) -> None:
    load = Load(cluster, pause_s=0.0)
    load.start()
    load.wait_for_more(60)
    for member in cluster.members:
        member.kill()
    cluster.start()
    load.wait_for_each()
    load.stop()
    cluster.wait_converged()
    jobs = cluster[0].jobs()
    assert load.ids <= {job["id"] for job in jobs}
    assert len(jobs) == len({job["labels"]["key"] for job in jobs})


def repeated(member: Member, path: str, body: object, **headers: str) -> tuple[int, dict[str, object]]:
    """The answer to a POST, when another one than 503 comes."""

    def answer() -> tuple[int, dict[str, object]] | None:
        said = member.session.post(member.url + path, json=body, headers=headers, timeout=30)
        return None if said.status_code == 503 else (said.status_code, said.json())

    found: tuple[int, dict[str, object]] = wait_until(answer, f"an answer of {member.label} to {path}")
    return found


def test_a_repetition_at_another_coordinator_has_no_effect_after_the_first_was_killed(cluster: Cluster) -> None:
    first, second, third = cluster.members
    home = {"x-skyclaw-home": first.log}
    one, key_one = shell("true"), {"x-idempotency-key": "one", **home}
    many, key_many = {"jobs": [shell("echo", str(number)) for number in range(3)]}, {"x-idempotency-key": "many", **home}
    enqueued, batch = first.post("/v1/jobs", one, **key_one), first.post("/v1/jobs/batch", many, **key_many)
    host = first.post("/v1/hosts/register", {"name": "h", "capabilities": ["shell"]})["host"]["id"]
    claimed = first.post(f"/v1/hosts/{host}/claim", {"claimId": "claim-1"})["job"]
    result = {
        "hostId": host,
        "leaseToken": claimed["leaseToken"],
        "success": True,
        "durationMs": 1,
        "exitCode": 0,
        "stdout": "s",
        "stderr": "",
    }
    complete, key_done = f"/v1/jobs/{claimed['id']}/complete", {"x-idempotency-key": "done"}
    completed = first.post(complete, result, **key_done)
    other = batch["jobs"][-1]["id"]
    cancel, key_cancel = f"/v1/jobs/{other}/cancel", {"x-idempotency-key": "cancel"}
    cancelled = first.post(cancel, {}, **key_cancel)
    first.kill()

    for member in (second, third):
        for path, body, key, said in (
            ("/v1/jobs", one, key_one, enqueued),
            ("/v1/jobs/batch", many, key_many, batch),
            (complete, result, key_done, completed),
            (cancel, {}, key_cancel, cancelled),
        ):
            status, again = repeated(member, path, body, **key)
            assert (status, without_reader(again)) == (200, without_reader(said)), path
        for path, body, key in (
            ("/v1/jobs", shell("false"), key_one),
            ("/v1/jobs/batch", {"jobs": [one]}, key_many),
            (complete, {**result, "stdout": "other"}, key_done),
        ):
            status, again = repeated(member, path, body, **key)
            assert (status, again["code"]) == (409, "idempotency_conflict"), path
        status, again = repeated(member, complete, {**result, "leaseToken": "0.1.nobody#00000000:1"})
        assert status in (400, 409), again
        assert (status, repeated(member, complete, result)[0]) == (status, 200)
    first.start()
    cluster.wait_converged()
    assert len(first.jobs()) == 4
    assert [dict(count) for count in cluster.completions()] == [{claimed["id"]: 1}] * 3


def without_reader(said: dict[str, object]) -> object:
    """An answer about jobs without the coordinator that gave it."""
    jobs = said.get("jobs") or [said["job"]]
    return [{name: value for name, value in job.items() if name not in ("updatedBy", "leaseExpiresAt")} for job in jobs]  # type: ignore[attr-defined]

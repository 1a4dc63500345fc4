"""Hosts of a real cluster: no job goes to two of them, and they lose nothing when their coordinator dies."""

from collections import Counter
from pathlib import Path

from tests.support.cluster import FINISHED, Cluster, running, shell, started
from tests.support.real_processes import HostProcess, wait_until

JOBS = 400


def test_four_hundred_jobs_claimed_in_parallel_at_two_coordinators_are_leased_once_each(tmp_path: Path) -> None:
    with started(Cluster(tmp_path, 2)) as cluster:
        batches = [member.post("/v1/jobs/batch", {"jobs": [shell("true")] * (JOBS // 4)}) for member in cluster.members * 2]
        ids = {job["id"] for batch in batches for job in batch["jobs"]}
        assert len(ids) == JOBS
        hosts = [
            HostProcess(tmp_path, member.url, name=f"at-{member.label}", SKYCLAW_MAX_PARALLEL=8, SKYCLAW_POLL_MS=100)
            for member in cluster.members
        ]
        with running(*hosts):
            cluster.wait_finished(ids, 90)
            cluster.wait_converged()
            for member in cluster.members:
                assert Counter(data["job_id"] for _, data in member.events("JobLeased")) == dict.fromkeys(ids, 1)
            jobs = cluster[0].jobs()
            assert {(job["status"], job["attempts"]) for job in jobs} == {("completed", 1)}
            assert len({job["assignedHostId"] for job in jobs}) == 2


def test_a_host_whose_coordinator_dies_goes_to_the_next_and_keeps_what_runs(tmp_path: Path) -> None:
    with started(Cluster(tmp_path, 3)) as cluster:
        host = HostProcess(tmp_path, *cluster.urls, name="wanderer", SKYCLAW_MAX_PARALLEL=4, SKYCLAW_HEARTBEAT_MS=300)
        with running(host):
            marks = [tmp_path / f"mark{number}" for number in range(2)]
            going = [
                cluster[number].post("/v1/jobs", shell("bash", "-c", f"echo ran >> {mark}; sleep 6; echo done"))["job"]["id"]
                for number, mark in enumerate(marks)
            ]  # one whose coordinator dies, and one of another
            wait_until(lambda: all(mark.exists() for mark in marks), "both jobs run")
            cluster[0].kill()
            following = cluster.client(1).post("/v1/jobs", shell("echo", "next"), "next")["job"]["id"]
            reader = cluster[1]

            def finished(job_id: str) -> dict[str, object] | None:
                job: dict[str, object] = reader.get(f"/v1/jobs/{job_id}")["job"]
                return job if job["status"] in FINISHED else None

            for job_id in [*going, following]:
                job = wait_until(lambda j=job_id: finished(j), f"{job_id} finishes")
                assert (job["status"], job["attempts"], job.get("losses", 0)) == ("completed", 1, 0)
            assert [mark.read_text() for mark in marks] == ["ran\n", "ran\n"]
            cluster[0].start()
            cluster.wait_converged()
            assert [dict(count) for count in cluster.completions()] == [dict.fromkeys([*going, following], 1)] * 3

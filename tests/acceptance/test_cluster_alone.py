"""What is left of a cluster when one coordinator is left: it shows what it knows, and accepts nothing that it could not keep."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from skyclaw.outside.coordinators import Coordinators
from tests.support.cluster import Cluster, Member, refused, shell, started
from tests.support.real_processes import TOKEN, wait_until


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with started(Cluster(tmp_path, 3)) as cluster:
        yield cluster


def ids(member: Member) -> set[str]:
    """The jobs that a coordinator lists."""
    answer = member.session.get(f"{member.url}/v1/jobs", timeout=20)
    return {job["id"] for job in answer.json()["jobs"]} if answer.ok else set()


def noted(member: Member) -> dict[str, int]:
    """How far the logs are committed, as it is on the disk of a coordinator."""
    return {str(log): int(seq) for log, seq in member.rows("SELECT log, seq FROM progress")}


def enqueue_everywhere(cluster: Cluster) -> set[str]:
    """A job in each log."""
    return {Coordinators([member.url], TOKEN).post("/v1/jobs", shell("true"))["job"]["id"] for member in cluster.members}


def test_one_that_is_started_alone_shows_what_was_there_and_accepts_nothing(cluster: Cluster) -> None:
    kept = enqueue_everywhere(cluster)
    wait_until(lambda: all(ids(member) == kept for member in cluster.members), "all three list all jobs")
    first = cluster[0]
    ends = {log: end for log, end, *_ in first.ends()}
    wait_until(lambda: noted(first) == ends, "the first has noted how far the logs are")
    for member in cluster.members:
        member.kill()
    first.start()
    wait_until(lambda: ids(first) == kept, "the first lists all jobs again")
    assert refused(lambda: Coordinators([first.url], TOKEN, patience_s=0).post("/v1/jobs", shell("true"))).status == 503
    assert any("has no owner" in sentence for sentence in first.health()["degraded"])


def test_one_that_is_left_behind_with_a_write_that_nobody_took_answers_questions(cluster: Cluster) -> None:
    kept = enqueue_everywhere(cluster)
    first = cluster[0]
    wait_until(lambda: ids(first) == kept, "the first lists all jobs")
    for member in cluster.members[1:]:
        member.pause()
    failure = refused(lambda: Coordinators([first.url], TOKEN, patience_s=0, timeout_s=20).post("/v1/jobs", shell("true")))
    assert failure.status == 503
    wait_until(lambda: ids(first) == kept, "the first lists what is committed, and nothing else")
    assert {job["id"] for job in first.get("/v1/state")["jobs"]} == kept
    for member in cluster.members[1:]:
        member.resume()
    cluster.wait_converged()
    patient = Coordinators([first.url], TOKEN, patience_s=30)
    assert patient.post("/v1/jobs", shell("true"))["job"]["status"] == "queued"

"""Real coordinators find each other, and writes wait for as many copies as were asked for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from skyclaw.outside.coordinators import Coordinators
from tests.support.cluster import Cluster, Member, refused, shell, started
from tests.support.real_processes import TOKEN, wait_until

SETTING = "SKYCLAW_MIN_REPLICATIONS=2"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three, of which two were told where the first is, and nothing else."""
    with started(Cluster(tmp_path_factory.mktemp("cluster"), 3)) as cluster:
        yield cluster


def known_to(member: Member) -> set[str]:
    """The addresses of the coordinators that it knows."""
    return set(member.get("/v1/network/peers")["peers"])


def described(member: Member) -> set[tuple[str, str, str, str | None]]:
    """The coordinators that it knows, as they said who they are."""
    return {(one["node"], one["label"], one["url"], one["log"]) for one in member.get("/v1/network/peers")["coordinators"]}


def test_three_become_one_cluster_through_one_address(cluster: Cluster) -> None:
    for member in cluster.members:
        others = {(other.node, other.label, other.url, other.log) for other in cluster.members if other is not member}
        wait_until(lambda m=member, known=others: described(m) == known, f"{member.label} knows the others")
        said = member.get("/v1/network/peers")
        assert (said["nodeId"], said["self"]) == (member.label, member.url)
        assert set(said["peers"]) == set(cluster.urls) - {member.url}


def test_three_vote_and_two_copies_are_kept_without_being_asked(cluster: Cluster) -> None:
    nodes = {member.node for member in cluster.members}
    for member in cluster.members:
        assert member.configurations() == {other.log: [(nodes, 2)] for other in cluster.members}
        assert member.health()["ready"] is True


def test_a_job_of_one_is_seen_at_all_and_at_once_where_it_is_asked_for(cluster: Cluster) -> None:
    for member in cluster.members:
        job = member.post("/v1/jobs", shell("true"))["job"]
        for other in cluster.members:
            assert other.get(f"/v1/jobs/{job['id']}")["job"]["status"] == "queued"
    assert len(cluster.wait_converged()) == 64
    assert len(cluster[1].jobs()) == 3


def test_a_fourth_joins_through_one_address_and_serves(cluster: Cluster) -> None:
    fourth = cluster.add([cluster[2]])
    fourth.start()
    wait_until(lambda: known_to(fourth) == set(cluster.urls) - {fourth.url}, "the fourth knows all")
    for member in cluster.members[:3]:
        wait_until(lambda m=member: fourth.url in known_to(m), f"{member.label} knows the fourth")
    wait_until(lambda: len(fourth.configurations().get(fourth.log, [])) == 1 and fourth.health()["ready"], "it is ready")
    ((voters, copies),) = wait_until(lambda: len(c := fourth.configurations()[fourth.log]) == 1 and len(c[0][0]) == 3 and c, "three vote")
    assert (fourth.node in voters, copies) == (True, 2)
    job = fourth.post("/v1/jobs", shell("true"))["job"]
    assert cluster[0].get(f"/v1/jobs/{job['id']}")["job"]["id"] == job["id"]
    cluster.wait_converged()


def test_writes_wait_for_the_copies_that_were_asked_for(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 2, SKYCLAW_MIN_REPLICATIONS=2)
    first, second = cluster.members
    client = Coordinators([first.url], TOKEN, patience_s=0)
    try:
        first.start()
        alone = refused(lambda: client.post("/v1/jobs", shell("true")))
        assert (alone.status, SETTING in str(alone)) == (503, True)
        health = first.health()
        assert (health["ok"], health["ready"]) == (True, False)
        assert any(SETTING in sentence for sentence in health["degraded"])

        second.start()
        cluster.wait_settled(voters=2, copies=2)
        patient = Coordinators([first.url], TOKEN, patience_s=30)
        kept = {patient.post("/v1/jobs", shell("true"))["job"]["id"] for _ in range(3)}
        wait_until(lambda: not first.health()["degraded"], "nothing is amiss at the first")

        second.kill()
        wait_until(lambda: first.health()["degraded"], "the first says that the second is missing")
        assert refused(lambda: client.post("/v1/jobs", shell("true"))).status == 503
        second.start()
        kept.add(patient.post("/v1/jobs", shell("true"))["job"]["id"])

        witness = cluster.add([first], SKYCLAW_WITNESS=1)
        witness.start()
        cluster.wait_settled(voters=3, copies=2)
        second.kill()
        kept |= {patient.post("/v1/jobs", shell("true"))["job"]["id"] for _ in range(3)}
        wait_until(lambda: kept <= {job["id"] for job in first.jobs()}, "the first knows all that was answered")
        assert witness.health()["log"] is None
    finally:
        cluster.end()

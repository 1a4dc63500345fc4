"""Three real coordinators and two hosts under load, while each coordinator in turn is killed, stopped or frozen, again and again."""

import itertools
import os
import sys
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, Load, Member, running, started
from tests.support.real_processes import ROOT, HostProcess

ROUNDS = int(os.environ.get("CLUSTER_ROUNDS", "20"))
DEEDS = ("kill", "freeze", "kill", "stop")
ANSWERED = 4  # writes that must be answered while one is away, or after it came back


def host(folder: Path, cluster: Cluster, number: int, **settings: object) -> HostProcess:
    """A host that begins with another coordinator than the next one."""
    urls = [*cluster.urls[number:], *cluster.urls[:number]]
    quick = {"SKYCLAW_MAX_PARALLEL": 4, "SKYCLAW_HEARTBEAT_MS": 300, "SKYCLAW_POLL_MS": 100}
    return HostProcess(folder, *urls, name=f"host{number}", **{**quick, **settings})


def strike(member: Member, deed: str, load: Load, *, taken_over: bool = True) -> None:
    """Take one away and bring it back, at once or when another one has taken over what it decided for."""
    if deed == "freeze":
        member.pause()
    elif deed == "kill":
        member.kill()
    else:
        member.stop()
    if taken_over:
        load.wait_for_each()
    else:
        load.wait_for_more(ANSWERED)
    if deed == "freeze":
        member.resume()
    else:
        member.start()
    load.wait_for_more(ANSWERED)


@pytest.mark.timeout(400)
def test_nothing_acknowledged_is_lost_and_each_job_is_completed_once(tmp_path: Path) -> None:
    with started(Cluster(tmp_path, 3)) as cluster, running(host(tmp_path, cluster, 0), host(tmp_path, cluster, 1)):
        load = Load(cluster, pause_s=0.2, timeout_s=4)  # it turns away soon from one that is frozen
        load.start()
        deeds = zip(itertools.cycle(cluster.members), itertools.cycle(DEEDS), strict=False)
        for number, (member, deed) in enumerate(itertools.islice(deeds, ROUNDS)):
            strike(member, deed, load, taken_over=number % 2 == 0)
        load.stop()
        cluster.wait_finished(load.ids)
        assert len(load.acknowledged) >= ANSWERED * ROUNDS
        cluster.wait_converged(30)
        jobs = cluster[0].jobs()
        assert lost(load, jobs) == []
        assert doubled(load, jobs) == []
        assert {job["status"] for job in jobs} == {"completed"}
        once = dict.fromkeys((job["id"] for job in jobs), 1)
        assert [dict(count) for count in cluster.completions()] == [once] * 3


def lost(load: Load, jobs: list[dict[str, object]]) -> list[str]:
    """The keys whose acknowledged job is not there."""
    there = {job["id"] for job in jobs}
    return [key for key, ids in load.acknowledged.items() if not ids <= there]


def doubled(load: Load, jobs: list[dict[str, object]]) -> list[str]:
    """The keys under which there is more than one job."""
    keys = sorted(str(job["labels"]["key"]) for job in jobs)  # type: ignore[index]
    return [one for one, other in itertools.pairwise(keys) if one == other] + [
        key for key, ids in load.acknowledged.items() if len(ids) > 1
    ]


@pytest.mark.timeout(300)
def test_an_acknowledgement_before_there_are_copies_would_be_found(tmp_path: Path) -> None:
    program = [sys.executable, str(Path(__file__).with_name("answers_before_copies.py"))]
    with started(Cluster(tmp_path, 3, program=program, PYTHONPATH=ROOT)) as cluster:
        missing: list[str] = []
        for member in itertools.islice(itertools.cycle(cluster.members), 12):
            load = Load(cluster, pause_s=0.0)
            load.start()
            load.wait_for_more(30)
            strike(member, "kill", load)
            load.stop()
            cluster.wait_converged()
            missing = lost(load, cluster[0].jobs())
            if missing:
                break
        assert missing

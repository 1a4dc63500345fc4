"""Coordinators of two versions in one cluster: what the older ones do not understand stops that log there, loudly; nothing is lost."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skyclaw.outside.coordinators import Coordinators
from tests.support.cluster import Cluster, shell, started
from tests.support.real_processes import TOKEN, wait_until

NEWER = [sys.executable, str(Path(__file__).with_name("newer_version.py"))]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """The first is newer than the two others."""
    cluster = Cluster(tmp_path, 3)
    cluster[0]._words = NEWER
    with started(cluster):
        yield cluster


def enqueue(cluster: Cluster, at: int) -> Any:
    """A job in the log of that coordinator."""
    return Coordinators([cluster[at].url], TOKEN).post("/v1/jobs", shell("true"))["job"]["id"]


def stuck(cluster: Cluster, at: int) -> bool:
    """Does that coordinator say that it cannot follow?"""
    health = cluster[at].health()
    return bool(health["ok"]) and any("upgrade skyclaw" in sentence for sentence in health["degraded"])


def test_an_event_of_a_later_version_stops_its_log_at_the_older_ones_and_nothing_else(cluster: Cluster) -> None:
    first, *older = cluster.members
    doomed, kept = enqueue(cluster, 0), enqueue(cluster, 1)
    client = Coordinators([first.url], TOKEN)
    assert client.post(f"/v1/jobs/{doomed}/cancel", {}, "k")["job"]["status"] == "cancelled"
    wait_until(lambda: stuck(cluster, 1) and stuck(cluster, 2), "the older ones say what they do not understand")
    later = enqueue(cluster, 0)
    assert first.get(f"/v1/jobs/{later}")["job"]["status"] == "queued"
    for member in older:
        wait_until(lambda member=member: {kept, doomed} <= {job["id"] for job in member.jobs()}, "they go on with the other logs")
        assert member.get(f"/v1/jobs/{doomed}")["job"]["status"] == "cancelled"
        assert [event["type"] for event in member.get(f"/v1/jobs/{doomed}/events")["events"]][-1] == "JobCancelled"
        assert member.get("/v1/state")["nodeId"] == member.label
    also = enqueue(cluster, 2)
    wait_until(lambda: all(job in {one["id"] for one in first.jobs()} for job in (later, also)), "the newer one knows everything")
    copies = [sum(kind == "JobMourned" for (kind,) in member.rows("SELECT type FROM event")) for member in cluster.members]
    assert copies == [1, 1, 1]


def test_what_an_older_one_did_not_understand_is_there_when_it_was_upgraded(cluster: Cluster) -> None:
    first, second, _ = cluster.members
    doomed = enqueue(cluster, 0)
    Coordinators([first.url], TOKEN).post(f"/v1/jobs/{doomed}/cancel", {}, "k")
    wait_until(lambda: stuck(cluster, 1), "the second does not understand")
    later = enqueue(cluster, 0)
    assert second.stop() == 0
    second._words = NEWER
    second.start()
    wait_until(lambda: later in {job["id"] for job in second.jobs()}, "the second has gone on from where it stood")
    assert not stuck(cluster, 1)

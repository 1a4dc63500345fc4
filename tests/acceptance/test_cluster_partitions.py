"""Real coordinators in network namespaces whose cables are cut: two and one, one way, again and again."""

import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from skyclaw.outside.coordinators import Coordinators
from tests.support.cluster import HEARTBEAT_MS, Cluster, Load, Member, refused, running, shell, started
from tests.support.netns import PREFIX, Network, ip, needs_namespaces, remove_leftovers
from tests.support.real_processes import TOKEN, HostProcess, wait_until

pytestmark = [needs_namespaces, pytest.mark.timeout(200)]
FLAPS = 8


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    network = Network(3)
    yield network
    network.remove()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, network: Network) -> Iterator[Cluster]:
    with started(Cluster(tmp_path_factory.mktemp("cluster"), 3, network)) as cluster:
        yield cluster


@pytest.fixture
def cluster(whole: Cluster, network: Network) -> Iterator[Cluster]:
    """The cluster as it is when nothing is cut, each log with its founder."""
    yield whole
    network.heal()
    whole.wait_settled()
    wait_until(lambda: all(whole.owner(member.log) is member for member in whole.members), "each founder has its log")


def asks(member: Member) -> Coordinators:
    """A client of this one alone."""
    return Coordinators([member.url], TOKEN, patience_s=0)


def is_alone(member: Member) -> bool:
    """Does it know that it cannot write?"""
    return any("lost contact" in why or "no owner" in why for why in member.health()["degraded"])


def written(member: Member, home: Member, key: str) -> str | None:
    """The job that it accepts into another's log; None when it cannot now."""
    headers = {"x-idempotency-key": key, "x-skyclaw-home": home.log}
    answer = member.session.post(f"{member.url}/v1/jobs", json=shell("true"), headers=headers, timeout=30)
    assert answer.status_code in (200, 503), answer.text
    return str(answer.json()["job"]["id"]) if answer.ok else None


def test_what_an_interrupted_test_left_behind_is_removed() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    name, bridge = f"{PREFIX}{ended.pid}-0", f"skb{ended.pid}"
    ip("netns", "add", name)
    ip("link", "add", bridge, "type", "bridge")
    inside = subprocess.Popen(["ip", "netns", "exec", name, "sleep", "600"])
    wait_until(lambda: str(inside.pid) in ip("netns", "pids", name).split(), "it runs inside")
    remove_leftovers()
    assert inside.wait(10) == -signal.SIGKILL
    assert name not in ip("netns", "list")
    assert bridge not in ip("link", "show")


def test_two_go_on_and_one_refuses_until_it_is_back(cluster: Cluster, network: Network) -> None:
    alone, second, _ = cluster.members
    load = Load(cluster, pause_s=0.05)
    load.start()
    load.wait_for_more(10)
    network.cut({0}, {1, 2})
    kept = {
        str(wait_until(partial(written, second, home, f"cut-{home.label}"), f"writes to the log of {home.label}"))
        for home in cluster.members
    }
    wait_until(lambda: is_alone(alone), "the one knows it")
    for number in range(5):
        refusal = refused(partial(asks(alone).post, "/v1/jobs", shell("true"), f"alone-{number}"))
        assert refusal.status == 503
    assert alone.jobs()  # what it knows it still shows
    load.wait_for_more(10)
    network.heal()
    load.wait_for_more(10)
    load.stop()
    cluster.wait_converged(30)
    assert load.ids | kept <= {job["id"] for job in alone.jobs()}
    assert [key for key, ids in load.acknowledged.items() if len(ids) > 1] == []


@pytest.mark.parametrize("kind", ["packets", "calls"])
def test_a_cable_that_is_cut_one_way_between_two_changes_no_owner_and_stops_no_write(cluster: Cluster, network: Network, kind: str) -> None:
    first, second, third = cluster.members
    owners = first.owners()
    if kind == "packets":
        network.cut_one_way(0, 1)
    else:
        network.cut_calls(0, 1, second.port)
    load = Load(cluster, writers=6, pause_s=20 * HEARTBEAT_MS / 1000 / 10)
    load.start()
    load.wait_for_more(60)
    kept = {
        str(wait_until(partial(written, member, member, f"{kind}-{member.label}"), f"{member.label} writes")) for member in cluster.members
    }
    load.stop()
    cluster.wait_converged(30)  # by way of the third
    assert load.ids | kept <= {job["id"] for job in second.jobs()}
    assert [member.owners() for member in (first, second, third)] == [owners] * 3


def test_cables_that_come_and_go_lose_nothing_and_complete_each_job_once(tmp_path: Path, cluster: Cluster, network: Network) -> None:
    host = HostProcess(tmp_path, *cluster.urls, SKYCLAW_MAX_PARALLEL=4, SKYCLAW_HEARTBEAT_MS=300, SKYCLAW_POLL_MS=100)
    with running(host):
        load = Load(cluster, pause_s=0.1)
        load.start()
        for number in range(FLAPS):
            one = number % 3
            network.cut({one}, {0, 1, 2} - {one})
            load.wait_for_more(2 if number % 2 else 8)
            network.heal()
            load.wait_for_more(2 if number % 4 < 2 else 8)
        load.stop()
        cluster.wait_finished(load.ids)
        cluster.wait_converged(30)
        jobs = cluster[0].jobs()
        assert load.ids <= {job["id"] for job in jobs}
        assert [key for key, ids in load.acknowledged.items() if len(ids) > 1] == []
        completed = {job["id"]: 1 for job in jobs if job["status"] == "completed"}
        assert load.ids <= completed.keys()
        assert [dict(count) for count in cluster.completions()] == [completed] * 3


def test_a_write_that_one_side_cannot_keep_is_not_there_afterwards_by_accident(cluster: Cluster, network: Network) -> None:
    network.cut({0}, {1}, {2})
    for member in cluster.members:
        wait_until(partial(is_alone, member), f"{member.label} is alone")
        refusal = refused(partial(asks(member).post, "/v1/jobs", shell("true"), f"alone-{member.label}"))
        assert (refusal.status, refusal.details.get("written", False)) == (503, False)
    network.heal()
    cluster.wait_settled()
    known = len(cluster[0].jobs())
    wait_until(partial(written, cluster[0], cluster[0], "after"), "it writes again")
    cluster.wait_converged()
    assert len(cluster[2].jobs()) == known + 1

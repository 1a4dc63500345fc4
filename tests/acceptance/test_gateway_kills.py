"""Two gateways, three coordinators, two hosts and visitors, while one of them is killed: hardly anybody notices, nothing is sent twice."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.real_processes import lives, wait_until
from tests.support.services import Tally, Town, Visitors, descendants, kill_instance, needs_node, town

pytestmark = [needs_node, pytest.mark.timeout(240)]
ENOUGH = 0.999
BEFORE, AFTER = 150, 400  # GETs


@pytest.fixture
def built(tmp_path: Path) -> Iterator[Town]:
    with town(tmp_path, coordinators=3, hosts=2, gateways=2) as built:
        yield built


def test_a_killed_instance_is_hardly_noticed(built: Town) -> None:
    visitors = visited_while(built, lambda: kill_instance(built))
    for tally in visitors.first.values():
        assert tally.share >= ENOUGH, told(tally)


def test_a_killed_host_is_hardly_noticed_and_its_instance_moves(built: Town) -> None:
    gone: list[str] = []

    def kill_host() -> None:
        host = built.hosts[0]
        assert host.process is not None
        below = descendants(host.process.pid)
        gone.extend(one["instanceId"] for one in built.running() if host_name(built, one["hostId"]) == "host0")
        host.kill()
        wait_until(lambda: not any(map(lives, below)), "all that the host had started has ended")

    visitors = visited_while(built, kill_host)
    assert len(gone) == 1
    for tally in visitors.first.values():
        assert tally.share >= ENOUGH, told(tally)
    wait_until(lambda: len(built.running()) == 2 and gone[0] not in [one["instanceId"] for one in built.running()], "two run elsewhere", 60)
    assert {host_name(built, one["hostId"]) for one in built.running()} == {"host1"}


def test_a_killed_gateway_is_hardly_noticed_by_who_knows_the_other(built: Town) -> None:
    visited_while(built, built.gateways[0].kill)


def test_a_killed_coordinator_is_not_noticed(built: Town) -> None:
    owner = next(member for member in built.cluster.members if member.log == built.service()["id"][4:12])
    visitors = visited_while(built, owner.kill)
    for tally in visitors.first.values():
        assert tally.share >= ENOUGH, told(tally)
    built.wait_serving(built.deploy(env=environment(built, "after"), replicas=2), 2)


def test_a_rolling_update_fails_no_get(built: Town) -> None:
    updated: list[int] = []
    visitors = visited_while(
        built, lambda: updated.append(built.deploy(env=environment(built, "2"))), until=lambda: is_serving(built, updated)
    )
    assert visitors.gets.failed == []
    assert [tally.failed for tally in visitors.first.values()] == [[], []]
    assert visitors.posts.failed == []
    assert visitors.versions == {"1", "2"}


def test_a_bad_version_is_never_seen_by_a_visitor(built: Town) -> None:
    bad: list[int] = []

    def deploy() -> None:
        bad.append(built.deploy(args=["-e", "process.exit(1)"]))
        built.wait_failed(bad[0])

    visitors = visited_while(built, deploy)
    assert visitors.gets.failed == []
    assert visitors.versions == {"1"}


@pytest.fixture(autouse=True)
def served(built: Town) -> None:
    """Two instances of the first version, one on each host."""
    built.wait_serving(built.deploy(replicas=2, env=environment(built, "1")), 2)
    assert len({one["hostId"] for one in built.running()}) == 2


def visited_while(built: Town, deed: Callable[[], object], until: Callable[[], bool] = lambda: True) -> Visitors:
    """Do this while visitors are there; whatever it is, hardly any of their GETs fails, and no POST arrives twice."""
    with Visitors(built.gateways) as visitors:
        visitors.wait_for(BEFORE)
        deed()
        visitors.wait_for(AFTER)
        wait_until(until, "what was begun is done", 90)
    assert visitors.gets.share >= ENOUGH, told(visitors.gets)
    arrived = Counter((built.folder / "counted").read_text().split())
    assert visitors.posts.sent - len(visitors.posts.failed) <= len(arrived) <= visitors.posts.sent
    assert set(arrived.values()) == {1}
    return visitors


def environment(built: Town, version: str) -> dict[str, str]:
    return {"API_VERSION": version, "COUNT_FILE": str(built.folder / "counted")}


def is_serving(built: Town, updated: list[int]) -> bool:
    service = built.service()
    running = [one["revision"] for one in service["assignments"] if one["status"] == "running"]
    return service["rollout"] == {"revision": updated[0], "state": "succeeded"} and running == updated * 2


def host_name(built: Town, host_id: str) -> str:
    return next(str(host["name"]) for host in built.client.get("/v1/hosts")["hosts"] if host["id"] == host_id)


def told(tally: Tally) -> str:
    return f"{len(tally.failed)} of {tally.sent} failed: {Counter(tally.failed).most_common(5)}"

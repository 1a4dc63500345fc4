"""A coordinator that knows less than the gateway does, as real processes: no service is lost for it, and none that is gone is kept."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from skyclaw.errors import ServerRefused
from tests.support.real_processes import wait_until
from tests.support.services import Town, needs_node, town

pytestmark = [needs_node, pytest.mark.timeout(240)]


@pytest.fixture
def built(tmp_path: Path) -> Iterator[Town]:
    with town(tmp_path, coordinators=3, hosts=1, gateways=1, SKYCLAW_SERVICE_LEASE_MS=600_000) as built:
        built.wait_serving(built.deploy(), 1)
        yield built


def heard_again(built: Town, times: int) -> None:
    wait_until(lambda: built.gateways[0].printed.count("coordinator_answers_again loop=gateway-refresh") == times, "it heard somebody")


def test_one_that_lost_its_disk_takes_no_route_away(built: Town) -> None:
    """It comes back alone, and lists nothing; then with the others, who know the service, and know when it is removed."""
    first, second, third = built.cluster.members
    service = built.service()["id"]
    for member in (first, second, third):
        member.kill()
    wait_until(lambda: "coordinator_trouble loop=gateway-refresh" in built.gateways[0].printed, "it hears nobody")
    empty = next(member for member in (third, second, first) if member.log != service[4:12])
    empty.wipe()
    empty.start()
    wait_until(lambda: empty.get("/v1/services") == {"services": []}, "it lists nothing")
    heard_again(built, 1)
    assert built.who(built.gateways[0]) is not None
    assert service in built.gateways[0].known()
    for member in (first, second, third):
        if member is not empty:
            member.start()
    assert service in built.gateways[0].known()
    wait_until(lambda: remove(built), "the coordinators can decide again", 60)
    wait_until(lambda: built.gateways[0].known() == [], "a removed service is not kept", 60)


def remove(built: Town) -> bool:
    """Whether somebody who knows the service could be asked."""
    try:
        built.client.delete("/v1/services/api", key="remove-api")
    except ServerRefused:
        return False
    return True


def test_one_that_restarts_while_it_is_cut_off_takes_no_route_away(built: Town) -> None:
    first, *others = built.cluster.members
    for member in (first, *others):
        member.kill()
    wait_until(lambda: "coordinator_trouble loop=gateway-refresh" in built.gateways[0].printed, "it hears nobody")
    first.start()
    assert not first.health()["ready"]
    heard_again(built, 1)
    assert built.who(built.gateways[0]) is not None
    assert len(built.gateways[0].known()) == 2

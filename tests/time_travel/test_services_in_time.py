"""Time travel with services: instance leases, backoff, rollouts that take too long, under a frozen clock that the test moves."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actors.coordinator import Coordinator
from skyclaw import commands as cmd
from skyclaw.answers import Synced
from skyclaw.outside.clock import utc_now
from skyclaw.scheduling.turn import Rules
from skyclaw.services.service import Instance, Service
from skyclaw.store.memory import MemoryEventLog
from tests.time_travel.journeys import journey

LEASE_S = 15


class Traveller:
    """A coordinator, two hosts that run services, and the clock."""

    def __init__(self, log: MemoryEventLog, clock: Any) -> None:
        self.clock = clock
        self.coordinator = Coordinator(log, utc_now, Rules(service_lease_ms=LEASE_S * 1000), lambda: None, reap_every_s=None)
        self.coordinator.start()

    def ask(self, command: cmd.Command) -> Any:
        """The answer."""
        return self.coordinator.desk.ask(command)

    def later(self, seconds: float) -> int:
        """Let time pass, and do what it demands; says how many instances were given up."""
        self.clock.tick(timedelta(seconds=seconds))
        lost: int = self.ask(cmd.Reap()).lost
        return lost

    def host(self, host_id: str) -> None:
        """A host that runs services begins a life."""
        self.ask(cmd.Register(host_id, host_id, ("service-host",), 4, (("services", "4"),)))

    def deploy(self, command: str = "serve", **fields: Any) -> Service:
        """Deploy the service."""
        service: Service = self.ask(cmd.Deploy("web", command, **fields)).service
        return service

    @property
    def service(self) -> Service:
        """The service as it is."""
        service: Service = self.ask(cmd.FindService("web")).service
        return service

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Its instances."""
        return self.service.instances

    def sync(self, host_id: str = "h", status: str = "running", error: str | None = None) -> Synced:
        """A host says how all its instances are."""
        mine = [one.id for one in self.instances if one.host_id == host_id]
        synced: Synced = self.ask(cmd.SyncServices(host_id, tuple(cmd.InstanceNews(one, status, error=error) for one in mine)))
        return synced


@pytest.fixture
def travel() -> Iterator[Callable[[], Traveller]]:
    with journey(MemoryEventLog("node-a"), Traveller) as start:
        yield start


@pytest.fixture
def world(travel: Callable[[], Traveller]) -> Traveller:
    traveller = travel()
    traveller.host("h")
    return traveller


def test_an_instance_is_given_up_at_the_very_end_of_its_lease_and_moves_to_the_next_host(world: Traveller) -> None:
    world.deploy()
    world.sync()
    world.later(1)
    world.host("k")
    assert world.later(LEASE_S - 1.001) == 0
    world.sync("k")
    assert [one.host_id for one in world.instances] == ["h"]
    assert world.later(0.001) == 1
    assert [one.host_id for one in world.instances] == ["k"]
    assert world.service.failures[0].reason == "lost"


def test_an_instance_that_its_host_never_takes_up_is_placed_anew(world: Traveller) -> None:
    (first,) = world.deploy().instances
    world.later(1)
    world.host("k")
    world.sync("k")
    assert world.later(LEASE_S - 1) == 1
    (second,) = world.instances
    assert (second.host_id, world.service.failures[0].reason) == ("k", "unclaimed")
    assert first.id != second.id


def test_a_host_that_syncs_keeps_its_instances_for_ever(world: Traveller) -> None:
    (first,) = world.deploy().instances
    for _ in range(10):
        world.sync()
        assert world.later(LEASE_S - 0.001) == 0
    assert [one.id for one in world.instances] == [first.id]


def test_the_longer_the_row_of_failures_the_later_the_next_one_is_tried(world: Traveller) -> None:
    world.deploy()
    for wait in (1, 2, 4, 8, 16, 32, 60, 60):
        world.sync(status="failed", error="exit 1")
        assert world.service.status == "failed"
        world.clock.tick(timedelta(seconds=wait - 0.001))
        world.sync()
        assert world.later(0) == 0
        assert world.instances == ()
        world.later(0.001)
        assert len(world.instances) == 1
    assert (world.service.present.failures, world.service.present.error) == (8, "exit 1")


def test_an_instance_that_was_there_for_five_minutes_ends_the_row(world: Traveller) -> None:
    world.deploy()
    for _ in range(3):
        world.sync(status="failed")
        world.clock.tick(timedelta(seconds=10))
        world.sync()
        world.later(0)
        world.sync()
    for _ in range(30):
        world.later(10)
        world.sync()
    world.sync(status="failed")
    assert world.later(0.999) == 0
    assert world.instances == ()
    world.later(0.001)
    assert len(world.instances) == 1


def test_a_revision_that_is_not_healthy_in_ten_minutes_gives_way_to_the_former_one(world: Traveller) -> None:
    world.deploy()
    world.sync()
    (good,) = world.instances
    world.deploy("broken")
    for _ in range(60):
        for one in world.instances:
            status = "running" if one.id == good.id else "starting"
            world.ask(cmd.SyncServices("h", (cmd.InstanceNews(one.id, status),)))
        assert (world.service.rollout, world.service.target) == ("rolling", 2)
        world.later(9.999)
    world.later(0.06)
    assert (world.service.rollout, world.service.target, world.service.good) == ("failed", 1, 1)
    assert world.service.reason is not None
    assert world.service.reason.startswith("it was not healthy within 10 minutes")
    assert [one.id for one in world.service.live] == [good.id]


def test_instances_have_their_full_lease_again_after_a_restart(travel: Callable[[], Traveller], world: Traveller) -> None:
    world.deploy()
    world.sync()
    (before,) = world.instances
    world.clock.tick(timedelta(seconds=LEASE_S - 1))
    reborn = travel()
    assert reborn.later(LEASE_S - 1) == 0
    assert reborn.instances == (before,)
    assert reborn.sync().wanted[0][1].id == before.id
    assert reborn.later(LEASE_S) == 1


def test_the_time_of_the_next_try_is_the_same_after_a_restart(travel: Callable[[], Traveller], world: Traveller) -> None:
    world.deploy()
    for _ in range(4):
        world.sync(status="failed")
        world.later(8)
    world.sync(status="failed")
    due = world.service.present.retry_at
    reborn = travel()
    assert reborn.service.present.retry_at == due
    reborn.sync()
    wait = due / 1000 - datetime.now(UTC).timestamp()
    assert wait == 16
    reborn.later(wait - 0.001)
    assert reborn.instances == ()
    reborn.sync()
    reborn.later(0.001)
    assert len(reborn.instances) == 1

"""A service is given every kind of treatment, by hypothesis, which finds the shortest way to a fault.

Commands are `fine` or `broken`; processes of a broken one never get healthy. In the end two hosts are well,
one is to be emptied, and everything must settle. SKYCLAW_HYPOTHESIS=thorough makes it look for long.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from skyclaw import events as ev
from skyclaw.codec import CODEC
from skyclaw.errors import Refused
from skyclaw.services import deployments, placing, reconciling
from skyclaw.services import service as service_module
from skyclaw.services.reconciling import Scene
from skyclaw.services.service import DRAINING, RUNNING, SUCCEEDED, Instance, Service, evolve
from tests.services.making import MINUTE, SECOND, World, host, hosts

THOROUGH = os.environ.get("SKYCLAW_HYPOTHESIS") == "thorough"
HOSTS = ("a", "b", "c", "ts")
ROUNDS = 40  # of hosts' work, ten seconds each, until all is settled

pytestmark = pytest.mark.timeout(3600 if THOROUGH else 120)

exists = precondition(lambda machine: machine.world.service is not None)
has_instances = precondition(lambda machine: machine.world.service is not None and machine.world.service.instances)
numbers = st.integers(0, 99)
replicas = st.integers(1, 4)


class ServiceMachine(RuleBasedStateMachine):
    """Everything that users, hosts and time can do to a service."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World("a", "b", host("c", capacity=2), host("ts", managed=False))

    @rule(command=st.sampled_from(["fine", "fine", "broken"]), replicas=st.none() | replicas)
    def deploy(self, command: str, replicas: int | None) -> None:
        self.world.deploy(command, replicas=replicas)

    @exists
    @rule(
        decide=st.sampled_from([deployments.stop, deployments.restart, deployments.rollback, deployments.rollback, deployments.remove]),
    )
    def wish(self, decide: Callable[..., list[ev.Event]]) -> None:
        self._unless_refused(decide)

    @exists
    @rule(replicas=replicas)
    def scale(self, replicas: int) -> None:
        self._unless_refused(deployments.scale, replicas)

    @exists
    @rule(revision=st.integers(1, 15))
    def roll_back_to(self, revision: int) -> None:
        self._unless_refused(deployments.rollback, revision)

    def _unless_refused(self, decide: Callable[..., list[ev.Event]], *arguments: Any) -> None:
        try:
            self.world.wish(decide, *arguments)
        except Refused:
            self.world.happen([])

    @has_instances
    @rule(which=numbers, status=st.sampled_from(["starting", "running", "running", "failed", "ended"]))
    def tell(self, which: int, status: str) -> None:
        instance = self._instance(which)
        revision = self.world.alive.revision(instance.revision)
        assert revision is not None
        if status == RUNNING and revision.asked.command == "broken":
            status = "failed"
        self.world.tell(instance, status, "exit 1" if status == "failed" else None)

    @exists
    @rule()
    def run_all(self) -> None:
        self.world.run_all()

    @has_instances
    @rule(which=numbers)
    def expire(self, which: int) -> None:
        self.world.expire(self._instance(which))

    @rule(host_id=st.sampled_from(HOSTS), online=st.booleans(), mode=st.sampled_from(["active", "active", "paused", "draining"]))
    def change_host(self, host_id: str, online: bool, mode: str) -> None:
        self.world.hosts[host_id] = replace(self.world.hosts[host_id], online=online, mode=mode)
        self.world.happen([])

    @rule(ms=st.sampled_from([1, 999, 1_000, 60_000, 10 * MINUTE]))
    def pass_time(self, ms: int) -> None:
        self.world.pass_time(ms)

    def _instance(self, which: int) -> Instance:
        instances = self.world.alive.instances
        return instances[which % len(instances)]

    @exists
    @invariant()
    def nothing_is_left_to_do(self) -> None:
        assert self.world.due() == []

    @exists
    @invariant()
    def there_are_never_too_many(self) -> None:
        service = self.world.alive
        assert len(service.live) <= (service.wanted + 1 if service.wanted else 0)
        assert len(Scene(service, self.world.views, self.world.now, str).wanted) <= service.wanted

    @invariant()
    def what_serves_is_drained_only_when_there_is_enough_without_it(self) -> None:
        for before, event in self.world.before:
            if isinstance(event, ev.InstanceDraining) and before.wanted:
                drained = before.instance(event.instance_id)
                assert drained is not None
                assert drained.status != RUNNING or sum(one.status == RUNNING for one in before.live) > before.wanted

    @invariant()
    def a_host_gets_what_it_can_take(self) -> None:
        for before, event in self.world.before:
            if isinstance(event, ev.InstancePlaced):
                view, here = self.world.hosts[event.host_id], [one for one in before.instances if one.host_id == event.host_id]
                assert view.online
                assert view.mode == "active"
                assert len(here) < (view.capacity if view.managed else 1)

    @exists
    @invariant()
    def only_what_was_healthy_is_good(self) -> None:
        service = self.world.alive
        good = service.revision(service.good)
        assert good is None or (good.asked.command == "fine" and good.state == SUCCEEDED)
        assert service.target in (service.newest.number, service.good)
        assert not service.good or good is not None

    @exists
    @invariant()
    def nothing_drains_on_a_host_that_does_not_know_of_it(self) -> None:
        managed = {view.id for view in self.world.hosts.values() if view.managed}
        assert all(one.host_id in managed for one in self.world.alive.instances if one.status == DRAINING)

    @exists
    @invariant()
    def what_is_needed_is_kept(self) -> None:
        service = self.world.alive
        assert all(service.revision(instance.revision) for instance in service.instances)
        assert len({failure.host_id for failure in service.failures}) == len(service.failures)

    def teardown(self) -> None:
        self._replay()
        if self.world.service is not None:
            self._settle()

    def _replay(self) -> None:
        service: Service | None = None
        for event, at in self.world.past:
            service = evolve(service, CODEC.decode(*CODEC.encode(event)), at)
        assert service == self.world.service

    def _settle(self) -> None:
        self.world.hosts = hosts(host("a", mode="draining"), "b", "c")
        for _ in range(ROUNDS):
            self._let_hosts_work()
            if self.world.service is None:
                return
            self.world.pass_time(10 * SECOND)
        self._check_settled(self.world.alive)

    def _let_hosts_work(self) -> None:
        for instance in self.world.alive.instances:
            if instance.host_id == "ts" and self.world.service is not None and self.world.service.instance(instance.id):
                self.world.expire(instance)
        if self.world.service is not None:
            self.world.run_all()

    def _check_settled(self, service: Service) -> None:
        assert not service.removed
        if service.stopped:
            assert service.status == "stopped"
        elif service.present.asked.command == "fine":
            assert [(one.revision, one.status) for one in service.instances] == [(service.target, RUNNING)] * service.replicas
            assert "a" not in self.world.on()
            assert service.present.state == SUCCEEDED
            assert service.good == service.target
        else:
            assert not service.good
            assert not [one for one in service.instances if one.revision == service.target and one.status == RUNNING]


def run(**changes: Any) -> None:
    """Let hypothesis look for a fault."""
    given: dict[str, Any] = {"max_examples": 2_000 if THOROUGH else 120, "stateful_step_count": 60, **changes}
    run_state_machine_as_test(ServiceMachine, settings=settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], **given))


def test_whatever_happens_the_service_becomes_what_is_wanted() -> None:
    run()


# The machine itself is tested: with a planted fault it must fail.

REPLACE = reconciling._replace


def hasty(scene: Scene) -> ev.Event | None:
    """Drains what is old as soon as there is something new."""
    return scene.drain(scene.old[0]) if scene.old and scene.wanted else REPLACE(scene)


def without(rule: Callable[[Scene], Any]) -> tuple[Callable[[Scene], Any], ...]:
    """All rules but this one."""
    return tuple(one for one in reconciling.RULES if one is not rule)


FAULTS = {
    "old ones are drained at once": (reconciling, "RULES", (hasty, *reconciling.RULES)),
    "old ones are never drained": (reconciling, "RULES", without(REPLACE)),
    "nothing is ever too much": (reconciling, "RULES", without(reconciling._cut)),
    "a failed rollout goes on": (reconciling, "RULES", without(reconciling._give_up)),
    "a rollout never succeeds": (reconciling, "RULES", without(reconciling._succeed)),
    "a stopped service runs on": (reconciling, "RULES", without(reconciling._stop)),
    "what cannot be told to end is waited for": (reconciling, "RULES", without(reconciling._end)),
    "a removed service stays": (reconciling, "RULES", without(reconciling._forget)),
    "a draining host keeps its instances": (Scene, "on_draining_host", lambda *_: False),
    "a surge of two": (reconciling, "SURGE", 2),
    "no surge": (reconciling, "SURGE", 0),
    "failures are not counted": (service_module, "_failed", lambda service, *_: service.revisions),
    "a failure is waited for for ever": (reconciling, "backoff_ms", lambda _: 10**12),
    "hosts take any number": (placing, "obstacle", lambda _, view: None if view.online and view.mode == "active" else "is away"),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*FAULTS[fault])
    with pytest.raises(AssertionError):
        run(max_examples=400, derandomize=True, database=None, phases=[Phase.generate], report_multiple_bugs=False)

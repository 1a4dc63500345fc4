"""A queue is given every kind of treatment, by hypothesis, which finds the shortest way to a fault, and by seeds, which are quick.

SKYCLAW_HYPOTHESIS=thorough makes both look for long.
"""

import os
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from skyclaw.scheduling import jobs, service_desk, service_hosts, turn
from skyclaw.scheduling.books import Books
from skyclaw.scheduling.idempotency import Keys
from skyclaw.scheduling.leases import Deadlines
from skyclaw.scheduling.queue import Queue
from skyclaw.scheduling.state import State, Undo
from skyclaw.services.service import Service
from tests.scheduling.habits import BEGINNING, HABITS
from tests.scheduling.service_deeds import ServiceDeeds

THOROUGH = os.environ.get("SKYCLAW_HYPOTHESIS") == "thorough"
LIVES = 15_000 if THOROUGH else 150
DEEDS_IN_A_LIFE = 150

pytestmark = pytest.mark.timeout(7200 if THOROUGH else 120)

first: Any = initialize
at_any_time: Any = rule


def as_rule(name: str) -> Any:
    """The deed of this name, with arguments by habit."""
    return at_any_time(**HABITS[name].strategies)(getattr(ServiceDeeds, name))


class QueueMachine(ServiceDeeds, RuleBasedStateMachine):
    """Every deed is a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.begin_to_live()

    def teardown(self) -> None:
        self.end()

    begin = first(**BEGINNING.strategies)(ServiceDeeds.begin)
    enqueue = as_rule("enqueue")
    cancel = as_rule("cancel")
    retry = as_rule("retry")
    watch = as_rule("watch")
    give_up = as_rule("give_up")
    explain = as_rule("explain")
    survey = as_rule("survey")
    register = as_rule("register")
    claim = as_rule("claim")
    work = as_rule("work")
    heartbeat = as_rule("heartbeat")
    report = as_rule("report")
    report_all = as_rule("report_all")
    release = as_rule("release")
    change_mode = as_rule("change_mode")
    pass_time = as_rule("pass_time")
    reap = as_rule("reap")
    deploy = as_rule("deploy")
    change_service = as_rule("change_service")
    look_at_services = as_rule("look_at_services")
    sync = as_rule("sync")
    claim_service = as_rule("claim_service")
    report_service = as_rule("report_service")
    commit = as_rule("commit")
    fail_to_commit = as_rule("fail_to_commit")
    send_home = as_rule("send_home")
    take_picture = as_rule("take_picture")
    crash = as_rule("crash")

    memory_agrees_with_the_events = invariant()(ServiceDeeds.memory_agrees_with_the_events)
    hosts_and_keys_agree_with_the_events = invariant()(ServiceDeeds.hosts_and_keys_agree_with_the_events)
    every_lease_in_force_has_an_end_and_nothing_else_has = invariant()(ServiceDeeds.every_lease_in_force_has_an_end_and_nothing_else_has)
    services_agree_with_the_events = invariant()(ServiceDeeds.services_agree_with_the_events)
    every_instance_has_a_lease_and_nothing_else_has = invariant()(ServiceDeeds.every_instance_has_a_lease_and_nothing_else_has)
    those_who_wait_have_a_place_each = invariant()(ServiceDeeds.those_who_wait_have_a_place_each)


def live(seed: int, deeds: int = DEEDS_IN_A_LIFE) -> None:
    """A whole life from one seed: run it again to see it again."""
    random, life = Random(seed), ServiceDeeds()  # noqa: S311  # nothing secret is drawn
    life.begin_to_live()
    try:
        life.begin(**BEGINNING.draw(random))
        for name in random.choices(list(HABITS), [habit.weight for habit in HABITS.values()], k=deeds):
            getattr(life, name)(**HABITS[name].draw(random))
            life.check_all()
    finally:
        life.end()


def test_whatever_happens_the_queue_keeps_its_rules() -> None:
    run_state_machine_as_test(QueueMachine)


def test_every_seeded_life_keeps_the_rules() -> None:
    for seed in range(LIVES):
        live(seed)


# The machine itself is tested: with a planted fault it must fail. Each fault is one that users would not notice for long.


def _fails(check: Callable[[], object]) -> bool:
    try:
        check()
    except (AssertionError, KeyError):
        return True
    return False


def machine_fails() -> bool:
    """Does hypothesis find a fault, in as many lives as it has every day?"""
    found = settings(max_examples=400, derandomize=True, database=None, phases=[Phase.generate], report_multiple_bugs=False)
    return _fails(lambda: run_state_machine_as_test(QueueMachine, settings=found))


def seeded_lives_fail() -> bool:
    """Does a seed find a fault?"""
    return any(_fails(partial(live, seed)) for seed in range(LIVES))


def _put_without_instances(state: State, service_id: str, service: Service | None) -> Undo:
    """As it should be, but for the index."""
    old = state.services.pop(service_id, None)
    if service is not None:
        state.services[service_id] = service
        for instance in service.instances:
            state.placed.setdefault(instance.host_id, {})[instance.id] = service_id
    return partial(_put_without_instances, state, service_id, old)


FAULTS = {
    "every report is accepted, whoever sends it": (jobs, "require_lease", lambda *_: None),
    "a used idempotency key is not found": (Keys, "find", lambda *_: None),
    "a key is found, whatever the request": (Keys, "find", lambda keys, keyed: keys._entries.get((keyed.scope, keyed.key))),
    "a turn is taken back without its events": (turn, "undo_all", lambda _: None),
    "a turn is taken back in the wrong order": (turn, "undo_all", lambda steps: [step() for step in steps]),
    "a lost lease is never counted": (jobs, "losses_allowed", lambda _: 10**9),
    "leases are not renewed": (Deadlines, "renew", lambda *_: None),
    "a host's word does not renew the leases of its instances": (service_hosts, "_renew", lambda *_: None),
    "instances on a host are not counted": (Books, "count_instances", lambda *_: 0),
    "services are not looked after": (service_desk, "reap", lambda *_: 0),
    "a service's instances are kept, whatever becomes of it": (State, "put_service", _put_without_instances),
    "a claim is never served again once it is parked": (Queue, "_settle", lambda *_: None),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_planted_fault_is_found_by_a_seed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*FAULTS[fault])
    assert seeded_lives_fail()


@pytest.mark.parametrize(
    "fault",
    [
        "every report is accepted, whoever sends it",
        "a used idempotency key is not found",
        "a turn is taken back without its events",
        "a turn is taken back in the wrong order",
    ],
)
def test_a_planted_fault_is_found_by_the_machine(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*FAULTS[fault])
    assert machine_fails()


def test_without_a_fault_nothing_is_found() -> None:
    assert not _fails(partial(live, 0))

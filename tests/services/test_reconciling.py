"""Each rule of reconciling, by tables and by stories; and what follows from hosts' news and silence."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import count

import pytest

from skyclaw import events as ev
from skyclaw.commands import InstanceNews
from skyclaw.services import deployments
from skyclaw.services.placing import HostView
from skyclaw.services.reconciling import HEALTHY_MS, backoff_ms, expire, reconcile, take_news
from skyclaw.services.service import STEADY_MS, Service
from tests.services.making import (
    ID,
    MINUTE,
    SECOND,
    T0,
    World,
    deployed,
    draining,
    ended,
    host,
    hosts,
    lived,
    placed,
    running,
    told,
)

ALL = hosts("a", "b", "c")
GOOD = ev.RolloutEnded(ID, 1, True)


def decided(*past: ev.Event, views: Mapping[str, HostView] = ALL, now: int = T0) -> list[str]:
    """What follows from this past, in short: + placed on, - drained because, x ended, = rollout."""
    numbers = count(1)
    return [short(event) for event in reconcile(lived(*past), views, now, lambda: f"n{next(numbers)}")]


def short(event: ev.Event) -> str:
    match event:
        case ev.InstancePlaced(instance_id=name, revision=revision, host_id=host_id):
            return f"+{name} r{revision} on {host_id}"
        case ev.InstanceDraining(instance_id=name, reason=reason):
            return f"-{name} {reason}"
        case ev.InstanceEnded(instance_id=name, reason=reason):
            return f"x{name} {reason}"
        case ev.RolloutEnded(revision=revision, succeeded=True):
            return f"=r{revision} succeeded"
        case ev.RolloutEnded(revision=revision, reason=reason):
            return f"=r{revision} failed: {reason}"
    return type(event).__name__


def test_nothing_is_done_when_all_is_as_wanted() -> None:
    assert decided(deployed(replicas=2), *running("a1", "b1"), GOOD) == []
    assert decided(deployed(), placed("a1")) == []


def test_what_lacks_is_placed_one_on_each_host() -> None:
    assert decided(deployed(replicas=2)) == ["+n1 r1 on a", "+n2 r1 on b"]
    assert decided(deployed(replicas=4)) == ["+n1 r1 on a", "+n2 r1 on b", "+n3 r1 on c", "+n4 r1 on a"]
    assert decided(deployed(replicas=3), *running("a1", "c1")) == ["+n1 r1 on b"]


def test_what_has_no_host_waits() -> None:
    assert decided(deployed(), views={}) == []
    assert decided(deployed(replicas=3), views=hosts(host("a", capacity=2))) == ["+n1 r1 on a", "+n2 r1 on a"]


def test_the_places_that_were_just_taken_count() -> None:
    views = hosts(host("a", capacity=1), host("b", instances=3))
    assert decided(deployed(replicas=2), views=views) == ["+n1 r1 on a", "+n2 r1 on b"]
    assert decided(deployed(replicas=3), views=hosts(host("a", capacity=1))) == ["+n1 r1 on a"]


@pytest.mark.parametrize(("event", "why"), [(ev.ServiceStopped(ID), "stopped"), (ev.ServiceRemoved(ID), "removed")])
def test_what_is_not_wanted_at_all_is_drained(event: ev.Event, why: str) -> None:
    assert decided(deployed(replicas=2), *running("a1"), placed("b1", "b"), event) == [f"-a1 {why}", f"-b1 {why}"]


def test_a_removed_service_is_forgotten_when_its_last_instance_has_ended() -> None:
    past = [deployed(), *running("a1"), ev.ServiceRemoved(ID), draining("a1")]
    assert decided(*past) == []
    assert decided(*past, ended("a1")) == ["ServiceForgotten"]
    assert decided(deployed(), ev.ServiceStopped(ID)) == []


def test_a_revision_is_healthy_when_all_its_instances_run() -> None:
    assert decided(deployed(replicas=2), *running("a1"), placed("b1", "b")) == []
    assert decided(deployed(replicas=2), *running("a1", "b1")) == ["=r1 succeeded"]


FORMER = [deployed(replicas=2), *running("a1", "b1"), GOOD, deployed(2, 2)]


@pytest.mark.parametrize(
    ("past", "steps"),
    [
        pytest.param([], ["+n1 r2 on a"], id="one more than are wanted is placed"),
        pytest.param([placed("c1", "c", 2)], [], id="then it is waited for"),
        pytest.param([placed("c1", "c", 2), told("c1", "starting")], [], id="until it is healthy"),
        pytest.param(running("c1", revision=2), ["-a1 replaced", "+n1 r2 on a"], id="then one of the former ones goes"),
        pytest.param([*running("c1", "d1", revision=2)], ["-a1 replaced", "-b1 replaced", "=r2 succeeded"], id="and in the end all"),
    ],
)
def test_a_rollout_takes_place_one_by_one(past: list[ev.Event], steps: list[str]) -> None:
    assert decided(*FORMER, *past) == steps


def test_of_the_old_ones_those_of_the_good_revision_go_last_and_before_others_those_on_draining_hosts_and_the_newest() -> None:
    between = [*FORMER, *running("c1", revision=2), draining("a1"), deployed(3, 2)]
    assert decided(*between, *running("c2", revision=3)) == ["-c1 replaced", "+n1 r3 on a"]
    views = {**ALL, "b": host("b", mode="draining")}
    assert decided(*FORMER, *running("c1", revision=2), views=views)[0] == "-b1 replaced"
    service = lived(*FORMER, *running("c1", revision=2))
    younger = tuple(replace(one, placed_at=T0 + (one.id == "b1")) for one in service.instances)
    assert short(reconcile(replace(service, instances=younger), ALL, T0, lambda: "n1")[0]) == "-b1 replaced"


def test_an_old_one_that_was_never_healthy_goes_as_soon_as_there_is_a_new_one() -> None:
    past = [deployed(), placed("a1"), deployed(2)]
    assert decided(*past) == ["+n1 r2 on a", "-a1 replaced"]
    assert decided(*past, views={}) == []


def test_an_old_one_that_is_being_restarted_goes_as_soon_as_a_new_one_runs() -> None:
    past = [deployed(), *running("a1"), GOOD, told("a1", "starting"), deployed(2), placed("b1", "b", 2)]
    assert decided(*past) == []
    assert decided(*past, told("b1")) == ["-a1 replaced", "=r2 succeeded"]


def test_old_ones_that_do_not_run_make_room() -> None:
    past = [deployed(replicas=2), *running("a1"), placed("b1", "b"), deployed(2, 2), placed("c1", "c", 2), deployed(3, 2)]
    assert decided(*past) == ["-b1 replaced", "+n1 r3 on a", "-c1 replaced", "+n2 r3 on b"]


def test_what_was_healthy_before_makes_room_last() -> None:
    past = [deployed(replicas=2), *running("a1"), told("a1", "starting"), placed("b1", "b"), deployed(2, 2), placed("c1", "c", 2)]
    assert decided(*past, deployed(3, 2))[0] == "-b1 replaced"


def test_a_rollout_without_a_host_that_can_take_it_leaves_everything_as_it_is() -> None:
    views = hosts(host("a", capacity=1, instances=1))
    assert decided(deployed(), *running("a1"), GOOD, deployed(2), views=views) == []


def test_scaling_down_takes_away_what_does_not_run_then_from_the_fullest_host_then_the_newest() -> None:
    past = [deployed(replicas=4), *running("a1", "a2", "b1"), placed("c1", "c")]
    assert decided(*past, ev.ServiceScaled(ID, 3)) == ["=r1 succeeded", "-c1 scaled down"]
    assert decided(*past, ev.ServiceScaled(ID, 2)) == ["=r1 succeeded", "-c1 scaled down", "-a2 scaled down"]
    assert decided(*past, ev.ServiceScaled(ID, 1)) == ["=r1 succeeded", "-c1 scaled down", "-a2 scaled down", "-b1 scaled down"]


def test_scaling_down_in_the_midst_of_a_rollout_leaves_what_serves() -> None:
    past = [*FORMER, placed("c1", "c", 2), ev.ServiceScaled(ID, 1)]
    assert decided(*past) == ["-a1 replaced"]
    wide = [deployed(replicas=3), *running("a1", "b1", "c1"), GOOD, deployed(2, 3), *(placed(f"x{n}", "a", 2) for n in range(3))]
    assert decided(*wide) == ["-x2 scaled down", "-x1 scaled down"]


def test_a_draining_host_is_emptied_when_others_have_taken_its_place() -> None:
    views = {**ALL, "a": host("a", mode="draining")}
    past = [deployed(), *running("a1"), GOOD]
    assert decided(*past, views=views) == ["+n1 r1 on b"]
    assert decided(*past, placed("b1", "b"), views=views) == []
    assert decided(*past, *running("b1"), views=views) == ["-a1 moved"]
    assert decided(*past, views=hosts(host("a", mode="draining"))) == []
    assert decided(deployed(), placed("a1"), views=views) == ["+n1 r1 on b", "-a1 moved"]


@pytest.mark.parametrize("view", [host("a", mode="paused"), host("a", online=False), None])
def test_an_instance_stays_on_a_host_that_only_takes_no_more(view: HostView | None) -> None:
    views = {**ALL, "a": view} if view else hosts("b")
    assert decided(deployed(), *running("a1"), GOOD, views=views) == []


def test_a_rollout_has_failed_with_the_second_failure_and_the_good_revision_is_restored() -> None:
    once = [*FORMER, placed("c1", "c", 2), ended("c1", "failed", "exit 1")]
    assert decided(*once) == ["+n1 r2 on a"]
    twice = [*once, *running("b2", revision=2), draining("a1"), placed("c2", "c", 2), ended("c2", "failed", "exit 2")]
    assert decided(*twice) == ["=r2 failed: exit 2", "+n1 r1 on a"]
    assert decided(*twice, placed("a3", "a"), told("a3")) == ["=r2 failed: exit 2", "-b2 not healthy"]


def test_what_hosts_are_to_blame_for_does_not_end_a_rollout() -> None:
    lost = [*FORMER, placed("c1", "c", 2), ended("c1", "lost"), placed("c2", "c", 2), ended("c2", "unclaimed"), placed("c3", "c", 2)]
    assert decided(*lost) == []


@pytest.mark.parametrize(
    ("past", "said"),
    [
        ([], "it was not healthy within 10 minutes: some of its instances are still being started"),
        ([placed("c0", "c", 2), ended("c0", "failed", "exit 1")], "it was not healthy within 10 minutes: exit 1"),
    ],
)
def test_a_rollout_has_failed_when_it_takes_too_long(past: list[ev.Event], said: str) -> None:
    past = [*FORMER, *past, placed("c1", "c", 2)]
    assert decided(*past, now=T0 + HEALTHY_MS - 1) == []
    assert decided(*past, now=T0 + HEALTHY_MS) == [f"=r2 failed: {said}", "-c1 not healthy"]
    assert decided(*past, ev.ServiceStopped(ID), draining("a1"), draining("b1"), draining("c1"), now=T0 + HEALTHY_MS) == []


def test_a_rollout_for_which_there_is_no_place_fails_in_the_end() -> None:
    views = hosts(host("a", managed=False, instances=1))
    past = [deployed(), *running("a1"), GOOD, deployed(2)]
    said = "=r2 failed: it was not healthy within 10 minutes: no host could take it"
    assert decided(*past, views=views, now=T0 + HEALTHY_MS - 1) == []
    assert decided(*past, views=views, now=T0 + HEALTHY_MS) == [said]


def test_a_first_revision_is_tried_again_and_again() -> None:
    failing = [event for n in range(5) for event in (placed(f"a{n}"), ended(f"a{n}", "failed", "exit 1", T0 + 16 * SECOND))]
    assert decided(deployed(), *failing, now=T0 + 16 * SECOND - 1) == []
    assert decided(deployed(), *failing, now=T0 + 16 * SECOND) == ["+n1 r1 on b"]
    assert decided(deployed(), *failing, now=T0 + 2 * HEALTHY_MS) == ["+n1 r1 on a"]


def test_a_new_revision_does_not_wait_for_what_another_one_did() -> None:
    failed = [deployed(), placed("a1"), ended("a1", "failed", "exit 1", T0 + MINUTE)]
    assert decided(*failed) == []
    assert decided(*failed, deployed(2)) == ["+n1 r2 on b"]


def test_a_host_that_cannot_be_told_to_stop_is_free_at_once() -> None:
    views = hosts(host("a", managed=False, instances=1))
    past = [deployed(), *running("a1"), GOOD]
    assert decided(*past, ev.ServiceStopped(ID), views=views) == ["-a1 stopped", "xa1 left"]
    assert decided(*past, ev.ServiceRemoved(ID), views=views) == ["-a1 removed", "xa1 left", "ServiceForgotten"]
    assert decided(*past, ev.ServiceRemoved(ID), draining("a1"), views={}) == []


# What hosts say, and what follows from their silence.


def news(past: list[ev.Event], status: str, endpoint: str | None = None, error: str | None = None) -> list[ev.Event]:
    service = lived(deployed(), *past)
    return take_news(service, service.instances[-1], InstanceNews("a1", status, endpoint, error), T0)


@pytest.mark.parametrize("past", [[placed("a1")], [placed("a1"), told("a1", "starting", None)], running("a1")])
def test_a_host_says_something_new(past: list[ev.Event]) -> None:
    assert news(past, "running", "http://x:2") == [told("a1", endpoint="http://x:2")]
    assert news(past, "starting", error="exit 1") == [told("a1", "starting", None, "exit 1")]
    assert news(past, "failed", error="exit 1") == [ended("a1", "failed", "exit 1", T0 + SECOND)]


def test_what_its_host_ended_unasked_is_replaced_at_once_if_it_was_healthy() -> None:
    assert news(running("a1"), "ended") == [ended("a1", "lost", "its host ended it")]
    assert news([placed("a1")], "ended", error="full") == [ended("a1", "lost", "full", T0 + SECOND)]
    assert decided(deployed(), *running("a1"), ended("a1", "lost")) == ["+n1 r1 on b"]
    assert decided(deployed(), placed("a1"), ended("a1", "lost", None, T0 + SECOND)) == []


def test_what_is_known_already_is_no_event() -> None:
    assert news([placed("a1"), told("a1", "starting", None)], "starting") == []
    assert news(running("a1"), "running", "http://a:1") == []
    assert news(running("a1"), "running") == [told("a1", endpoint=None)]


@pytest.mark.parametrize(("status", "events"), [("starting", 0), ("running", 0), ("failed", 1), ("ended", 1)])
def test_of_one_that_is_draining_only_its_end_matters(status: str, events: int) -> None:
    assert news([*running("a1"), draining("a1")], status, "http://x:2", "exit 1") == [ended("a1")] * events


@pytest.mark.parametrize(
    ("past", "event"),
    [
        ([placed("a1")], ended("a1", "unclaimed", "its host did not take it up")),
        ([placed("a1"), told("a1", "starting")], ended("a1", "lost", "its host was not heard of")),
        (running("a1"), ended("a1", "lost", "its host was not heard of")),
        ([*running("a1"), draining("a1")], ended("a1")),
    ],
)
def test_silence_ends_an_instance(past: list[ev.Event], event: ev.Event) -> None:
    service = lived(deployed(), *past)
    assert expire(service, service.instances[0], T0) == [event]


def test_a_lost_instance_is_elsewhere_at_once() -> None:
    world = World("a", "b")
    world.deploy("fine")
    world.run_all()
    world.hosts["a"] = replace(world.hosts["a"], online=False)
    world.expire(world.alive.instances[0])
    assert world.on() == ["b"]


# Time.


def test_the_delay_doubles_up_to_a_minute() -> None:
    assert [backoff_ms(failures) // SECOND for failures in range(1, 10)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert backoff_ms(10**6) == MINUTE


def waits(world: World) -> int:
    """So many seconds pass until there is an instance again."""
    seconds = 0
    while not world.alive.live:
        world.pass_time(SECOND)
        seconds += 1
    return seconds


def test_a_service_that_fails_again_and_again_is_tried_more_and_more_rarely_until_it_runs_for_long() -> None:
    world = World("a", "b")
    world.deploy("broken")
    found = []
    for _ in range(8):
        world.run_all()
        assert world.alive.status == "failed"
        found.append(waits(world))
    assert found == [1, 2, 4, 8, 16, 32, 60, 60]
    world.run_all(fails="")
    assert world.alive.status == "running"
    world.pass_time(STEADY_MS)
    world.run_all()
    assert waits(world) == 1


def test_a_service_that_gets_healthy_and_fails_again_and_again_is_tried_more_and_more_rarely_too() -> None:
    world = World("a", "b")
    world.deploy("broken")
    found = []
    for _ in range(8):
        world.run_all(fails="")
        world.pass_time(20 * SECOND)
        assert world.alive.status == "running"
        world.run_all()
        found.append(waits(world))
    assert found == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_service_that_nobody_takes_up_is_placed_more_and_more_rarely() -> None:
    world = World("a")
    world.deploy("fine")
    found = []
    for _ in range(8):
        world.pass_time(15 * SECOND)
        world.expire(world.alive.instances[0])
        found.append(waits(world))
    assert found == [0, 1, 2, 4, 8, 16, 32, 60]
    assert world.alive.status == "pending"


def test_one_that_lived_for_long_and_was_lost_ends_the_row() -> None:
    world = World("a", "b")
    world.deploy("broken")
    for _ in range(3):
        world.run_all()
        waits(world)
    world.run_all(fails="")
    world.pass_time(STEADY_MS)
    world.expire(world.alive.instances[0])
    world.run_all()
    assert waits(world) == 1


# Stories.


def rolled_out(*commands: str, replicas: int = 2) -> World:
    """A world in which these were deployed one after the other, and hosts had time."""
    world = World("a", "b", "c")
    for command in commands:
        world.deploy(command, replicas=replicas)
        for _ in range(20):
            world.run_all()
            world.pass_time(SECOND)
    return world


def seen(service: Service) -> list[tuple[int, str]]:
    return [(instance.revision, instance.status) for instance in service.instances]


def test_a_healthy_revision_takes_the_place_of_the_former_one() -> None:
    service = rolled_out("one", "two").alive
    assert (seen(service), service.good, service.rollout) == ([(2, "running")] * 2, 2, "succeeded")


def test_a_broken_revision_leaves_the_former_one_in_its_place() -> None:
    service = rolled_out("one", "broken").alive
    assert (seen(service), service.good, service.target) == ([(1, "running")] * 2, 1, 1)
    assert (service.rollout, service.reason, service.status) == ("failed", "exit 1", "running")


def test_a_rollback_is_a_rollout_and_a_removed_service_vanishes() -> None:
    world = rolled_out("one", "two")
    world.wish(deployments.rollback)
    for _ in range(10):
        world.run_all()
    assert (seen(world.alive), world.alive.present.asked.command) == ([(3, "running")] * 2, "one")
    world.wish(deployments.remove)
    world.run_all()
    assert world.service is None

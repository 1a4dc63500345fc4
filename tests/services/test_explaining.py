"""Why a service is as it is, in words."""

from collections.abc import Mapping

import pytest

from skyclaw import events as ev
from skyclaw.services.explaining import explain
from skyclaw.services.placing import HostView
from tests.services.making import ID, MINUTE, SECOND, T0, deployed, draining, ended, host, hosts, lived, placed, running, told

TWO = hosts("a", "b")
GOOD = ev.RolloutEnded(ID, 1, True)


def reasons(*past: ev.Event, views: Mapping[str, HostView] = TWO, now: int = T0) -> list[str]:
    return list(explain(lived(*past), views, now)[0])


@pytest.mark.parametrize(
    ("past", "said"),
    [
        ([deployed(), *running("a1"), GOOD], ["1 of 1 instances is running"]),
        ([deployed(replicas=2), *running("a1", "b1"), GOOD], ["2 of 2 instances are running"]),
        (
            [deployed(replicas=2), *running("a1"), placed("b1", "b")],
            ["1 of 2 instances is running", "an instance is being started on B"],
        ),
        (
            [deployed(), *running("a1"), GOOD, told("a1", "starting", None, "exit 1")],
            ["0 of 1 instances are running", "an instance is being restarted on A: exit 1"],
        ),
        ([deployed(), ev.ServiceStopped(ID)], ["it is stopped"]),
        ([deployed(), *running("a1"), ev.ServiceRemoved(ID), draining("a1")], ["it has been removed", "1 instance is about to end"]),
        (
            [deployed(), placed("a1"), ended("a1", "failed", "exit 1", T0 + 3001)],
            ["0 of 1 instances are running", "waits 4 s more after its last failure: exit 1"],
        ),
        (
            [deployed(), *running("a1"), GOOD, deployed(2), placed("b1", "b", 2)],
            ["1 of 1 instances is running", "an instance is being started on B", "revision 2 is to take the place of revision 1"],
        ),
        (
            [deployed(), *running("a1"), GOOD, deployed(2), ev.RolloutEnded(ID, 2, False, "exit 1")],
            ["1 of 1 instances is running", "revision 2 failed: exit 1; revision 1 stays"],
        ),
    ],
)
def test_what_there_is_and_what_is_waited_for_is_said(past: list[ev.Event], said: list[str]) -> None:
    assert reasons(*past) == said


@pytest.mark.parametrize(
    ("views", "said"),
    [
        ({}, "no host is known; start one with: skyclaw host"),
        (hosts(host("a", capabilities=frozenset({"gpu"}))), "no host has service-host"),
        (hosts(host("a", mode="paused"), host("b", online=False)), "no host that could run it takes another instance now"),
    ],
)
def test_what_hosts_lack_is_said(views: Mapping[str, HostView], said: str) -> None:
    assert reasons(deployed(), views=views) == ["0 of 1 instances are running", said]


def test_hosts_matter_only_when_one_is_looked_for() -> None:
    past = [deployed(), *running("a1"), GOOD]
    assert reasons(*past, views={}) == ["1 of 1 instances is running"]
    assert reasons(*past, deployed(2), views={})[2:] == ["no host is known; start one with: skyclaw host"]


def test_what_may_be_tried_again_does_not_wait() -> None:
    past = [deployed(), placed("a1"), ended("a1", "failed", "exit 1", T0 + SECOND)]
    assert reasons(*past, now=T0 + SECOND) == ["0 of 1 instances are running", "the instance before failed: exit 1"]
    assert reasons(*past, now=T0 + SECOND - 1)[1:] == ["waits 1 s more after its last failure: exit 1"]


def test_that_instances_fail_one_after_the_other_is_said_while_the_next_one_is_tried() -> None:
    past = [deployed(), placed("a1"), ended("a1", "failed", "exit 1"), placed("b1", "b"), ended("b1", "failed", "exit 2"), placed("a2")]
    assert reasons(*past) == ["0 of 1 instances are running", "an instance is being started on A", "2 instances before failed: exit 2"]
    assert reasons(*past, told("a2")) == ["1 of 1 instances is running"]
    assert reasons(*past[:-1], ev.ServiceStopped(ID)) == ["it is stopped"]


def test_an_instance_that_finds_no_other_host_is_told_of() -> None:
    past = [deployed(), *running("a1"), GOOD]
    assert reasons(*past, views=hosts(host("a", mode="draining"), host("b", capacity=0))) == [
        "1 of 1 instances is running",
        "no host that could run it takes another instance now",
    ]
    assert reasons(*past, views=hosts(host("a", mode="draining"), "b")) == ["1 of 1 instances is running"]


def test_each_host_is_said_to_be_able_or_not() -> None:
    views = hosts("a", host("b", mode="draining"), "c", "d")
    service = lived(deployed(replicas=2), placed("c1", "c"), ended("c1", "failed", "exit 1"), placed("a1"), ended("a1", "lost"))
    assert explain(service, views, T0 + 5 * SECOND)[1] == {
        "a": (True, "could run it, but others are preferred: 5 s ago it was lost there"),
        "b": (False, "is draining"),
        "c": (True, "could run it, but others are preferred: 5 s ago it failed there: exit 1"),
        "d": (True, "could run it"),
    }
    assert explain(service, hosts("a", host("b", mode="draining")), T0)[1]["a"] == (
        True,
        "could run it, although 0 s ago it was lost there",
    )
    assert explain(service, hosts("a"), T0 + 10 * MINUTE)[1] == {"a": (True, "could run it")}


@pytest.mark.parametrize("error", ["command not allowed: rm", "cwd not allowed: /root"])
def test_a_host_that_refuses_the_present_revision_is_not_said_to_be_able(error: str) -> None:
    service = lived(deployed(), placed("a1"), ended("a1", "failed", error))
    assert explain(service, TWO, T0)[1] == {"a": (False, error), "b": (True, "could run it")}
    assert explain(lived(deployed(), GOOD, placed("a1"), ended("a1", "failed", error), deployed(2)), hosts("a"), T0)[1]["a"][0]

"""On which host the next instance runs."""

from dataclasses import replace
from typing import Any

import pytest

from skyclaw import events as ev
from skyclaw.services import placing
from skyclaw.services.service import FAILURE_MS
from tests.services.making import T0, deployed, draining, ended, host, hosts, lived, placed, running


def chosen(service: Any, *views: Any, now: int = T0) -> str | None:
    found = placing.choose(service, hosts(*views), now)
    return found.id if found else None


def test_of_equal_hosts_the_first_by_id_is_chosen() -> None:
    assert chosen(lived(deployed()), "b", "a", "c") == "a"
    assert chosen(lived(deployed())) is None


def test_the_emptier_host_is_chosen() -> None:
    assert chosen(lived(deployed()), host("a", instances=2), host("b", instances=1)) == "b"


def test_instances_of_the_revision_are_spread_before_anything_else_is() -> None:
    service = lived(deployed(replicas=2), *running("a1"))
    assert chosen(service, host("a", instances=1), host("b", instances=9)) == "b"


def test_instances_of_a_former_revision_or_that_end_do_not_count_for_the_spread() -> None:
    service = lived(deployed(replicas=2), *running("b1"), deployed(2, 2), *running("a1", revision=2))
    assert chosen(service, host("a", instances=1), host("b", instances=1)) == "b"
    service = lived(deployed(), *running("a1"), draining("a1"))
    assert chosen(service, host("a", instances=1), host("b", instances=1)) == "a"


@pytest.mark.parametrize("reason", ["failed", "lost", "unclaimed"])
def test_a_host_on_which_it_failed_lately_is_the_last_choice(reason: str) -> None:
    service = lived(deployed(), placed("a1"), ended("a1", reason))
    assert chosen(service, "a", host("b", instances=9)) == "b"
    assert chosen(service, "a") == "a"
    assert chosen(service, "a", "b", now=T0 + FAILURE_MS) == "a"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, None),
        ({"capabilities": frozenset({"service-host", "gpu", "more"})}, None),
        ({"capabilities": frozenset({"more"})}, "lacks service-host"),
        ({"online": False}, "is not heard of"),
        ({"mode": "paused"}, "is paused"),
        ({"mode": "draining"}, "is draining"),
        ({"mode": "quarantined"}, "is quarantined"),
        ({"capacity": 0}, "takes no services"),
        ({"instances": 15}, None),
        ({"instances": 16}, "is full (16 of 16)"),
        ({"managed": False, "instances": 15}, None),
        ({"managed": False, "instances": 16}, "is full (16 of 16)"),
    ],
)
def test_a_host_must_be_able_to_take_it(fields: dict[str, Any], why: str | None) -> None:
    service = lived(deployed())
    assert placing.obstacle(service, host("a", **fields)) == why
    assert (chosen(service, host("a", **fields)) is None) == (why is not None)


def test_all_capabilities_that_lack_are_named() -> None:
    service = lived(replace(deployed(), required=("gpu", "service-host", "tpu")))
    assert placing.obstacle(service, host()) == "lacks gpu, tpu"


def test_a_host_that_is_not_managed_takes_one_of_a_service() -> None:
    service = lived(deployed(replicas=2), *running("a1"))
    assert chosen(service, host("a", managed=False, instances=1)) is None
    assert chosen(service, host("a", managed=False, instances=1), "b") == "b"
    assert chosen(lived(deployed()), host("a", managed=False, instances=1)) == "a"


@pytest.mark.parametrize("end", [[draining("a1"), ended("a1", "left")], [ended("a1", "lost")]], ids=["left", "lost"])
def test_a_host_that_may_still_run_another_revision_and_cannot_be_told_to_end_it_gets_none_until_it_is_restarted(
    end: list[ev.Event],
) -> None:
    service = lived(deployed(), *running("a1"), *end)
    assert chosen(service, host("a", managed=False)) == "a"
    service = lived(deployed(), *running("a1"), *end, deployed(2))
    assert chosen(service, host("a", managed=False), "b") == "b"
    assert placing.obstacle(service, host("a", managed=False)) == (
        "may still run revision 1, which it cannot be told to end, until it is restarted"
    )
    assert chosen(service, host("a", managed=False, since=T0 + 1)) == "a"
    assert chosen(service, "a") == "a"


def test_of_an_instance_that_was_drained_or_has_failed_nothing_goes_on() -> None:
    left = [*running("a1"), draining("a1"), ended("a1", "left")]
    service = lived(deployed(), *left, placed("a2"), ended("a2", "failed", "exit 1"), deployed(2))
    assert chosen(service, host("a", managed=False)) == "a"
    service = lived(deployed(), *running("a1"), draining("a1"), ended("a1"), deployed(2))
    assert chosen(service, host("a", managed=False)) == "a"

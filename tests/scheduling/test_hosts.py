"""One host: its lives, its mode, and the row of leases it lost."""

import pytest

from skyclaw import events as ev
from skyclaw.scheduling import hosts
from skyclaw.scheduling.hosts import ACTIVE, DRAINING, PAUSED, Host
from tests.scheduling.making import T0, done, failed, stamp

BORN = ev.HostRegistered("h1", "one", ("gpu", "linux"), 4, (("room", "a"),))
LOST = ev.JobLeaseExpired("j1", "h1")


def after(*events: ev.Event) -> Host | None:
    host = None
    for number, event in enumerate(events):
        host = hosts.evolve(host, event, stamp(number + 1, T0 + number))
    return host


def known(*events: ev.Event) -> Host:
    host = after(*events)
    assert host is not None
    return host


def test_a_new_host_is_as_it_says() -> None:
    assert after(BORN) == Host("h1", "one", frozenset({"gpu", "linux"}), 4, T0, T0, 1, ACTIVE, 0, (("room", "a"),))


def test_a_new_life_takes_over_the_first_registration_and_nothing_else_that_was_said() -> None:
    host = after(BORN, ev.HostRegistered("h1", "two", ("arm",), 1))
    assert host == Host("h1", "two", frozenset({"arm"}), 1, T0, T0 + 1, 2, ACTIVE, 0, ())


@pytest.mark.parametrize(("mode", "then"), [(ACTIVE, ACTIVE), (PAUSED, PAUSED), (DRAINING, ACTIVE)])
def test_a_pause_outlives_a_restart_and_a_drain_does_not(mode: str, then: str) -> None:
    assert known(BORN, ev.HostModeChanged("h1", mode), BORN).mode == then


def test_a_change_of_mode_is_a_change_of_the_host() -> None:
    host = known(BORN, ev.HostModeChanged("h1", DRAINING))
    assert (host.mode, host.version, host.updated_at) == (DRAINING, 2, T0 + 1)


def test_lost_leases_are_counted_in_a_row() -> None:
    assert known(BORN, LOST, LOST, LOST).losses_in_a_row == 3


@pytest.mark.parametrize("result", [done(), failed()])
def test_any_result_ends_the_row(result: ev.Event) -> None:
    assert known(BORN, LOST, LOST, result).losses_in_a_row == 0
    assert known(BORN, LOST, LOST, result, LOST).losses_in_a_row == 1


def test_a_new_life_does_not_end_the_row() -> None:
    assert known(BORN, LOST, LOST, BORN).losses_in_a_row == 2


def test_how_leases_fare_is_no_change_of_the_host_itself() -> None:
    assert known(BORN, LOST, LOST, done()).version == 1
    host = known(BORN)
    assert hosts.evolve(host, done(), stamp(2)) is host


def test_a_forgotten_host_is_gone_and_begins_anew() -> None:
    assert after(BORN, LOST, ev.HostForgotten("h1")) is None
    assert known(BORN, LOST, ev.HostForgotten("h1"), BORN).losses_in_a_row == 0


@pytest.mark.parametrize("event", [ev.HostModeChanged("h1", PAUSED), LOST, done(), failed(), ev.HostForgotten("h1")])
def test_there_is_no_host_that_never_registered(event: ev.Event) -> None:
    assert after(event) is None


def test_an_event_about_something_else_changes_nothing() -> None:
    host = known(BORN)
    assert hosts.evolve(host, ev.OwnershipTaken("n", "restarted"), stamp(2)) is host

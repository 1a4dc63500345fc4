"""What each event makes of a service."""

import pytest

from skyclaw import events as ev
from skyclaw.services.service import (
    FAILURE_MS,
    MOST_FAILURES,
    MOST_REVISIONS,
    PLACED,
    RUNNING,
    Failure,
    Instance,
    Service,
    evolve,
)
from tests.services.making import ID, MINUTE, T0, deployed, draining, ended, lived, placed, running, told


def after(service: Service, *events: ev.Event, at: int = T0) -> Service:
    found: Service | None = service
    for event in events:
        found = evolve(found, event, at)
    assert found is not None
    return found


def test_the_first_deployment_makes_the_service() -> None:
    service = lived(deployed(replicas=2))
    assert (service.id, service.name, service.target, service.replicas, service.good) == (ID, "web", 1, 2, 0)
    assert (service.version, service.created_at, service.rollout, service.status) == (1, T0, "rolling", "pending")


def test_every_change_is_counted_and_timed() -> None:
    service = after(lived(deployed()), ev.ServiceScaled(ID, 3), at=T0 + 5)
    assert (service.version, service.created_at, service.updated_at, service.replicas) == (2, T0, T0 + 5, 3)


def test_an_event_without_a_service_makes_none() -> None:
    assert evolve(None, ev.ServiceStopped(ID), T0) is None
    assert evolve(lived(deployed()), ev.ServiceForgotten(ID), T0) is None


def test_what_is_not_about_it_changes_nothing() -> None:
    service = lived(deployed())
    assert evolve(service, ev.HostForgotten("h"), T0 + 1) is service
    assert evolve(service, told("unknown"), T0 + 1) is service


def test_an_instance_goes_through_its_life() -> None:
    service = lived(deployed(), placed("a1"))
    assert service.instances == (Instance("a1", 1, "a", PLACED, T0, T0),)
    service = after(service, told("a1"), at=T0 + 1)
    assert service.instances == (Instance("a1", 1, "a", RUNNING, T0, T0 + 1, "http://a:1", None, T0 + 1),)
    service = after(service, told("a1", "starting", None, "exit 1"), at=T0 + 2)
    assert service.instances == (Instance("a1", 1, "a", "starting", T0, T0 + 2, None, "exit 1", T0 + 1),)
    service = after(service, told("a1"), at=T0 + 3)
    assert service.instances[0].running_since == T0 + 3
    service = after(service, draining("a1"), at=T0 + 4)
    assert (service.instances[0].status, service.live) == ("draining", ())
    assert after(service, ended("a1")).instances == ()


def test_a_report_that_says_no_more_of_an_endpoint_clears_it_and_one_that_repeats_running_keeps_its_time() -> None:
    service = after(lived(deployed(), *running("a1")), told("a1", endpoint=None), at=T0 + 9)
    assert (service.instances[0].endpoint, service.instances[0].running_since) == (None, T0)


def test_what_is_draining_does_not_come_back() -> None:
    service = after(lived(deployed(), *running("a1"), draining("a1")), told("a1", "starting"))
    assert service.instances[0].status == "draining"


def test_failures_are_counted_for_the_revision_and_a_running_one_ends_the_row() -> None:
    failing = [placed("a1"), ended("a1", "failed", "exit 1", T0 + 7), placed("b1", "b"), ended("b1", "failed", "exit 2", T0 + 5)]
    service = lived(deployed(), *failing)
    assert (service.present.failures, service.present.in_a_row) == (2, 2)
    assert (service.present.error, service.present.retry_at) == ("exit 2", T0 + 7)
    service = after(service, *running("a2"))
    assert (service.present.failures, service.present.in_a_row) == (2, 0)


def test_the_latest_failure_of_each_host_is_known_for_ten_minutes() -> None:
    service = lived(deployed(), placed("a1"), ended("a1", "failed", "exit 1"), placed("a2"), ended("a2", "lost", "silent"))
    assert service.failures == (Failure("a2", "a", 1, T0, "lost", "silent"),)
    assert service.failure_on("a", T0 + FAILURE_MS - 1) == service.failures[0]
    assert service.failure_on("a", T0 + FAILURE_MS) is None
    assert service.failure_on("b", T0) is None
    service = after(service, placed("b1", "b"), ended("b1", "unclaimed"), at=T0 + 10 * MINUTE)
    assert [failure.host_id for failure in service.failures] == ["b"]


@pytest.mark.parametrize("reason", ["lost", "unclaimed"])
def test_what_its_host_is_to_blame_for_is_no_failure_of_the_revision(reason: str) -> None:
    service = lived(deployed(), placed("a1"), ended("a1", reason, "silent"))
    assert (service.present.failures, service.present.in_a_row, len(service.failures), service.status) == (0, 0, 1, "pending")


def test_what_was_drained_is_no_failure() -> None:
    assert lived(deployed(), *running("a1"), draining("a1"), ended("a1")).failures == ()


def test_no_more_failures_are_kept_than_matter() -> None:
    many = [event for n in range(MOST_FAILURES + 5) for event in (placed(f"i{n}", f"h{n}"), ended(f"i{n}", "failed"))]
    failures = lived(deployed(), *many).failures
    assert len(failures) == MOST_FAILURES
    assert failures[-1].host_id == f"h{MOST_FAILURES + 4}"


def test_a_healthy_revision_is_the_good_one() -> None:
    service = lived(deployed(), ev.RolloutEnded(ID, 1, True))
    assert (service.good, service.target, service.rollout) == (1, 1, "succeeded")


def test_a_failed_rollout_goes_back_to_the_good_revision() -> None:
    service = lived(deployed(), ev.RolloutEnded(ID, 1, True), deployed(2), ev.RolloutEnded(ID, 2, False, "exit 1"))
    assert (service.good, service.target, service.rollout, service.reason) == (1, 1, "failed", "exit 1")
    assert service.newest.number == 2


def test_a_failed_rollout_changes_no_more_than_it_must() -> None:
    assert lived(deployed(), ev.RolloutEnded(ID, 1, False, "exit 1")).target == 1
    service = lived(deployed(), ev.RolloutEnded(ID, 1, True), deployed(2), deployed(3), ev.RolloutEnded(ID, 2, False, "exit 1"))
    assert (service.target, service.version) == (3, 5)


def test_a_revision_that_is_replaced_before_it_was_decided_is_superseded() -> None:
    service = lived(deployed(), deployed(2))
    assert [revision.state for revision in service.revisions] == ["superseded", "rolling"]


def test_a_deployment_starts_what_was_stopped_or_removed() -> None:
    service = lived(deployed(), ev.ServiceStopped(ID), ev.ServiceRemoved(ID), deployed(2, 3))
    assert (service.stopped, service.removed, service.replicas, service.wanted, service.target) == (False, False, 3, 3, 2)


def test_the_latest_revisions_are_kept_and_the_good_one_and_those_of_instances() -> None:
    service = lived(deployed(), ev.RolloutEnded(ID, 1, True), deployed(2), placed("a1", "a", 2), *(deployed(n) for n in range(3, 20)))
    assert [revision.number for revision in service.revisions] == [1, 2, *range(20 - MOST_REVISIONS, 20)]
    assert service.revision(9) is None


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([], "pending"),
        ([placed("a1")], "pending"),
        ([placed("a1"), *running("b1")], "running"),
        ([placed("a1"), ended("a1", "failed")], "failed"),
        ([placed("a1"), ended("a1", "failed"), placed("b1", "b")], "pending"),
        ([*running("a1"), draining("a1")], "pending"),
        ([*running("a1"), ev.ServiceStopped(ID), draining("a1")], "running"),
        ([ev.ServiceStopped(ID)], "stopped"),
        ([ev.ServiceRemoved(ID)], "stopped"),
    ],
)
def test_a_service_is_described_in_one_word(events: list[ev.Event], status: str) -> None:
    assert lived(deployed(), *events).status == status

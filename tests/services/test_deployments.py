"""What may be wanted of a service, and what follows from it."""

from collections.abc import Callable

import pytest

from skyclaw import events as ev
from skyclaw.commands import Deploy
from skyclaw.errors import Refused
from skyclaw.services import deployments
from skyclaw.services.service import Service
from tests.services.making import ID, deployed, lived

GOOD = ev.RolloutEnded(ID, 1, True)
FULL = Deploy(
    "web", "node", ("app.js",), "app", (("A", "1"),), 3, ("gpu", "c", "b", "a", "d", "gpu"), "/health", 5_000, 0, "f" * 64,
)  # fmt: skip


def test_a_first_deployment_has_defaults() -> None:
    assert deployments.deploy(None, Deploy("web", "node"), ID) == [
        ev.ServiceDeployed(ID, 1, "web", "node", (), 1, ("service-host",), health_timeout_ms=30_000, drain_ms=10_000)
    ]


def test_what_is_given_is_taken() -> None:
    expected = ev.ServiceDeployed(
        ID, 1, "web", "node", ("app.js",), 3, ("a", "b", "c", "d", "gpu"), "app", (("A", "1"),), "/health", 5_000, 0, "f" * 64, "deployed"
    )
    assert deployments.deploy(None, FULL, ID) == [expected]


def test_what_is_not_given_stays_as_it_is_and_the_process_is_given_whole() -> None:
    service = lived(*deployments.deploy(None, FULL, ID), ev.ServiceScaled(ID, 5))
    [event] = deployments.deploy(service, Deploy("web", "python"), "another id")
    assert event == ev.ServiceDeployed(
        ID, 2, "web", "python", (), 5, ("a", "b", "c", "d", "gpu"), "app", (), "/health", 5_000, 0, "f" * 64, "deployed"
    )  # fmt: skip


def test_an_empty_text_unsets_what_the_former_revision_had() -> None:
    service = lived(*deployments.deploy(None, FULL, ID))
    [event] = deployments.deploy(service, Deploy("web", "node", cwd="", health_path="", bundle=""), ID)
    assert isinstance(event, ev.ServiceDeployed)
    assert (event.cwd, event.health_path, event.bundle, event.drain_ms) == (None, None, None, 0)
    assert deployments.deploy(None, Deploy("web", "node", cwd=""), ID) == deployments.deploy(None, Deploy("web", "node"), ID)


def test_a_revision_after_a_failed_one_is_like_the_good_one_and_has_a_number_of_its_own() -> None:
    service = lived(deployed(drain_ms=1), GOOD, deployed(2, drain_ms=2), ev.RolloutEnded(ID, 2, False, "exit 1"))
    [event] = deployments.deploy(service, Deploy("web", "node"), ID)
    assert isinstance(event, ev.ServiceDeployed)
    assert (event.revision, event.drain_ms) == (3, 1)


def test_scaling_to_what_is_wanted_already_changes_nothing() -> None:
    service = lived(deployed(replicas=2))
    assert deployments.scale(service, 2) == []
    assert deployments.scale(service, 3) == [ev.ServiceScaled(ID, 3)]


def test_what_is_stopped_or_removed_is_so_once() -> None:
    service = lived(deployed())
    assert deployments.stop(service) == [ev.ServiceStopped(ID)]
    assert deployments.stop(lived(deployed(), ev.ServiceStopped(ID))) == []
    assert deployments.remove(service) == [ev.ServiceRemoved(ID)]
    assert deployments.remove(lived(deployed(), ev.ServiceRemoved(ID))) == []
    assert deployments.stop(lived(deployed(), ev.ServiceRemoved(ID))) == []


def test_a_restart_is_a_revision_like_the_present_one() -> None:
    service = lived(deployed(command="a"), GOOD, ev.ServiceScaled(ID, 4))
    assert deployments.restart(service) == [deployed(2, 4, command="a", reason="restarted")]


def test_a_rollback_goes_to_the_healthy_revision_before() -> None:
    service = lived(deployed(command="a"), GOOD, deployed(2, command="b"), deployed(3, command="c"), ev.RolloutEnded(ID, 3, True))
    assert deployments.rollback(service) == [deployed(4, command="a", reason="rolled back to 1")]


def test_a_rollback_goes_no_further_than_it_must() -> None:
    past = [event for n, name in enumerate("abc", 1) for event in (deployed(n, command=name), ev.RolloutEnded(ID, n, True))]
    assert deployments.rollback(lived(*past)) == [deployed(4, command="b", reason="rolled back to 2")]
    assert deployments.rollback(lived(*past, deployed(4, command="d"))) == [deployed(5, command="c", reason="rolled back to 3")]


def test_a_rollback_passes_by_what_is_the_same() -> None:
    service = lived(deployed(command="a"), GOOD, deployed(2, command="b"), ev.RolloutEnded(ID, 2, True), deployed(3, command="b"))
    assert deployments.rollback(service) == [deployed(4, command="a", reason="rolled back to 1")]


def test_a_rollback_to_a_number_need_not_have_been_healthy() -> None:
    service = lived(deployed(command="a"), deployed(2, 7, command="b"), deployed(3, 2))
    assert deployments.rollback(service, 2) == [deployed(4, 2, command="b", reason="rolled back to 2")]


@pytest.mark.parametrize(
    ("service", "revision", "said"),
    [
        (lived(deployed()), None, "service web has no former healthy revision that differs from the present one"),
        (lived(deployed(), deployed(2)), None, "service web has no former healthy revision that differs from the present one"),
        (lived(deployed(), GOOD, deployed(2)), None, "service web has no former healthy revision that differs from the present one"),
        (lived(deployed(), deployed(2)), 7, "service web has no revision 7; there are 1, 2"),
        (lived(deployed(), deployed(2)), 2, "revision 2 of service web is the present one"),
    ],
)
def test_a_rollback_to_nothing_is_refused(service: Service, revision: int | None, said: str) -> None:
    with pytest.raises(Refused, match=f"^{said}$"):
        deployments.rollback(service, revision)


@pytest.mark.parametrize("decide", [deployments.restart, deployments.rollback, lambda service: deployments.scale(service, 1)])
def test_a_removed_service_is_only_deployed_again(decide: Callable[[Service], object]) -> None:
    removed = lived(deployed(), GOOD, deployed(2, command="b"), ev.ServiceRemoved(ID))
    with pytest.raises(Refused, match=r"^service web has been removed$"):
        decide(removed)
    assert len(deployments.deploy(removed, Deploy("web", "node"), ID)) == 1

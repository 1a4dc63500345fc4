"""The simulation can fail: each injected fault is caught, and the same seed is clean without it."""

from collections.abc import Callable

import pytest

from skyclaw.cluster.replica import Broken
from tests.cluster import test_replication
from tests.cluster.simulation import scenarios
from tests.cluster.simulation.checker import Violation
from tests.cluster.simulation.faults import FAULTS, injected

CAUGHT_BY_SEED = {
    "answers_early": 0,
    "common_too_far": 0,
    "counts_what_was_sent": 0,
    "few_grants": 2,
    "grants_to_stale_copy": 4,
    "no_dedupe": 0,
    "no_token": 11,
    "obeys_any_epoch": 36,
    "one_step": 202,
    "sends_before_sync": 0,
    "undo_forgets": 0,
    "undo_keeps_owner": 7,
}

# What harms only in one world of thousands, or does no harm but to speed.
CAUGHT_BY_TEST: dict[str, Callable[[], None]] = {
    "counts_older_epochs": test_replication.test_records_of_older_epochs_are_committed_only_underneath_an_own_one,
    "learns_without_promise": test_replication.test_a_learner_gets_what_is_committed_and_promises_its_epoch,
    "owns_without_grants": test_replication.test_an_invitation_that_comes_late_takes_nothing_over,
    "polls_blindly": test_replication.test_a_node_that_flaps_does_not_disturb_the_owner,
}


@pytest.mark.parametrize(("name", "seed"), CAUGHT_BY_SEED.items())
def test_a_fault_is_caught(name: str, seed: int) -> None:
    with injected(name), pytest.raises(Violation):
        scenarios.run(seed)
    scenarios.run(seed)


@pytest.mark.parametrize(("name", "test"), CAUGHT_BY_TEST.items())
def test_a_rare_fault_is_caught(name: str, test: Callable[[], None]) -> None:
    with injected(name), pytest.raises((AssertionError, Broken)):
        test()


def test_every_fault_is_tried() -> None:
    assert set(FAULTS) == {*CAUGHT_BY_SEED, *CAUGHT_BY_TEST}

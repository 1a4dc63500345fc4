"""Leases by the host's own clock."""

import pytest

from skyclaw.hosting.held_leases import Attempt, HeldLeases, Lease, Stage, Why, certain_since

A = Attempt("run-1", Lease("job_a", "t1"), "shell", lease_ms=60_000, renewed=1_000)
B = Attempt("run-2", Lease("job_b", "t2"), "shell", lease_ms=20_000, renewed=1_000)


@pytest.fixture
def held() -> HeldLeases:
    held = HeldLeases()
    held.take(A)
    held.take(B)
    return held


def test_a_lease_is_overdue_when_its_time_has_passed_since_the_request_that_renewed_it_was_sent(held: HeldLeases) -> None:
    assert held.overdue(20_999) == ()
    assert held.overdue(21_000) == (B,)
    held.renew([B.lease], sent=15_000)
    assert held.overdue(34_999) == ()
    assert [attempt.id for attempt in held.overdue(61_000)] == ["run-1", "run-2"]


def test_an_older_request_does_not_take_back_what_a_newer_one_renewed(held: HeldLeases) -> None:
    held.renew([B.lease], sent=15_000)
    held.renew([B.lease], sent=9_000)
    assert held.overdue(30_000) == ()


def test_only_the_very_lease_is_renewed(held: HeldLeases) -> None:
    held.renew([Lease("job_b", "older")], sent=15_000)
    assert held.overdue(21_000) == (B,)


def test_leases_of_running_attempts_and_of_results_on_their_way_are_listed(held: HeldLeases) -> None:
    held.end("run-1")
    assert held.listed() == (A.lease, B.lease)
    held.stop("run-2", Why.CANCELLED)
    assert held.listed() == (A.lease,)


@pytest.mark.parametrize("why", Why)
def test_what_is_stopped_is_listed_while_it_dies_if_its_job_is_to_be_given_back(held: HeldLeases, why: Why) -> None:
    held.stop("run-2", why)
    assert (B.lease in held.listed()) is (why in (Why.LAPSED, Why.DRAINED, Why.UNABLE))
    held.give_back("run-2", why)
    assert held.listed() == (A.lease,)
    assert held.of_job("job_b") is None
    assert len(held) == 2


def test_the_lease_of_a_dying_attempt_is_lost_when_its_job_comes_again(held: HeldLeases) -> None:
    held.stop("run-2", Why.LAPSED)
    held.take(Attempt("run-3", Lease("job_b", "t3"), "shell", 60_000, 5_000))
    assert held.listed() == (A.lease, Lease("job_b", "t3"))
    former = held.get("run-2")
    assert former is not None
    assert (former.stage, former.why) == (Stage.STOPPING, Why.LOST)


def test_a_job_that_is_being_given_back_stays_so_when_it_comes_again(held: HeldLeases) -> None:
    held.give_back("run-2", Why.DRAINED)
    held.take(Attempt("run-3", Lease("job_b", "t3"), "shell", 60_000, 5_000))
    returned = held.get("run-2")
    assert returned is not None
    assert (returned.stage, returned.why) == (Stage.RETURNED, Why.DRAINED)


def test_a_finished_attempt_is_never_overdue_because_nothing_runs(held: HeldLeases) -> None:
    held.end("run-2")
    assert held.overdue(50_000) == ()
    assert held.running() == (A,)


def test_an_attempt_that_stops_is_not_overdue_again_and_not_the_jobs_any_more(held: HeldLeases) -> None:
    held.stop("run-2", Why.LAPSED)
    assert held.overdue(50_000) == ()
    assert held.of_job("job_b") is None
    assert len(held) == 2


@pytest.mark.parametrize(("why", "gives_back"), [(Why.LAPSED, True), (Why.DRAINED, True), (Why.LOST, False), (Why.CANCELLED, False)])
def test_only_a_job_that_may_still_be_ours_is_given_back(held: HeldLeases, why: Why, gives_back: bool) -> None:
    held.stop("run-1", why)
    stopped = held.get("run-1")
    assert stopped is not None
    assert (stopped.stage, stopped.why) == (Stage.STOPPING, why)
    assert why.gives_back is gives_back


def test_a_settled_attempt_is_forgotten_once(held: HeldLeases) -> None:
    assert held.settle("run-1") == A
    assert held.settle("run-1") is None
    assert held.get("run-1") is None
    assert len(held) == 1


def test_the_same_job_may_run_again_while_its_former_attempt_still_dies(held: HeldLeases) -> None:
    held.stop("run-1", Why.LOST)
    again = Attempt("run-3", Lease("job_a", "t3"), "shell", 60_000, 5_000)
    held.take(again)
    assert held.of_job("job_a") == again
    assert len(held) == 3


def test_the_shortest_lease_sets_the_pace(held: HeldLeases) -> None:
    assert (held.shortest_ms(), HeldLeases().shortest_ms()) == (20_000, None)


@pytest.mark.parametrize(
    ("sent", "received", "since"),
    [(1_000, 1_020, 1_000), (1_000, 26_000, 25_000), (1_000, 2_000, 1_000)],
    ids=["answered at once", "parked", "one second"],
)
def test_a_claimed_lease_counts_from_its_request_or_if_parked_from_just_before_its_answer(sent: int, received: int, since: int) -> None:
    assert certain_since(sent, received) == since

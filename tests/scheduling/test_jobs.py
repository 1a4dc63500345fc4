"""One job: every decision in every state, and what each event makes of it."""

from dataclasses import replace

import pytest

from skyclaw import events as ev
from skyclaw.errors import AlreadyFinished, NotFinished, NotLeased, Refused, SkyclawError, StaleAttempt
from skyclaw.scheduling import jobs
from skyclaw.scheduling.jobs import CANCELLED, COMPLETED, FAILED, LEASED, QUEUED, Job, Lease, Result
from tests.scheduling.making import T0, asked, done, failed, lived, outcome, stamp, token

LEASE = ev.JobLeased("j1", "h1", 60_000, "c1")
QUEUED_JOB = lived(asked())
LEASED_JOB = lived(asked(), LEASE)
COMPLETED_JOB = lived(asked(), LEASE, done())
FAILED_JOB = lived(asked(), LEASE, failed())
EXHAUSTED_JOB = lived(asked(), LEASE, ev.JobLeaseExpired("j1", "h1"), failed(host_id=None, reason="exhausted"))
CANCELLED_JOB = lived(asked(), LEASE, ev.JobCancelled("j1"))
EVERY_STATE = [QUEUED_JOB, LEASED_JOB, COMPLETED_JOB, FAILED_JOB, EXHAUSTED_JOB, CANCELLED_JOB]
NOT_LEASED = [job for job in EVERY_STATE if job is not LEASED_JOB]


def status(job: Job) -> str:
    return f"{job.status} {job.reason or ''}".strip()


# Reports.


@pytest.mark.parametrize("with_token", [token(2), None])
def test_the_attempt_in_force_may_report_success(with_token: str | None) -> None:
    told = outcome(detail='{"x":1}')
    assert jobs.report(LEASED_JOB, "h1", with_token, told, T0, 0.0) == [ev.JobCompleted("j1", "h1", 5, 0, "out", "err", '{"x":1}')]


def test_a_reported_failure_is_the_end_when_it_was_the_last_attempt() -> None:
    told = outcome(False, error="exit 1")
    assert jobs.report(LEASED_JOB, "h1", token(2), told, T0, 0.0) == [ev.JobFailed("j1", "h1", 5, 1, "out", "err", "exit 1")]


def test_a_reported_failure_is_followed_by_another_attempt_while_there_are_any() -> None:
    job = lived(asked(max_attempts=2, backoff_ms=400), LEASE)
    _, again = jobs.report(job, "h1", token(2), outcome(False), T0, 0.5)
    assert again == ev.JobRetryScheduled("j1", T0 + 300)


def test_failures_are_counted_and_not_leases() -> None:
    job = replace(LEASED_JOB, asked=asked(max_attempts=2), attempts=9, losses=3)
    assert len(jobs.report(job, "h1", token(2), outcome(False), T0, 0.0)) == 2
    assert len(jobs.report(replace(job, failures=1), "h1", token(2), outcome(False), T0, 0.0)) == 1


@pytest.mark.parametrize("job", NOT_LEASED, ids=status)
@pytest.mark.parametrize("with_token", [token(2), None])
def test_a_job_that_is_not_leased_takes_no_report_and_no_release(job: Job, with_token: str | None) -> None:
    with pytest.raises(NotLeased):
        jobs.report(job, "h1", with_token, outcome(), T0, 0.0)
    with pytest.raises(NotLeased):
        jobs.release(job, "h1", with_token, "leaving")


@pytest.mark.parametrize(
    ("host_id", "with_token", "said"),
    [
        ("h2", token(2), "job j1 is assigned to h1"),
        ("h2", None, "job j1 is assigned to h1"),
        ("h1", token(1), "job j1 was leased again since"),
        ("h1", "", "job j1 was leased again since"),
        ("h1", "0.2.n/2", "job j1 was leased again since"),
    ],
)
def test_a_stale_attempt_is_refused(host_id: str, with_token: str | None, said: str) -> None:
    with pytest.raises(StaleAttempt, match=said):
        jobs.report(LEASED_JOB, host_id, with_token, outcome(), T0, 0.0)
    with pytest.raises(StaleAttempt, match=said):
        jobs.release(LEASED_JOB, host_id, with_token, "leaving")


def test_a_refusal_tells_a_waiting_job_from_a_finished_one() -> None:
    with pytest.raises(NotLeased, match="job j1 is assigned to nobody"):
        jobs.require_lease(QUEUED_JOB, "h1", None)
    with pytest.raises(NotLeased, match="job j1 is not leased"):
        jobs.require_lease(COMPLETED_JOB, "h1", None)


@pytest.mark.parametrize("job", [COMPLETED_JOB, FAILED_JOB], ids=status)
def test_the_report_that_ended_a_job_is_known_when_it_comes_again(job: Job) -> None:
    assert jobs.repeats(job, "h1", token(2))
    assert jobs.repeats(job, "h1", None)
    assert not jobs.repeats(job, "h2", token(2))
    assert not jobs.repeats(job, "h1", token(1))


@pytest.mark.parametrize("job", [QUEUED_JOB, LEASED_JOB, EXHAUSTED_JOB, CANCELLED_JOB], ids=status)
def test_nothing_else_is_a_repetition(job: Job) -> None:
    assert not jobs.repeats(job, "h1", job.last_token)
    assert not jobs.repeats(job, "h1", None)


# Releases, expiry, cancelling, retrying.


def test_the_attempt_in_force_may_give_the_job_back() -> None:
    assert jobs.release(LEASED_JOB, "h1", token(2), "leaving") == [ev.JobReleased("j1", "leaving")]


def test_a_lost_lease_puts_the_job_back_until_it_was_lost_too_often() -> None:
    lost = ev.JobLeaseExpired("j1", "h1")
    assert jobs.expire(LEASED_JOB) == [lost]
    assert jobs.expire(replace(LEASED_JOB, losses=3)) == [lost]
    assert jobs.expire(replace(LEASED_JOB, losses=4)) == [
        lost,
        ev.JobFailed("j1", None, 0, -1, "", "", "its lease was lost 5 times", "exhausted"),
    ]


def test_an_agents_turn_is_not_repeated_on_a_guess() -> None:
    job = lived(asked(kind="openclaw-run"), LEASE)
    _, given_up = jobs.expire(job)
    assert given_up == ev.JobFailed("j1", None, 0, -1, "", "", "its lease was lost once", "exhausted")


@pytest.mark.parametrize("job", NOT_LEASED, ids=status)
def test_a_job_that_is_not_leased_loses_no_lease(job: Job) -> None:
    assert jobs.expire(job) == []


@pytest.mark.parametrize("job", EVERY_STATE, ids=status)
def test_what_has_not_finished_can_be_cancelled(job: Job) -> None:
    if job.finished:
        with pytest.raises(AlreadyFinished, match=f"job j1 has already finished: {job.status}"):
            jobs.cancel(job)
    else:
        assert jobs.cancel(job) == [ev.JobCancelled("j1")]


@pytest.mark.parametrize(
    ("job", "refusal"),
    [(QUEUED_JOB, NotFinished), (LEASED_JOB, NotFinished), (COMPLETED_JOB, Refused)],
    ids=["queued", "leased", "completed"],
)
def test_only_a_failed_or_cancelled_job_is_queued_again(job: Job, refusal: type[SkyclawError]) -> None:
    with pytest.raises(refusal) as raised:
        jobs.retry(job)
    assert type(raised.value) is refusal


@pytest.mark.parametrize("job", [FAILED_JOB, EXHAUSTED_JOB, CANCELLED_JOB], ids=status)
def test_a_retry_carries_all_that_memory_may_have_let_go(job: Job) -> None:
    (revived,) = jobs.retry(job)
    assert revived == ev.JobRevived("j1", asked(), 1, T0, job.version + 1, 1)
    known, unknown = jobs.evolve(job, revived, stamp(9)), jobs.evolve(None, revived, stamp(9))
    assert known == unknown


# What each event makes of a job.


def test_an_accepted_job_waits() -> None:
    request = asked(not_before=T0 + 5)
    assert jobs.evolve(None, request, stamp(4)) == Job(request, 4, T0, T0, version=1, status=QUEUED, not_before=T0 + 5)


def test_a_lease_names_its_place_in_the_log() -> None:
    assert LEASED_JOB.status == LEASED
    assert LEASED_JOB.lease == Lease("h1", token(2), T0 + 1, 60_000, "c1")
    assert (LEASED_JOB.last_token, LEASED_JOB.host_id, LEASED_JOB.attempts) == (token(2), "h1", 1)


def test_a_released_job_waits_again_and_nobody_is_to_blame() -> None:
    job = lived(asked(), LEASE, ev.JobReleased("j1", "leaving"))
    assert (job.status, job.lease, job.host_id) == (QUEUED, None, None)
    assert (job.attempts, job.failures, job.losses) == (1, 0, 0)
    assert job.last_token == token(2)


def test_a_lost_lease_is_counted() -> None:
    job = lived(asked(), LEASE, ev.JobLeaseExpired("j1", "h1"))
    assert (job.status, job.lease, job.host_id, job.losses) == (QUEUED, None, None, 1)


def test_a_completed_job_keeps_its_host_and_its_result() -> None:
    assert (COMPLETED_JOB.status, COMPLETED_JOB.lease, COMPLETED_JOB.host_id) == (COMPLETED, None, "h1")
    assert COMPLETED_JOB.result == Result(T0 + 2, 5, 0, "out", "err")
    assert COMPLETED_JOB.finished


def test_a_failed_job_keeps_its_host_its_result_and_the_error() -> None:
    assert (FAILED_JOB.status, FAILED_JOB.host_id, FAILED_JOB.failures) == (FAILED, "h1", 1)
    assert (FAILED_JOB.error, FAILED_JOB.reason) == ("broke", "failed")
    assert FAILED_JOB.result == Result(T0 + 2, 5, 1, "out", "err")


def test_a_job_that_was_given_up_has_no_result_and_no_failure() -> None:
    assert (EXHAUSTED_JOB.status, EXHAUSTED_JOB.host_id, EXHAUSTED_JOB.failures, EXHAUSTED_JOB.losses) == (FAILED, None, 0, 1)
    assert (EXHAUSTED_JOB.result, EXHAUSTED_JOB.reason) == (None, "exhausted")


def test_a_job_whose_retry_is_scheduled_shows_nothing_of_the_failure_but_the_count() -> None:
    job = lived(asked(max_attempts=2), LEASE, failed(), ev.JobRetryScheduled("j1", T0 + 500))
    assert (job.status, job.not_before, job.host_id, job.failures) == (QUEUED, T0 + 500, None, 1)
    assert (job.result, job.error, job.reason) == (None, None, None)


def test_a_cancelled_job_remembers_who_ran_it() -> None:
    assert (CANCELLED_JOB.status, CANCELLED_JOB.lease, CANCELLED_JOB.host_id) == (CANCELLED, None, "h1")
    assert CANCELLED_JOB.reason == "requested"


def test_a_revived_job_has_all_its_attempts_its_age_and_its_history_of_leases() -> None:
    (revived,) = jobs.retry(FAILED_JOB)
    job = jobs.evolve(FAILED_JOB, revived, stamp(9, T0 + 99))
    assert job is not None
    assert (job.status, job.position, job.created_at, job.updated_at) == (QUEUED, 1, T0, T0 + 99)
    assert (job.failures, job.losses, job.attempts, job.version) == (0, 0, 1, FAILED_JOB.version + 1)
    assert (job.last_token, job.result, job.error) == (None, None, None)


def test_a_job_that_was_revived_starts_at_once_whatever_was_asked_at_first() -> None:
    cancelled = lived(asked(not_before=T0 + 10**6), ev.JobCancelled("j1"))
    (revived,) = jobs.retry(cancelled)
    job = jobs.evolve(cancelled, revived, stamp(9))
    assert job is not None
    assert job.not_before == 0


def test_each_event_raises_the_version_by_one_and_moves_the_time() -> None:
    steps = [
        asked(max_attempts=2),
        LEASE,
        failed(),
        ev.JobRetryScheduled("j1", T0),
        LEASE,
        ev.JobReleased("j1", "x"),
        ev.JobCancelled("j1"),
    ]
    for number in range(1, len(steps) + 1):
        job = lived(*steps[:number])
        assert (job.version, job.updated_at) == (number, T0 + number - 1)


@pytest.mark.parametrize("event", [LEASE, ev.JobReleased("j1", "x"), done(), failed(), ev.JobCancelled("j1")])
def test_there_is_no_job_without_its_beginning(event: ev.Event) -> None:
    assert jobs.evolve(None, event, stamp(1)) is None


def test_an_event_about_something_else_changes_nothing() -> None:
    assert jobs.evolve(QUEUED_JOB, ev.OwnershipTaken("n", "restarted"), stamp(9)) is QUEUED_JOB


def test_a_head_has_no_outputs_and_all_the_rest() -> None:
    head = COMPLETED_JOB.head()
    assert head.result == Result(T0 + 2, 5, 0, None, None)
    assert replace(head, result=COMPLETED_JOB.result) == COMPLETED_JOB
    assert head.head() is head
    assert QUEUED_JOB.head() is QUEUED_JOB

"""When leases end."""

import pytest

from skyclaw.events import JobLeased
from skyclaw.scheduling.jobs import Job
from skyclaw.scheduling.leases import OVERTIME_MS, Deadlines
from tests.scheduling.making import T0, asked, lived

TTL = 60_000


def leased(job_id: str = "j1", timeout_ms: int | None = None, ttl: int = TTL) -> Job:
    return lived(asked(job_id, timeout_ms=timeout_ms), JobLeased(job_id, "h1", ttl))


def started(*some: Job, now: int = T0) -> Deadlines:
    deadlines = Deadlines()
    for job in some:
        deadlines.start(job, now)
    return deadlines


def due(deadlines: Deadlines, now: int) -> list[str]:
    return list(deadlines.due(now))


def test_a_lease_has_its_full_time_from_the_moment_it_is_known() -> None:
    deadlines = started(leased(), now=T0 + 123)  # whatever the event's own time was
    assert deadlines.end_of("j1") == T0 + 123 + TTL


def test_a_job_that_is_not_leased_has_no_end() -> None:
    assert Deadlines().end_of("j1") is None


def test_a_lease_ends_at_its_very_end() -> None:
    deadlines = started(leased())
    assert due(deadlines, T0 + TTL - 1) == []
    assert due(deadlines, T0 + TTL) == ["j1"]


def test_a_lease_ends_once() -> None:
    deadlines = started(leased())
    assert due(deadlines, T0 + TTL) == ["j1"]
    assert due(deadlines, T0 + 10 * TTL) == []
    assert deadlines.end_of("j1") is None
    assert len(deadlines) == 0


def test_leases_end_in_the_order_of_their_ends() -> None:
    deadlines = started(leased("long", ttl=900), leased("short", ttl=100), leased("middle", ttl=500))
    assert due(deadlines, T0 + 500) == ["short", "middle"]
    assert due(deadlines, T0 + 1000) == ["long"]


def test_a_renewal_gives_the_full_time_again() -> None:
    deadlines = started(leased())
    deadlines.renew(leased(), T0 + 50_000)
    assert deadlines.end_of("j1") == T0 + 50_000 + TTL
    assert due(deadlines, T0 + TTL) == []
    assert due(deadlines, T0 + 50_000 + TTL) == ["j1"]


def test_a_lease_can_be_renewed_for_ever_when_the_job_has_no_time_limit() -> None:
    deadlines, now = started(leased()), T0
    for _ in range(1000):
        now += TTL - 1
        assert due(deadlines, now) == []
        deadlines.renew(leased(), now)
    assert deadlines.end_of("j1") == now + TTL


def test_a_lease_is_not_renewed_beyond_the_jobs_own_time_and_half_a_minute() -> None:
    job = leased(timeout_ms=300_000)
    deadlines, now = started(job), T0
    while not due(deadlines, now):
        deadlines.renew(job, now)
        now += 1000
    assert now == T0 + 300_000 + OVERTIME_MS == T0 + 330_000


def test_a_short_time_limit_does_not_shorten_the_lease_itself() -> None:
    job = leased(timeout_ms=1000)
    deadlines = started(job)
    assert deadlines.end_of("j1") == T0 + TTL
    deadlines.renew(job, T0 + 59_000)
    assert deadlines.end_of("j1") == T0 + TTL


def test_a_lease_that_is_over_does_not_end_again() -> None:
    deadlines = started(leased("j1"), leased("j2"))
    deadlines.drop("j1")
    assert due(deadlines, T0 + TTL) == ["j2"]
    deadlines.drop("j2")  # once more does no harm


def test_a_new_lease_is_not_ended_by_the_entry_of_the_former_one() -> None:
    deadlines = started(leased())
    deadlines.drop("j1")
    deadlines.start(leased(), T0 + 30_000)
    assert due(deadlines, T0 + TTL) == []
    assert due(deadlines, T0 + 30_000 + TTL) == ["j1"]


def test_many_former_leases_of_a_job_leave_one_entry_in_the_heap() -> None:
    deadlines = Deadlines()
    for second in range(50):
        deadlines.start(leased(), T0 + 1000 * second)
        deadlines.drop("j1")
    deadlines.start(leased(), T0 + 50_000)
    for second in range(60, 600):
        deadlines.renew(leased(), T0 + 1000 * second)
        assert due(deadlines, T0 + 1000 * second) == []
    assert len(deadlines._heap) == 1


def test_a_lease_that_began_twice_in_one_moment_ends_once() -> None:
    deadlines = started(leased(), leased())
    assert due(deadlines, T0 + TTL) == ["j1"]


def test_renewing_what_is_not_leased_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        Deadlines().renew(leased(), T0)

"""HostAgent message by message, with its clock in the test's hand."""

from dataclasses import replace

import pytest

from actors.host_messages import Drain, HostUnknown, NotRenewed, Renewed, Settled, StopNow
from actors.ticker import Tick
from skyclaw.hosting.held_leases import Lease
from skyclaw.hosting.leaving import HASTE_MS, LAST_MS
from tests.support.host_bench import ENDED, A, Bench

B = Lease("job_b", "t2")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_claimed_jobs_run_and_are_listed_in_the_next_heartbeat(bench: Bench) -> None:
    agent = bench.agent()
    agent.handle(bench.claimed(A, B))
    assert [order.job_id for order in bench.executor.orders.values()] == ["job_a", "job_b"]
    assert bench.executor.heartbeats == []
    bench.now = 5_000
    agent.handle(Tick())
    agent.handle(Tick())
    assert bench.executor.heartbeats == [(A, B)]


def test_a_claim_that_was_parked_is_followed_by_a_heartbeat_at_once(bench: Bench) -> None:
    bench.agent().handle(bench.claimed(A, sent=0, received=20_000))
    assert bench.executor.heartbeats == [(A,)]


def test_a_heartbeat_says_which_claim_was_answered_last_also_when_it_brought_nothing(bench: Bench) -> None:
    agent = bench.agent()
    said = []
    for brought, claim_id in ((A,), "c.1"), ((), "c.2"):
        agent.handle(bench.claimed(*brought, claim_id=claim_id))
        agent.handle(HostUnknown())
        said.append((bench.executor.heartbeats[-1], bench.executor.answered))
    assert said == [((A,), "c.1"), ((A,), "c.2")]


def test_a_claim_that_was_parked_in_vain_is_followed_by_no_heartbeat(bench: Bench) -> None:
    bench.agent().handle(bench.claimed(sent=0, received=20_000))
    assert bench.executor.heartbeats == []


def test_a_heartbeat_that_failed_is_repeated_after_a_second(bench: Bench) -> None:
    agent = bench.agent()
    bench.now = 5_000
    agent.handle(Tick())
    agent.handle(NotRenewed())
    bench.now = 5_999
    agent.handle(Tick())
    assert len(bench.executor.heartbeats) == 1
    bench.now = 6_000
    agent.handle(Tick())
    assert len(bench.executor.heartbeats) == 2


def test_a_host_that_is_not_known_shows_itself_at_once(bench: Bench) -> None:
    bench.agent().handle(HostUnknown())
    assert bench.executor.heartbeats == [()]


def test_a_lease_that_is_not_renewed_ends_its_job_on_the_tick(bench: Bench) -> None:
    agent = bench.agent()
    agent.handle(bench.claimed(A, B))
    agent.handle(Renewed((A,), sent=10_000))
    bench.now = 60_000
    agent.handle(Tick())
    assert bench.executor.killed == [("run-2", "lease_not_renewed")]


def test_a_job_that_was_leased_while_the_host_leaves_is_given_back_unrun(bench: Bench) -> None:
    agent = bench.agent()
    agent.handle(Drain())
    assert (bench.slots.free, bench.outbox.goodbye) == (0, True)
    agent.handle(bench.claimed(A))
    assert (bench.executor.orders, bench.told) == ({}, [("job_a", "host_stops")])


def test_a_drained_host_is_idle_when_its_last_result_was_heard(bench: Bench) -> None:
    agent = bench.agent()
    agent.handle(bench.claimed(A))
    agent.handle(Drain())
    bench.outbox.goodbye = False  # said
    bench.executor.orders.clear()
    agent.handle(ENDED)
    agent.handle(Tick())
    assert bench.idle == []
    report = bench.outbox.reports()[0]
    bench.outbox.remove([report])
    agent.handle(Settled((report,), accepted=True))
    agent.handle(Tick())
    assert bench.idle == [True]


def test_the_grace_ends_what_still_runs(bench: Bench) -> None:
    agent = bench.agent(grace_ms=2_000)
    agent.handle(bench.claimed(A))
    agent.handle(Drain())
    bench.now = 1_999
    agent.handle(Tick())
    assert bench.executor.killed == []
    bench.now = 2_000
    agent.handle(Tick())
    assert bench.executor.killed == [("run-1", "host_stops")]
    agent.handle(replace(ENDED, exit_code=143, signal="TERM", killed="host_stops"))
    assert bench.told == [("job_a", "host_stops")]


def test_a_host_is_not_idle_while_a_claim_may_still_bring_jobs(bench: Bench) -> None:
    agent = bench.agent()
    bench.slots.claiming = True
    agent.handle(Drain())
    bench.outbox.goodbye = False
    agent.handle(Tick())
    claimed = bench.claimed(A)
    bench.slots.claiming = False
    agent.handle(Tick())  # told before the claim's answer
    assert bench.idle == []
    agent.handle(claimed)
    returned = tuple(bench.outbox.returns())
    bench.outbox.remove(returned)
    agent.handle(Settled(returned, accepted=True))
    agent.handle(Tick())
    assert bench.idle == [True]


@pytest.mark.parametrize(("message", "patience_ms"), [(Drain(), LAST_MS), (StopNow(), HASTE_MS)])
def test_a_host_does_not_wait_for_ever_for_coordinators_that_are_away(bench: Bench, message: object, patience_ms: int) -> None:
    agent = bench.agent()
    agent.handle(bench.claimed(A))
    bench.executor.orders.clear()
    agent.handle(ENDED)
    agent.handle(message)
    bench.now = patience_ms - 1
    agent.handle(Tick())
    assert bench.idle == []
    bench.now = patience_ms
    agent.handle(Tick())
    assert bench.idle == [True]

"""What becomes of a job on its host, step by step, without threads."""

from dataclasses import replace

import pytest

from actors.host_messages import GiveBack, Renewed, Report, Settled
from skyclaw.hosting.held_leases import Lease
from skyclaw.outside.processes import Order
from tests.support.host_bench import ENDED, A, Bench, job


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_job_becomes_an_order(bench: Bench) -> None:
    bench.take(timeoutMs=9_000)
    assert bench.executor.orders == {"run-1": Order("run-1", ("/bin/true",), {}, None, 9_000, 1_000, "job_a")}
    assert bench.said == ["[skyclaw] running job_a (shell)"]


def test_an_end_becomes_a_report_and_the_slot_is_free_when_a_coordinator_has_heard_it(bench: Bench) -> None:
    bench.take()
    bench.work.ended(ENDED)
    assert bench.told == [("job_a", True)]
    assert (bench.slots.free, bench.work.listed()) == (3, (A,))
    bench.work.told(Settled((bench.outbox.reports()[0],), accepted=True))
    assert (bench.slots.free, bench.work.listed()) == (4, ())
    assert bench.said[-1] == "[skyclaw] completed job_a: ok"


def test_what_cannot_be_run_is_reported_without_a_process(bench: Bench) -> None:
    bench.take(payload={"kind": "teleport"})
    assert (bench.executor.orders, bench.told) == ({}, [("job_a", False)])


@pytest.mark.parametrize("field", ["cancelled", "lost"])
def test_a_job_that_is_gone_is_killed_and_not_spoken_of(bench: Bench, field: str) -> None:
    bench.take()
    bench.work.renewed(replace(Renewed((A,), sent=0), **{field: frozenset({"job_a"})}))
    assert bench.executor.killed == [("run-1", field)]
    bench.work.ended(replace(ENDED, exit_code=143, signal="TERM", killed=field))
    assert (bench.told, bench.slots.free) == ([], 4)


def test_a_job_that_was_gone_before_the_kill_reached_it_is_not_spoken_of_either(bench: Bench) -> None:
    bench.take()
    bench.work.renewed(Renewed((A,), 0, cancelled=frozenset({"job_a"})))
    bench.work.ended(ENDED)
    assert (bench.told, bench.slots.free) == ([], 4)


def test_a_result_on_its_way_is_left_to_the_answer_it_will_get(bench: Bench) -> None:
    bench.take()
    bench.work.ended(ENDED)
    bench.work.renewed(Renewed((A,), 0, lost=frozenset({"job_a"})))
    assert (bench.told, bench.executor.killed) == ([("job_a", True)], [])


def test_a_lease_whose_job_came_again_is_not_listed_any_more_so_that_its_loss_does_not_hit_the_new_one(bench: Bench) -> None:
    bench.take()
    bench.work.ended(ENDED)
    bench.take(Lease("job_a", "t2"))
    assert bench.work.listed() == (Lease("job_a", "t2"),)
    bench.work.told(Settled((bench.outbox.reports()[0],), accepted=False))
    assert (bench.work.listed(), bench.slots.free) == ((Lease("job_a", "t2"),), 3)


def test_news_of_an_older_lease_does_not_touch_a_newer_one_of_the_same_job(bench: Bench) -> None:
    bench.take(Lease("job_a", "t2"))
    bench.work.renewed(Renewed((A,), 0, lost=frozenset({"job_a"})))
    assert bench.executor.killed == []


def test_a_job_that_is_leased_again_ends_its_former_attempt(bench: Bench) -> None:
    bench.take()
    bench.take(Lease("job_a", "t2"))
    assert bench.executor.killed == [("run-1", "lost")]
    assert bench.work.listed() == (Lease("job_a", "t2"),)
    bench.work.ended(replace(ENDED, killed="lost"))
    bench.work.ended(replace(ENDED, run_id="run-2"))
    assert bench.told == [("job_a", True)]


def test_a_lapsed_job_is_killed_and_given_back(bench: Bench) -> None:
    bench.take()
    bench.work.stop_overdue(59_999)
    assert bench.executor.killed == []
    bench.work.stop_overdue(60_000)
    bench.work.stop_overdue(60_250)
    assert bench.executor.killed == [("run-1", "lease_not_renewed")]
    bench.work.ended(replace(ENDED, exit_code=143, killed="lease_not_renewed"))
    assert bench.told == [("job_a", "lease_not_renewed")]
    assert not bench.work.settled
    bench.work.told(Settled((bench.outbox.returns()[0],), accepted=True))
    bench.outbox.remove(bench.outbox.returns())
    assert (bench.slots.free, bench.work.settled) == (4, True)


def test_a_lease_is_listed_until_the_process_that_is_stopped_has_ended(bench: Bench) -> None:
    bench.take()
    bench.work.stop_all()
    assert bench.work.listed() == (A,)
    bench.work.ended(replace(ENDED, exit_code=143, killed="host_stops"))
    assert (bench.work.listed(), bench.told) == ((), [("job_a", "host_stops")])


def test_a_lapsed_job_that_comes_again_while_it_dies_runs_on_under_its_new_lease_alone(bench: Bench) -> None:
    again = Lease("job_a", "t2")
    bench.take()
    bench.work.stop_overdue(60_000)
    bench.take(again)
    assert bench.work.listed() == (again,)
    bench.work.renewed(Renewed((again,), 60_000))
    bench.work.ended(replace(ENDED, exit_code=143, killed="lease_not_renewed"))
    assert (bench.executor.killed, bench.told, bench.slots.free) == ([("run-1", "lease_not_renewed")], [], 3)


def test_a_lapsed_job_that_had_just_finished_is_reported(bench: Bench) -> None:
    bench.take()
    bench.work.stop_overdue(60_000)
    bench.work.ended(ENDED)
    assert bench.told == [("job_a", True)]


def test_a_job_that_this_host_cannot_start_is_given_back_and_the_host_is_broken(bench: Bench) -> None:
    bench.take()
    bench.work.ended(replace(ENDED, exit_code=1, error="executor died: the executor for jobs does not answer"))
    assert bench.told == [("job_a", "host_cannot_start_processes")]
    assert bench.broken == ["executor died: the executor for jobs does not answer"]


def test_limits_that_the_machine_cannot_keep_are_said_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    for number in (1, 2):
        bench.take(Lease(f"job_{number}", "t"))
        bench.work.ended(replace(ENDED, run_id=f"run-{number}", limits_missing=("memory", "descendants")))
    assert caplog.text.count("limits_missing limits=memory,descendants") == 1


def test_a_renewed_lease_goes_on(bench: Bench) -> None:
    bench.take()
    bench.work.renewed(Renewed((A,), sent=50_000))
    bench.work.stop_overdue(109_999)
    assert bench.executor.killed == []


def test_a_lease_about_which_nobody_could_be_told_goes_on_as_it_was(bench: Bench) -> None:
    bench.take()
    bench.work.renewed(Renewed((A,), sent=50_000, doubtful=frozenset({"job_a"})))
    bench.work.stop_overdue(59_999)
    assert bench.executor.killed == []
    bench.work.stop_overdue(60_000)
    assert bench.executor.killed == [("run-1", "lease_not_renewed")]


def test_a_job_that_comes_when_the_host_leaves_is_given_back_unrun(bench: Bench) -> None:
    bench.slots.take(1)
    bench.work.decline(job(A), 0)
    assert (bench.executor.orders, bench.told) == ({}, [("job_a", "host_stops")])
    item = bench.outbox.returns()[0]
    assert isinstance(item, GiveBack)
    bench.work.told(Settled((item,), accepted=True))
    assert bench.slots.free == 4


def test_a_leaving_host_stops_what_runs_once(bench: Bench) -> None:
    bench.take()
    bench.work.stop_all()
    bench.work.stop_all()
    assert bench.executor.killed == [("run-1", "host_stops")]
    bench.work.renewed(Renewed((A,), 0, cancelled=frozenset({"job_a"})))
    bench.work.ended(replace(ENDED, killed="host_stops"))
    assert bench.told == [("job_a", "host_stops")]


def test_results_of_a_former_life_hold_their_leases_and_slots_until_they_are_settled(bench: Bench) -> None:
    left = Report("left-0", Lease("job_z", "t9"), 60_000, "shell", {"success": True})
    bench.outbox.put(left)
    bench.work.recover([left], now=0)
    assert (bench.work.listed(), bench.slots.free) == ((Lease("job_z", "t9"),), 3)
    bench.work.stop_overdue(10**9)
    assert bench.executor.killed == []
    bench.work.told(Settled((left,), accepted=False))
    assert (bench.work.listed(), bench.slots.free, bench.said) == ((), 4, [])

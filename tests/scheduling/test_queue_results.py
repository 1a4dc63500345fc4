"""How attempts end."""

import pytest

from skyclaw import commands as cmd
from skyclaw import events as ev
from skyclaw.answers import Elsewhere
from skyclaw.errors import (
    NotLeased,
    Refused,
    StaleAttempt,
    Unavailable,
    UnknownJob,
)
from skyclaw.scheduling import state as state_module
from tests.scheduling.making import MINUTE, T0, Shop, asked, done, kinds, lived, outcome, token


def test_a_result_is_accepted_once_and_known_when_it_comes_again(shop: Shop) -> None:
    shop.register()
    mine = shop.leased("j1")
    assert shop.report("j1", token=mine) == Elsewhere("j1", shop.state.end)
    again = shop.report("j1", token=mine)
    assert (again.duplicate, again.job.status, shop.turn.events) == (True, "completed", [])
    other = shop.report("j1", token=mine, success=False)
    assert (other.duplicate, other.job.status) == (True, "completed")


def test_a_stale_attempt_is_refused_whoever_holds_the_job_now(shop: Shop) -> None:
    shop.register("h1")
    shop.register("h2")
    old = shop.leased("j1", "h1")
    shop.pass_time(MINUTE)
    with pytest.raises(NotLeased):
        shop.report("j1", "h1", old)
    assert shop.claim("h2") == ["j1"]
    with pytest.raises(StaleAttempt):
        shop.report("j1", "h1", old)
    shop.ask(cmd.Release("j1", "h2", None, "x"))
    assert shop.claim("h1") == ["j1"]
    with pytest.raises(StaleAttempt):
        shop.report("j1", "h1", old)
    assert shop.report("j1", "h1", None) == Elsewhere("j1", shop.state.end)


def test_a_failure_with_attempts_left_waits_for_its_jittered_delay() -> None:
    shop = Shop(draw=0.5)
    shop.register()
    shop.leased("j1", max_attempts=2, backoff_ms=400)
    seen = shop.report("j1", success=False)
    assert (seen.job.status, seen.job.not_before) == ("queued", T0 + 300)
    shop.now += 300
    assert shop.claim() == ["j1"]
    assert shop.report("j1", success=False) == Elsewhere("j1", shop.state.end)


def test_an_unknown_job_is_unknown(shop: Shop) -> None:
    shop.register()
    for command in (cmd.Report("x", "h1", None, outcome()), cmd.Release("x", "h1", None, "x"), cmd.Cancel("x"), cmd.Retry("x")):
        with pytest.raises(UnknownJob, match="unknown job: x"):
            shop.ask(command)


def test_results_are_judged_one_by_one(shop: Shop) -> None:
    shop.register("h1", parallel=4)
    shop.register("h2")
    shop.leased("theirs", "h2")
    tokens = {name: shop.leased(name) for name in ("good", "bad", "again")}
    shop.report("again")
    reports = [("good", tokens["good"], True), ("theirs", None, True), ("bad", tokens["bad"], False), ("again", None, True)]
    reports += [("unknown", None, True), ("good", "0.0.n/1", True)]
    answer = shop.ask(cmd.ReportAll("h1", tuple(cmd.Report(job_id, "h1", token, outcome(ok)) for job_id, token, ok in reports)))
    assert answer.results == (
        ("good", "completed"),
        ("theirs", "stale_attempt", "job theirs is assigned to h2"),
        ("bad", "failed"),
        ("again", "completed"),
        ("unknown", "unknown_job", "unknown job: unknown"),
        ("good", "not_leased", "job good is not leased"),
    )
    assert kinds(shop) == ["JobCompleted", "JobFailed"]


def test_a_job_that_ended_long_ago_is_found_in_the_archive() -> None:
    lease = ev.JobLeased("old", "h1", MINUTE)
    shop = Shop(archived={"old": lived(asked("old"), lease, done("old")), "off": lived(asked("off"), ev.JobCancelled("off"))})
    shop.register()
    assert shop.report("old", "h1", token(2)).duplicate
    with pytest.raises(NotLeased):
        shop.report("old", "h1", token(1))
    with pytest.raises(Refused, match="has completed; enqueue it anew"):
        shop.ask(cmd.Retry("old"))
    assert shop.ask(cmd.Retry("off")).job.status == "queued"


def test_a_job_whose_end_is_not_committed_yet_does_not_end_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive, which knows committed events only, still shows it leased when memory has let its end go already."""
    monkeypatch.setattr(state_module, "RECENT", 1)
    lease = ev.JobLeased("j1", "h1", MINUTE)
    shop = Shop(archived={"j1": lived(asked("j1"), lease, start=2)})
    shop.register(parallel=2)
    mine = shop.leased("j1")
    shop.leased("j2")
    shop.report("j1", token=mine)
    shop.report("j2")
    assert shop.state.find("j1") is None
    for command in (cmd.Report("j1", "h1", mine, outcome()), cmd.Cancel("j1"), cmd.Release("j1", "h1", mine, "x")):
        with pytest.raises(Unavailable, match="the end of job j1 is being written") as refused:
            shop.ask(command)
        assert refused.value.details == {"written": False}

"""Requests with an idempotency key."""

import pytest

from skyclaw import commands as cmd
from skyclaw import events as ev
from skyclaw.answers import Claimed, Elsewhere, Reaped, Repeated
from skyclaw.errors import (
    IdempotencyConflict,
    UnknownJob,
)
from tests.scheduling.making import DAY, MINUTE, Shop, asked, kinds, outcome

KEYED = cmd.Keyed("/v1/jobs", "k", "d")


def keyed_enqueue(job_id: str, digest: str = "d", also: tuple[ev.JobEnqueued, ...] = ()) -> cmd.Enqueue:
    one = asked(job_id, scope="/v1/jobs", key="k", digest=digest) if not also else asked(job_id)
    return cmd.Enqueue((one, *also), keyed=cmd.Keyed("/v1/jobs", "k", digest))


def test_a_repeated_request_has_no_effect_and_the_same_answer(shop: Shop) -> None:
    shop.ask(keyed_enqueue("j1"))
    assert kinds(shop) == ["JobEnqueued"]
    assert shop.ask(keyed_enqueue("j2")) == Repeated(("j1",), 1)
    assert (list(shop.state.jobs), shop.turn.events) == (["j1"], [])


def test_a_batch_is_remembered_as_a_whole(shop: Shop) -> None:
    shop.ask(keyed_enqueue("j1", also=(asked("j2"),)))
    assert kinds(shop) == ["JobEnqueued", "JobEnqueued", "RequestAnswered"]
    assert shop.ask(keyed_enqueue("j3", also=(asked("j4"),))) == Repeated(("j1", "j2"), 3)


def test_another_request_with_the_same_key_is_refused(shop: Shop) -> None:
    shop.ask(keyed_enqueue("j1"))
    with pytest.raises(IdempotencyConflict):
        shop.ask(keyed_enqueue("j2", digest="another"))
    assert list(shop.state.jobs) == ["j1"]


def test_a_refusal_is_not_remembered(shop: Shop) -> None:
    command = cmd.Cancel("j1", keyed=cmd.Keyed("/v1/jobs/j1/cancel", "k", "d"))
    with pytest.raises(UnknownJob):
        shop.ask(command)
    shop.enqueue("j1")
    assert shop.ask(command) == Elsewhere("j1", 2)
    assert shop.ask(command) == Repeated(("j1",), 3)


def test_a_key_is_forgotten_with_the_turn_that_used_it(shop: Shop) -> None:
    shop.ask(keyed_enqueue("j1"))
    shop.turn.take_back()
    assert shop.ask(keyed_enqueue("j2")).jobs[0].job.id == "j2"


def test_a_key_lasts_a_day_and_is_purged_within_a_minute(shop: Shop) -> None:
    shop.ask(keyed_enqueue("j1"))
    assert shop.pass_time(DAY + MINUTE) == Reaped()
    assert shop.ask(keyed_enqueue("j2")) == Repeated(("j1",), 1)
    assert shop.pass_time(1) == Reaped(pruned=1)
    assert kinds(shop) == ["Pruned"]
    assert shop.ask(keyed_enqueue("j2")).jobs[0].job.id == "j2"


def test_the_subjects_of_an_answer_are_whom_it_was_about(shop: Shop) -> None:
    def subjects(command: cmd.Command) -> tuple[str, ...]:
        shop.ask(command)
        (remembered,) = [event for event in shop.turn.events if isinstance(event, ev.RequestAnswered)]
        return remembered.subjects

    def key(scope: str) -> cmd.Keyed:
        return cmd.Keyed(scope, "k", "d")

    assert subjects(cmd.Register("h1", "one", (), 4, keyed=key("register"))) == ("h1",)
    assert subjects(cmd.Heartbeat("h1", keyed=key("heartbeat"))) == ("h1",)
    assert subjects(cmd.ChangeMode("h1", "active", keyed=key("resume"))) == ("h1",)
    shop.enqueue("j1", "j2", "j3", "j4")
    assert subjects(cmd.Claim("h1", 3, keyed=key("claim"))) == ("j1", "j2", "j3")
    assert subjects(cmd.Report("j1", "h1", None, outcome(), keyed=key("complete"))) == ("j1",)
    reports = tuple(cmd.Report(job_id, "h1", None, outcome()) for job_id in ("j2", "nobody's"))
    assert subjects(cmd.ReportAll("h1", reports, keyed=key("results"))) == ("j2", "nobody's")
    assert subjects(cmd.Release("j3", "h1", None, "x", keyed=key("release"))) == ("j3",)
    assert subjects(cmd.Cancel("j3", keyed=key("cancel"))) == ("j3",)
    assert subjects(cmd.Retry("j3", keyed=key("retry"))) == ("j3",)


def test_a_claim_with_a_key_is_answered_at_once(shop: Shop) -> None:
    shop.register()
    command = cmd.Claim("h1", park=True, keyed=cmd.Keyed("/v1/hosts/h1/claim", "k", "d"))
    assert shop.ask(command) == Claimed(())
    shop.enqueue("j1")
    assert shop.ask(command) == Repeated((), 2)

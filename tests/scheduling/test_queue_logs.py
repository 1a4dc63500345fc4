"""One queue that owns one log and follows another: whose jobs go where, and what is answered from a copy."""

from typing import Any

import pytest

from skyclaw import commands as cmd
from skyclaw import events as ev
from skyclaw.answers import Claimed, Elsewhere, HostsHeard, Reaped, Repeated
from skyclaw.errors import IdempotencyConflict, NotOwner, StaleAttempt, UnknownHost, UnknownJob
from skyclaw.scheduling.jobs import Stamp
from skyclaw.scheduling.state import State
from tests.scheduling.making import DAY, HOME, MINUTE, T0, Shop, asked, done, held, outcome

OTHER, THIRD = "0ddba115", "ca11ab1e"


def mine(number: int = 1) -> str:
    return f"job_{HOME}-0000-4000-8000-{number:012}"


def theirs(number: int = 1, log: str = OTHER) -> str:
    return f"job_{log}-0000-4000-8000-{number:012}"


class Shops(Shop):
    """A shop that hears of other logs, too."""

    def learn(self, *events: ev.Event, log: str = OTHER, epoch: str = "0.1.other") -> dict[object, Any]:
        """Follow the log; returns who was answered."""
        start = self.books.book(log).state.end + 1
        self.turns = self.queue.learn(log, [(event, Stamp(start + n, epoch, self.now)) for n, event in enumerate(events)], self.now)
        self.turn = self.turns.of(self.book)
        return dict(self.turns.answers)

    def also_own(self, log: str = OTHER) -> None:
        self.queue.own(log, "0.2.n", self.now)

    def refusal(self, command: cmd.Command) -> NotOwner:
        with pytest.raises(NotOwner) as refused:
            self.ask(command)
        assert refused.value in [answer for _, answer in self.turns.free], "it waits for nothing"
        assert not any(turn.events for turn in self.turns)
        return refused.value

    def registered_elsewhere(self, host_id: str = "h1", parallel: int = 1, life: int = 1, log: str = OTHER) -> None:
        self.learn(ev.HostRegistered(host_id, host_id, (), parallel, life=life), log=log)

    def offered_elsewhere(self, number: int = 1, log: str = OTHER, **fields: Any) -> str:
        self.learn(asked(theirs(number, log), **fields), log=log)
        return theirs(number, log)


@pytest.fixture
def shop() -> Shops:
    shop = Shops()
    shop.learn(ev.OwnershipTaken("other", "founded"))
    return shop


# Jobs of other logs.


@pytest.mark.parametrize(
    "command",
    [
        cmd.Cancel(theirs()),
        cmd.Retry(theirs()),
        cmd.Report(theirs(), "h1", None, outcome()),
        cmd.Release(theirs(), "h1", None, "x"),
        cmd.ReportAll("h1", (cmd.Report(theirs(), "h1", None, outcome()),)),
        cmd.Enqueue((asked(theirs(2)),), OTHER),
        cmd.Cancel(theirs(), keyed=cmd.Keyed("s", "k", "d")),
    ],
)
def test_what_changes_a_log_of_another_owner_is_asked_of_that_owner(shop: Shops, command: cmd.Command) -> None:
    shop.register()
    shop.offered_elsewhere()
    assert shop.refusal(command).log == OTHER


def test_a_log_that_nobody_here_has_heard_of_may_be_known_elsewhere(shop: Shops) -> None:
    assert shop.refusal(cmd.Enqueue((asked(theirs(1, THIRD)),), THIRD)).log == THIRD


def test_a_job_that_bears_the_tag_of_no_known_log_is_unknown(shop: Shops) -> None:
    with pytest.raises(UnknownJob):
        shop.ask(cmd.Cancel(theirs(1, THIRD)))


def test_a_job_is_accepted_into_the_log_whose_tag_it_bears_and_into_no_other(shop: Shops) -> None:
    with pytest.raises(ValueError, match="the tag of another log"):
        shop.ask(cmd.Enqueue((asked(theirs()),)))
    shop.also_own()
    shop.ask(cmd.Enqueue((asked(theirs()),), OTHER))
    assert list(shop.books.book(OTHER).state.jobs) == [theirs()]


def test_jobs_of_other_logs_are_shown_from_the_copy_at_once(shop: Shops) -> None:
    job_id = shop.offered_elsewhere()
    assert shop.ask(cmd.FindJob(job_id)).job.id == job_id
    assert shop.turns.free
    assert shop.ask(cmd.Explain(job_id)).job.id == job_id
    assert [job.id for job in shop.ask(cmd.Survey()).live] == [job_id]


def test_a_job_that_the_copy_does_not_know_is_asked_of_its_owner(shop: Shops) -> None:
    for command in (cmd.FindJob(theirs()), cmd.Explain(theirs())):
        assert shop.refusal(command).log == OTHER


def test_a_job_that_ended_elsewhere_is_read_from_the_archive_as_far_as_the_copy_goes(shop: Shops) -> None:
    job_id = shop.offered_elsewhere()
    shop.learn(ev.JobLeased(job_id, "h1", MINUTE), done(job_id))
    assert shop.ask(cmd.FindJob(job_id)) == Elsewhere(job_id, 4)


def test_a_watcher_hears_of_an_end_elsewhere(shop: Shops) -> None:
    job_id = shop.offered_elsewhere()
    assert shop.ask(cmd.FindJob(job_id, park=True), "watcher") is None
    assert shop.learn(ev.JobLeased(job_id, "h1", MINUTE)) == {}
    assert shop.learn(done(job_id)) == {"watcher": Elsewhere(job_id, 4)}
    assert shop.turns.free


def test_a_lease_of_a_later_owner_means_that_this_one_was_deposed(shop: Shops) -> None:
    shop.register()
    shop.enqueue(asked(mine()))
    assert shop.claim() == [mine()]
    assert shop.refusal(cmd.Report(mine(), "h1", "0.2.other/3", outcome())).log == HOME
    with pytest.raises(StaleAttempt):
        shop.report(mine(), token="0.0.n/3")  # noqa: S106  # a fencing token
    answer = shop.ask(cmd.Heartbeat("h1", (held(mine(), "0.2.other/3"),)))
    assert (answer.lost, answer.cancelled) == ((), ())


# Keys.


def test_a_key_that_is_known_in_a_copy_is_answered_by_its_owner(shop: Shops) -> None:
    keyed = cmd.Keyed("/v1/jobs", "k", "d")
    shop.learn(asked(theirs(), scope="/v1/jobs", key="k", digest="d"))
    refusal = shop.refusal(cmd.Enqueue((asked(mine()),), keyed=keyed))
    assert (refusal.log, refusal.home) == (OTHER, OTHER)
    with pytest.raises(IdempotencyConflict):
        shop.ask(cmd.Enqueue((asked(mine()),), keyed=cmd.Keyed("/v1/jobs", "k", "another")))
    assert shop.refusal(cmd.Enqueue((asked(mine()),), HOME, keyed=keyed)).log == OTHER


def test_a_key_in_the_home_log_comes_before_the_same_in_a_copy(shop: Shops) -> None:
    keyed = cmd.Keyed("/v1/jobs", "k", "d")
    first = shop.ask(cmd.Enqueue((asked(mine(), scope="/v1/jobs", key="k", digest="d"),), HOME, keyed=keyed))
    shop.learn(asked(theirs(), scope="/v1/jobs", key="k", digest="d"))
    again = shop.ask(cmd.Enqueue((asked(mine()),), HOME, keyed=keyed))
    assert again.subjects == (first.jobs[0].job.id,)


def test_an_own_log_that_another_coordinator_took_over_accepts_nothing_here(shop: Shops) -> None:
    shop.queue.disown(HOME)
    refusal = shop.refusal(cmd.Enqueue((asked(mine()),)))
    assert (refusal.log, refusal.home) == (HOME, HOME)
    assert shop.refusal(cmd.Register("h1", "one", (), 1)).log == HOME


def test_the_answer_to_a_hosts_request_is_found_in_any_copy(shop: Shops) -> None:
    keyed = cmd.Keyed("/v1/hosts/h1/claim", "k", "d")
    shop.registered_elsewhere()
    shop.learn(ev.RequestAnswered("/v1/hosts/h1/claim", "k", "d", (theirs(),)))
    assert shop.ask(cmd.Claim("h1", keyed=keyed)) == Repeated((theirs(),), 3)


# Claims.


def test_the_best_job_is_taken_wherever_it_is(shop: Shops) -> None:
    shop.register(parallel=9)
    shop.offered_elsewhere(priority=1)
    shop.enqueue(asked(mine(1), priority=2), asked(mine(2), priority=1), asked(mine(3)))
    assert shop.claim() == [mine(1)]
    assert shop.claim() == [mine(2)], "of equal ones the own"
    assert shop.refusal(cmd.Claim("h1")).log == OTHER
    assert shop.claim(limit=9, skip=(OTHER,)) == [mine(3)]


def test_a_claim_for_several_stops_where_the_next_is_anothers(shop: Shops) -> None:
    shop.register(parallel=9)
    shop.offered_elsewhere(priority=1)
    shop.enqueue(asked(mine(1), priority=2), asked(mine(2)))
    assert shop.claim(limit=9) == [mine(1)]


def test_of_two_own_logs_the_older_job_comes_first_and_both_are_waited_for(shop: Shops) -> None:
    shop.also_own()
    shop.register(parallel=9)
    shop.ask(cmd.Enqueue((asked(theirs()),), OTHER))
    shop.now += 1
    shop.enqueue(asked(mine()))
    assert shop.claim(limit=9) == [theirs(), mine()]
    assert [turn.book.log for turn in shop.turns] == [OTHER, HOME]
    assert len(shop.turns.joint) == 1
    assert shop.turns.positions == {HOME: shop.state.end, OTHER: shop.books.book(OTHER).state.end}


def test_leases_in_all_logs_take_room(shop: Shops) -> None:
    shop.registered_elsewhere(parallel=2)
    job_id = shop.offered_elsewhere()
    shop.learn(ev.JobLeased(job_id, "h1", MINUTE))
    shop.enqueue(asked(mine(1)), asked(mine(2)))
    assert shop.claim(limit=2) == [mine(1)]
    assert shop.ask(cmd.Claim("h1")) == Claimed((), "full")
    shop.park("t1")
    assert [seen.job.id for seen in shop.learn(done(job_id))["t1"].jobs] == [mine(2)], "a lease that ended elsewhere makes room"


def test_a_claim_that_was_answered_elsewhere_is_repeated_there(shop: Shops) -> None:
    shop.register(parallel=2)
    job_id = shop.offered_elsewhere()
    shop.learn(ev.JobLeased(job_id, "h1", MINUTE, "c1"))
    assert shop.refusal(cmd.Claim("h1", claim_id="c1")).log == OTHER
    assert shop.claim(claim_id="c1", skip=(OTHER,)) == []


def test_news_of_a_job_elsewhere_wakes_one_claim_that_could_take_it(shop: Shops) -> None:
    for host_id, offered in (("able", ["gpu"]), ("plain", []), ("able too", ["gpu"])):
        shop.register(host_id, offered)
        shop.park(host_id, host_id)
    woken = shop.learn(asked(theirs(), ["gpu"]))
    assert [(ticket, answer.log) for ticket, answer in woken.items()] == [("able", OTHER)]
    assert shop.turns.free


def test_what_was_tried_in_vain_counts_again_when_there_is_news_of_it(shop: Shops) -> None:
    shop.register()
    shop.offered_elsewhere(1)
    assert shop.ask(cmd.Claim("h1", park=True, skip=(OTHER,)), "t1") is None
    shop.pass_time(500)
    assert shop.others() == {}
    assert shop.learn(asked(theirs(2)))["t1"].log == OTHER


def test_a_job_that_was_taken_in_the_same_breath_wakes_nobody(shop: Shops) -> None:
    shop.register()
    shop.park("t1")
    assert shop.learn(asked(theirs()), ev.JobLeased(theirs(), "h2", MINUTE)) == {}


def test_a_delayed_job_elsewhere_wakes_a_claim_in_its_time(shop: Shops) -> None:
    shop.register()
    shop.offered_elsewhere(not_before=T0 + 500)
    shop.park("t1")
    assert shop.pass_time(499) == Reaped()
    assert shop.pass_time(1) == Reaped(), "it is not this process that starts it"
    assert shop.others()["t1"].log == OTHER


def test_whoever_waits_gets_the_jobs_of_a_log_that_is_taken_over(shop: Shops) -> None:
    shop.register()
    shop.offered_elsewhere()
    assert shop.ask(cmd.Claim("h1", park=True, skip=(OTHER,)), "t1") is None
    answered: list[tuple[Any, Any]] = shop.queue.own(OTHER, "0.2.n", shop.now).answers
    assert [(ticket, [seen.job.id for seen in claimed.jobs]) for ticket, claimed in answered] == [("t1", [theirs()])]


# Hosts.


def test_a_life_has_a_higher_number_than_all_former_ones_in_all_logs(shop: Shops) -> None:
    assert shop.register().host.life == 1
    shop.registered_elsewhere(parallel=7, life=5)
    assert shop.ask(cmd.FindHost("h1")).host.max_parallel == 7
    assert shop.register(parallel=3).host.life == 6
    assert shop.ask(cmd.FindHost("h1")).host.max_parallel == 3
    assert [seen.host.life for seen in shop.ask(cmd.ListHosts()).hosts] == [6]


@pytest.mark.parametrize("mode", ["paused", "active"])
def test_what_the_operator_said_about_a_host_goes_with_it_into_another_log(shop: Shops, mode: str) -> None:
    shop.register()
    shop.ask(cmd.ChangeMode("h1", "paused"))
    shop.learn(ev.HostRegistered("h1", "h1", (), 1, life=5), ev.HostModeChanged("h1", "paused"), ev.HostModeChanged("h1", mode))
    assert shop.register().mode == mode


def test_the_mode_of_a_host_is_changed_where_it_was_registered_last(shop: Shops) -> None:
    shop.register()
    shop.registered_elsewhere(life=5)
    assert shop.refusal(cmd.ChangeMode("h1", "paused")).log == OTHER


def test_a_new_life_gives_back_leases_in_every_own_log_and_names_the_others(shop: Shops) -> None:
    shop.learn(ev.OwnershipTaken("third", "founded"), asked(theirs(1, THIRD)), ev.JobLeased(theirs(1, THIRD), "h1", MINUTE), log=THIRD)
    shop.also_own()
    shop.register(parallel=9)
    shop.ask(cmd.Enqueue((asked(theirs()),), OTHER))
    shop.enqueue(asked(mine()))
    assert len(shop.claim(limit=9)) == 2
    answer = shop.register(parallel=9)
    assert answer.owners == (THIRD,)
    assert {turn.book.log: [type(event).__name__ for event in turn.events] for turn in shop.turns} == {
        HOME: ["HostRegistered", "JobReleased"],
        OTHER: ["JobReleased"],
    }
    assert len(shop.turns.joint) == 1


def test_a_registration_that_was_forwarded_gives_back_leases_and_registers_nothing(shop: Shops) -> None:
    shop.registered_elsewhere()
    shop.enqueue(asked(mine()))
    assert shop.claim() == [mine()]
    shop.ask(cmd.Register("h1", "h1", (), 1, forwarded=True, life=2))
    assert [type(event).__name__ for event in shop.turn.events] == ["JobReleased"]


def test_a_registration_that_comes_after_a_later_one_gives_nothing_back(shop: Shops) -> None:
    shop.registered_elsewhere(life=3)
    shop.enqueue(asked(mine()))
    assert shop.claim() == [mine()]
    shop.ask(cmd.Register("h1", "h1", (), 1, forwarded=True, life=2))
    assert shop.turn.events == []


def test_a_forwarded_registration_of_a_host_that_is_not_known_here_makes_it_known(shop: Shops) -> None:
    assert shop.ask(cmd.Register("h1", "h1", (), 1, forwarded=True, life=7)).host.life == 7


def test_a_heartbeat_renews_own_leases_and_says_who_else_is_to_be_told(shop: Shops) -> None:
    shop.register(parallel=9)
    shop.enqueue(asked(mine()))
    shop.claim()
    job_id = shop.offered_elsewhere()
    shop.learn(ev.JobLeased(job_id, "h1", MINUTE))
    listed = (held(mine(), shop.token_of(mine())), held(theirs(2), "0.1.other/9"), held(theirs(1, THIRD), "0.1.third/9"))
    answer = shop.ask(cmd.Heartbeat("h1", listed))
    assert (answer.lost, answer.cancelled, answer.owners) == ((), (), (OTHER, THIRD))
    assert shop.ask(cmd.Heartbeat("h1")).owners == (OTHER,)
    assert answer.host.active_leases == 2


def test_a_host_whose_registration_is_not_known_here_yet_may_report_what_it_holds(shop: Shops) -> None:
    shop.learn(asked(theirs()), ev.JobLeased(theirs(), "h1", MINUTE))
    shop.also_own()
    with pytest.raises(UnknownHost):
        shop.ask(cmd.Claim("h1"))
    assert isinstance(shop.ask(cmd.Report(theirs(), "h1", None, outcome())), Elsewhere)


def test_hosts_are_heard_of_through_others(shop: Shops) -> None:
    shop.register()
    shop.now += 20_000
    assert not shop.ask(cmd.FindHost("h1")).online
    assert shop.ask(cmd.Heard({"h1": 3_000})) == HostsHeard({})
    assert shop.turns.free
    assert shop.ask(cmd.FindHost("h1")).last_seen == shop.now - 3_000
    shop.ask(cmd.Heartbeat("h1"))
    assert shop.ask(cmd.Rollcall()) == HostsHeard({"h1": 0})


def test_a_host_that_others_hear_of_or_that_holds_something_elsewhere_is_not_forgotten(shop: Shops) -> None:
    shop.register("heard")
    shop.register("busy")
    job_id = shop.offered_elsewhere()
    shop.learn(ev.JobLeased(job_id, "busy", MINUTE))
    shop.now += DAY
    shop.ask(cmd.Heard({"heard": 0}))
    assert shop.pass_time(1) == Reaped()
    shop.learn(done(job_id, "busy"))
    assert shop.pass_time(0) == Reaped(forgotten=1)


def test_the_record_of_a_former_life_is_forgotten_when_the_new_one_is_settled(shop: Shops) -> None:
    shop.register()
    shop.registered_elsewhere(life=2)
    assert shop.pass_time(10 * MINUTE) == Reaped()
    assert shop.pass_time(1) == Reaped(forgotten=1)
    assert shop.ask(cmd.FindHost("h1")).host.life == 2


def test_a_host_that_changes_elsewhere_is_answered_and_asks_anew(shop: Shops) -> None:
    shop.register()
    shop.park("t1")
    shop.registered_elsewhere(life=2)
    assert shop.turns.answers == [("t1", Claimed(()))]


def test_leases_that_a_host_of_another_log_loses_here_put_it_into_quarantine(shop: Shops) -> None:
    shop.registered_elsewhere()
    for number in range(5):
        shop.enqueue(asked(mine(number), kind="openclaw-run"))
        assert shop.claim() == [mine(number)]
        shop.pass_time(MINUTE)
    assert shop.ask(cmd.FindHost("h1")).mode == "quarantined"


def test_a_result_ends_the_row_of_losses_of_a_host_of_another_log(shop: Shops) -> None:
    shop.registered_elsewhere()
    for number in range(8):
        shop.enqueue(asked(mine(number)))
        assert shop.claim() == [mine(number)]
        if number == 4:
            shop.report(mine(number))
        else:
            shop.pass_time(MINUTE)
            shop.ask(cmd.Cancel(mine(number)))
    assert shop.ask(cmd.FindHost("h1")).mode == "active"


# Reports of several logs.


def test_results_of_several_logs_are_judged_one_by_one(shop: Shops) -> None:
    shop.register()
    shop.enqueue(asked(mine()))
    shop.claim()
    shop.offered_elsewhere()
    reports = (cmd.Report(mine(), "h1", None, outcome()), cmd.Report(theirs(), "h1", None, outcome()))
    answer = shop.ask(cmd.ReportAll("h1", reports))
    assert answer.results[0] == (mine(), "completed")
    assert answer.results[1][1] == "not_owner"


# Owning and letting go.


def test_an_owner_builds_on_what_is_not_committed_yet_and_can_take_it_back(shop: Shops) -> None:
    job_id = shop.offered_elsewhere()
    before = shop.books.book(OTHER).state.end
    leased = ev.JobLeased(job_id, "h1", MINUTE), Stamp(before + 1, "0.1.other", shop.now)
    turn = shop.queue.adopt(OTHER, [leased], shop.now)
    shop.also_own()
    assert shop.books.book(OTHER).deadlines.end_of(job_id) == T0 + MINUTE
    turn.take_back()
    shop.queue.disown(OTHER)
    assert (shop.books.book(OTHER).state.end, shop.books.book(OTHER).state.held) == (before, {})
    assert len(shop.books.book(OTHER).deadlines) == 0
    assert shop.refusal(cmd.Cancel(job_id)).log == OTHER


def test_only_the_owner_lets_leases_end(shop: Shops) -> None:
    job_id = shop.offered_elsewhere()
    shop.learn(ev.JobLeased(job_id, "h1", MINUTE))
    assert shop.pass_time(DAY) == Reaped()
    shop.also_own()
    assert shop.pass_time(MINUTE) == Reaped(expired=1)


def test_time_passes_in_all_own_logs_at_once(shop: Shops) -> None:
    shop.also_own()
    shop.register(parallel=2)
    shop.ask(cmd.Enqueue((asked(theirs()),), OTHER))
    shop.enqueue(asked(mine()))
    shop.claim(limit=2)
    assert shop.pass_time(MINUTE) == Reaped(expired=2)
    assert sorted(turn.book.log for turn in shop.turns if turn.events) == sorted([HOME, OTHER])


def test_a_log_that_is_owned_is_not_followed(shop: Shops) -> None:
    with pytest.raises(ValueError, match="owned here"):
        shop.learn(asked(mine()), log=HOME)


def test_a_queue_that_owns_nothing_answers_questions_at_once() -> None:
    shop = Shops()
    shop.queue.disown(HOME)
    shop.learn(ev.HostRegistered("h1", "h1", (), 1, life=1), asked(theirs()))
    for command in (cmd.Survey(), cmd.ListHosts(), cmd.FindHost("h1"), cmd.Heartbeat("h1"), cmd.Reap(), cmd.FindJob(theirs())):
        shop.ask(command)
        assert len(shop.turns.free) == 1


def test_a_log_is_replaced_as_a_whole(shop: Shops) -> None:
    shop.offered_elsewhere()
    shop.also_own()
    shop.queue.replace(OTHER, State())
    assert (shop.books.owned, shop.ask(cmd.Survey()).live) == ([shop.book], ())

"""The fold of a log, its indexes, and taking events back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyclaw import events as ev
from skyclaw.commands import Keyed
from skyclaw.scheduling import jobs
from skyclaw.scheduling import state as state_module
from skyclaw.scheduling.jobs import Job, Stamp
from skyclaw.scheduling.state import RECENT, State, Undo, undo_all
from tests.scheduling.making import T0, asked, done, failed, folded, stamp
from tests.scheduling.observing import drained, observed

HOST = ev.HostRegistered("h1", "one", ("a",), 2)
LEASE = ev.JobLeased("j1", "h1", 60_000)
ANY = frozenset("abc")


def ids(state: State, capabilities: frozenset[str] = ANY) -> list[str]:
    return list(drained(state, capabilities))


def job(state: State, job_id: str = "j1") -> Job:
    found = state.find(job_id)
    assert found is not None
    return found


def finished(*numbers: int) -> list[ev.Event]:
    return [event for number in numbers for event in (asked(f"j{number}"), ev.JobCancelled(f"j{number}"))]


def test_the_end_is_the_position_of_the_latest_event() -> None:
    assert State().end == 0
    assert folded(HOST, asked()).end == 2


def test_an_accepted_job_is_live_queued_and_can_be_claimed() -> None:
    state = folded(asked())
    assert (list(state.jobs), state.queued, ids(state)) == (["j1"], 1, ["j1"])


def test_a_leased_job_is_held_and_cannot_be_claimed() -> None:
    state = folded(HOST, asked(), LEASE)
    assert (state.held, state.queued, ids(state)) == ({"h1": {"j1"}}, 0, [])
    assert [one.id for one in state.leases_of("h1")] == ["j1"]
    assert state.leases_of("nobody") == []


@pytest.mark.parametrize("end", [ev.JobReleased("j1", "x"), ev.JobLeaseExpired("j1", "h1")])
def test_a_job_that_comes_back_can_be_claimed_again(end: ev.Event) -> None:
    state = folded(HOST, asked(), LEASE, end)
    assert (state.held, state.queued, ids(state)) == ({}, 1, ["j1"])


@pytest.mark.parametrize("end", [done(), failed(), ev.JobCancelled("j1")])
def test_a_finished_job_is_no_longer_live_and_is_kept_as_a_head(end: ev.Event) -> None:
    state = folded(HOST, asked(), LEASE, end)
    assert (state.jobs, state.held, state.queued, list(state.recent)) == ({}, {}, 0, ["j1"])
    result = job(state).result
    assert result is None or (result.stdout, result.stderr) == (None, None)


def test_a_job_that_came_back_keeps_its_age() -> None:
    state = folded(HOST, asked("j1"), asked("j2"), LEASE, ev.JobReleased("j1", "x"))
    assert ids(state) == ["j1", "j2"]


def test_a_delayed_job_waits_for_its_time() -> None:
    state = folded(asked(not_before=T0 + 100))
    assert (state.queued, ids(state)) == (1, [])
    assert state.wake(T0 + 99) == []
    assert [one.id for one in state.wake(T0 + 100)] == ["j1"]
    assert (state.wake(T0 + 100), ids(state)) == ([], ["j1"])


def test_a_retry_waits_for_its_time() -> None:
    state = folded(HOST, asked(max_attempts=2), LEASE, failed(), ev.JobRetryScheduled("j1", T0 + 500))
    assert (list(state.jobs), list(state.recent), ids(state)) == (["j1"], [], [])
    state.wake(T0 + 500)
    assert ids(state) == ["j1"]


def test_only_the_latest_finished_jobs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "RECENT", 2)
    state = folded(*finished(1, 2, 3))
    assert list(state.recent) == ["j2", "j3"]
    assert state.find("j1") is None


def test_a_thousand_finished_jobs_are_kept() -> None:
    assert RECENT == 1000
    assert len(folded(*finished(*range(1100))).recent) == 1000


def test_a_job_that_memory_let_go_can_be_revived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "RECENT", 1)
    state = folded(*finished(1, 2))
    state.apply(ev.JobRevived("j1", asked(), 1, T0, 3, 0), stamp(5))
    assert (ids(state), list(state.recent), job(state).version) == (["j1"], ["j2"], 3)


def test_an_event_of_a_job_that_memory_let_go_is_no_failure() -> None:
    state = folded(done("unknown"))
    assert (state.jobs, state.recent, state.end) == ({}, {}, 1)


def test_a_host_keeps_the_row_of_its_lost_leases() -> None:
    lost = ev.JobLeaseExpired("j1", "h1")
    state = folded(HOST, asked(), LEASE, lost, LEASE, lost)
    assert state.hosts["h1"].losses_in_a_row == 2
    state.apply(LEASE, stamp(7))
    state.apply(failed(), stamp(8))
    assert state.hosts["h1"].losses_in_a_row == 0


def test_a_lease_of_a_forgotten_host_can_still_end() -> None:
    state = folded(HOST, asked(), LEASE, ev.HostForgotten("h1"), ev.JobLeaseExpired("j1", "h1"))
    assert (state.hosts, ids(state), state.held) == ({}, ["j1"], {})


def test_nothing_is_kept_of_a_host_that_holds_nothing() -> None:
    assert folded(HOST, asked(), LEASE, done()).held == {}


def test_a_job_brings_its_idempotency_key() -> None:
    state = folded(HOST, asked(scope="/v1/jobs", key="k", digest="d"))
    found = state.keys.find(Keyed("/v1/jobs", "k", "d"))
    assert found is not None
    assert (found.subjects, found.seq, found.at) == (("j1",), 2, T0 + 1)


def test_an_answered_request_is_remembered_until_it_is_pruned() -> None:
    state = folded(HOST, ev.RequestAnswered("/x", "k", "d", ("h1",)))
    assert len(state.keys) == 1
    state.apply(ev.Pruned(T0 + 1), stamp(3))
    assert len(state.keys) == 0


def test_old_entries_of_the_indexes_are_tidied_away() -> None:
    put_off = [event for number in range(2000) for event in (asked(f"d{number}", not_before=T0 * 2), ev.JobCancelled(f"d{number}"))]
    state = folded(*finished(*range(2000)), *put_off)
    state.tidy()
    assert (state.ready._entries, len(state.delayed._heap), ids(state)) == (0, 0, [])


# Taking back.


def taken_back(before: list[ev.Event], *events: ev.Event) -> State:
    """The state after all events, the later ones of which are taken back."""
    state = folded(*before)
    end, undo = state.end, []
    for number, event in enumerate(events):
        undo += state.apply(event, stamp(end + number + 1, T0 + 1000 + number))
    undo_all(undo)
    state.end = end
    return state


LIVED = [HOST, ev.HostRegistered("h2", "two", ("b",), 1), asked("j1"), asked("j2", ["a"], priority=3), asked("j3", not_before=T0 + 9)]


@pytest.mark.parametrize(
    "events",
    [
        [asked("j9", scope="/v1/jobs", key="k", digest="d")],
        [LEASE],
        [LEASE, ev.JobReleased("j1", "x")],
        [LEASE, ev.JobLeaseExpired("j1", "h1")],
        [LEASE, done()],
        [LEASE, failed(), ev.JobRetryScheduled("j1", T0 + 77)],
        [ev.JobCancelled("j1")],
        [ev.JobCancelled("j1"), ev.JobRevived("j1", asked(), 3, T0, 3, 0)],
        [ev.JobCancelled("j3")],
        [ev.HostModeChanged("h1", "paused")],
        [ev.HostForgotten("h1")],
        [ev.HostRegistered("h1", "uno", ("b",), 9)],
        [ev.HostRegistered("h3", "three", (), 1)],
        [ev.RequestAnswered("/x", "k", "d", ())],
        [ev.OwnershipTaken("n", "restarted")],
    ],
)
def test_what_is_taken_back_has_not_happened(events: list[ev.Event]) -> None:
    assert observed(taken_back(LIVED, *events)) == observed(folded(*LIVED))


def test_a_job_that_had_to_make_room_is_back_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "RECENT", 2)
    before = [asked("j9"), *finished(1, 2)]
    state = taken_back(before, ev.JobCancelled("j9"))
    assert list(state.recent) == ["j1", "j2"]
    assert observed(state) == observed(folded(*before))


def test_a_job_whose_revival_is_taken_back_is_in_its_place_among_the_finished() -> None:
    before = finished(1, 2, 3)
    state = taken_back(before, ev.JobRevived("j2", asked("j2"), 3, T0 + 2, 3, 0))
    assert list(state.recent) == ["j1", "j2", "j3"]
    assert observed(state) == observed(folded(*before))


def test_keys_whose_pruning_is_taken_back_are_known_in_their_order() -> None:
    before: list[ev.Event] = [ev.RequestAnswered("/x", f"k{number}", "d", ()) for number in range(4)]
    state = taken_back(before, ev.Pruned(T0 + 1))
    assert [key for (_, key), _ in state.keys] == ["k0", "k1", "k2", "k3"]


class Story:
    """Legal events, chosen by numbers: the shortest fold that allows to say what may come next."""

    def __init__(self) -> None:
        self.state, self.clock, self.keys = State(), T0, 0
        self.events: list[tuple[ev.Event, Stamp]] = []

    def go_on(self, choice: int, which: int) -> list[Undo]:
        event = self.choose(choice, which)
        self.events.append((event, stamp(self.state.end + 1, self.clock)))
        self.clock += 7
        return self.state.apply(*self.events[-1])

    def choose(self, choice: int, which: int) -> ev.Event:
        live = sorted(self.state.jobs.values(), key=lambda one: one.position)
        ended = [one for one in self.state.recent.values() if one.status != jobs.COMPLETED]
        if choice < 2 and live:
            return self.next_of(live[which % len(live)], which)
        if choice == 2 and ended:
            return jobs.retry(ended[which % len(ended)])[0]
        if choice == 3:
            return ev.HostRegistered(f"h{which % 2}", "host", ("a", "b")[: which % 3], 1 + which % 3)
        if choice == 4 and self.state.hosts:
            return ev.HostModeChanged(sorted(self.state.hosts)[0], ("active", "paused", "draining")[which % 3])
        if choice == 5:
            self.keys += 1
            return ev.RequestAnswered("/x", f"k{self.keys}", "d", ())
        if choice == 6:
            return ev.Pruned(self.clock - 50 * (which % 4) - 7)
        if choice == 7 and self.state.hosts and not self.state.held.get("h0"):
            return ev.HostForgotten("h0")
        delay = (0, 0, -3, 40)[which % 4]
        identity: dict[str, Any] = {"scope": "/v1/jobs", "key": f"j{self.state.end}", "digest": "d"} if which % 2 else {}
        fields: dict[str, Any] = {"priority": which % 3, "max_attempts": 1 + which % 2, "not_before": self.clock + delay if delay else 0}
        return asked(f"j{self.state.end}", "abc"[: which % 4], **fields, **identity)

    def next_of(self, one: Job, which: int) -> ev.Event:
        if one.lease is None:
            return ev.JobCancelled(one.id) if which % 5 == 0 else ev.JobLeased(one.id, f"h{which % 2}", 60_000)
        ends = [ev.JobReleased(one.id, "x"), ev.JobLeaseExpired(one.id, one.lease.host_id), done(one.id, one.lease.host_id)]
        return [*ends, failed(one.id, one.lease.host_id), ev.JobCancelled(one.id)][which % 5]


choices = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 59)), min_size=1, max_size=40)


@given(choices, st.integers(0, 40))
def test_events_taken_back_in_reverse_leave_no_trace(steps: list[tuple[int, int]], kept: int) -> None:
    story, undo, end = Story(), [], 0
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(state_module, "RECENT", 3)
        for number, (choice, which) in enumerate(steps):
            if choice == 9:
                story.state.wake(story.clock)
            steps_back = story.go_on(choice, which)
            if number < kept:
                end = story.state.end
            else:
                undo += steps_back
        undo_all(undo)
        story.state.end = end
        again = State()
        for event, at in story.events[: min(kept, len(steps))]:
            again.apply(event, at)
        assert observed(story.state) == observed(again)


@given(choices)
def test_what_was_taken_back_can_happen_again(steps: list[tuple[int, int]]) -> None:
    story, again = Story(), State()
    undo: list[Undo] = []
    for choice, which in steps:
        undo += story.go_on(choice, which)
    undo_all(undo)
    for event, at in story.events:
        story.state.apply(event, at)
        again.apply(event, at)
    assert observed(story.state) == observed(again)

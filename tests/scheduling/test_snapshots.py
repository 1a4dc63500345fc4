"""A state as texts and back."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyclaw import events as ev
from skyclaw.scheduling import snapshots
from skyclaw.scheduling.snapshots import Picture, SnapshotUnreadable, restore
from skyclaw.scheduling.state import State
from tests.scheduling.making import T0, asked, done, failed, folded, stamp
from tests.scheduling.observing import observed
from tests.scheduling.test_state import Story, choices

HOST = ev.HostRegistered("h1", "one", ("a", "b"), 2, (("room", "x"),))
EVERYTHING = [
    ev.OwnershipTaken("n", "founded"),
    HOST,
    ev.HostRegistered("h2", "two", (), 1),
    ev.HostModeChanged("h2", "paused"),
    asked("queued", ["a"], priority=2, labels=(("team", "é"),), timeout_ms=5, submitted_by="me"),
    asked("delayed", not_before=T0 + 10**6),
    asked("leased", scope="/v1/jobs", key="k", digest="d"),
    ev.JobLeased("leased", "h1", 60_000, "c1"),
    asked("completed"),
    ev.JobLeased("completed", "h1", 60_000),
    done("completed"),
    asked("failed", max_attempts=1),
    ev.JobLeased("failed", "h1", 60_000),
    failed("failed"),
    asked("again", max_attempts=2),
    ev.JobLeased("again", "h1", 60_000),
    failed("again"),
    ev.JobRetryScheduled("again", T0 + 500),
    asked("lost"),
    ev.JobLeased("lost", "h1", 60_000),
    ev.JobLeaseExpired("lost", "h1"),
    ev.RequestAnswered("/v1/hosts/register", "k", "d", ("h1",)),
    ev.RequestAnswered("/v1/jobs/leased/cancel", "k", "another", ("leased",)),
]


def copy(state: State) -> State:
    return restore(list(Picture(state).parts()), state.end)


def test_an_empty_state_has_a_picture_of_nothing_but_its_version() -> None:
    parts = list(Picture(State()).parts())
    assert len(parts) == 1
    assert observed(restore(parts, 7))["end"] == 7


@pytest.mark.parametrize("parts", [[], ['["version", [3]]'], ['["jobs", []]'], ['["version", [1.5]]']])
def test_parts_of_another_version_are_not_read(parts: list[str]) -> None:
    with pytest.raises(SnapshotUnreadable):
        restore(parts, 7)


def test_a_restored_state_is_as_it_was_in_every_respect() -> None:
    assert observed(copy(folded(*EVERYTHING))) == observed(folded(*EVERYTHING))


def test_values_are_of_the_kind_they_were() -> None:
    state = copy(folded(*EVERYTHING))
    assert state.jobs["queued"].asked == EVERYTHING[4]
    assert hash(state.jobs["leased"]) == hash(folded(*EVERYTHING).jobs["leased"])
    assert hash(state.hosts["h1"]) == hash(folded(*EVERYTHING).hosts["h1"])


def test_what_happens_afterwards_has_the_same_effect() -> None:
    state, again = folded(*EVERYTHING), copy(folded(*EVERYTHING))
    for number, event in enumerate(
        [done("leased"), ev.JobCancelled("queued"), asked("new"), ev.JobLeased("new", "h2", 1), ev.Pruned(T0 + 21)]
    ):
        state.apply(event, stamp(state.end + 1, T0 + 100 + number))
        again.apply(event, stamp(again.end + 1, T0 + 100 + number))
    assert observed(again) == observed(state)


def test_a_picture_does_not_change_with_the_state_it_was_taken_of() -> None:
    state = folded(*EVERYTHING)
    picture = Picture(state)
    state.apply(ev.JobCancelled("queued"), stamp(state.end + 1))
    state.apply(HOST, stamp(state.end + 1))
    state.apply(ev.Pruned(T0 + 10**6), stamp(state.end + 1))
    assert picture.end == len(EVERYTHING)
    assert observed(restore(picture.parts(), picture.end)) == observed(folded(*EVERYTHING))


def test_a_part_is_a_json_array_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "PART", 3)
    parts = list(Picture(folded(*(asked(f"j{number}") for number in range(8)))).parts())
    read = [orjson.loads(part) for part in parts]
    assert [(kind, len(records)) for kind, records in read] == [("version", 1), ("jobs", 3), ("jobs", 3), ("jobs", 2)]


def test_parts_may_come_one_by_one() -> None:
    state = folded(*EVERYTHING)
    assert observed(restore((part for part in Picture(state).parts()), state.end)) == observed(state)


def test_a_key_and_its_job_share_their_texts() -> None:
    state = copy(folded(asked("j1", scope="/v1/jobs", key="a rather long key", digest="d" * 64)))
    (((_, key), entry),) = list(state.keys)
    job = state.jobs["j1"]
    assert key is job.asked.key
    assert entry.digest is job.asked.digest
    assert entry.subjects[0] is job.id


def test_a_key_that_merely_looks_like_its_jobs_is_kept_as_it_was() -> None:
    events = [
        asked("j1", scope="/v1/jobs", key="k", digest="d"),
        ev.RequestAnswered("/v1/jobs/j1/cancel", "k", "another", ("j1",)),
        ev.RequestAnswered("/v1/hosts/h1/claim", "k", "d", ("j1", "j2")),
    ]
    assert list(copy(folded(*events)).keys) == list(folded(*events).keys)


def test_only_what_is_known_is_written() -> None:
    with pytest.raises(TypeError, match="Event"):
        snapshots._plain(ev.Event())


@given(choices, choices, st.booleans())
def test_any_state_can_be_left_and_taken_up_again(before: list[tuple[int, int]], after: list[tuple[int, int]], woken: bool) -> None:
    story = Story()
    for choice, which in before:
        story.go_on(choice, which)
    if woken:
        story.state.wake(story.clock)
    again = copy(story.state)
    begun = len(story.events)
    for choice, which in after:
        story.go_on(choice, which)
    for event, at in story.events[begun:]:
        again.apply(event, at)
    assert observed(again) == observed(story.state)

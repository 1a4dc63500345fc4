"""Which job a host gets."""

import heapq
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyclaw import events as ev
from skyclaw.events import JobLeased
from skyclaw.scheduling import jobs
from skyclaw.scheduling.jobs import Job
from skyclaw.scheduling.matching import EMPTY, STALE, DelayedJobs, ReadyJobs
from tests.scheduling.making import T0, asked, lived, stamp


class Shelf:
    """Jobs and their index, as State keeps them."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.ready = ReadyJobs(self.jobs.get)
        self.delayed = DelayedJobs(self.jobs.get)

    def put(self, job_id: str, required: Iterable[str] = (), priority: int = 0, not_before: int = 0) -> Job:
        job = lived(asked(job_id, required, priority=priority, not_before=not_before), start=len(self.jobs) + 1)
        self.jobs[job_id] = job
        (self.delayed if not_before else self.ready).add(job)
        return job

    def take(self, *capabilities: str) -> str | None:
        job = self.ready.take(frozenset(capabilities))
        if job is None:
            return None
        leased = jobs.evolve(job, JobLeased(job.id, "h1", 1), stamp(99))
        assert leased is not None
        self.jobs[job.id] = leased
        return job.id


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def test_there_is_nothing_to_take_where_nothing_is(shelf: Shelf) -> None:
    assert shelf.take("gpu") is None


def test_a_job_is_taken_once(shelf: Shelf) -> None:
    shelf.put("j1")
    assert [shelf.take(), shelf.take()] == ["j1", None]


def test_the_oldest_is_taken_first(shelf: Shelf) -> None:
    for name in ("z", "a", "m"):
        shelf.put(name)
    assert [shelf.take() for _ in range(3)] == ["z", "a", "m"]


def test_a_higher_priority_goes_before_age(shelf: Shelf) -> None:
    for name, priority in (("low", -5), ("first", 0), ("second", 0), ("high", 7)):
        shelf.put(name, priority=priority)
    assert [shelf.take() for _ in range(4)] == ["high", "first", "second", "low"]


def test_priority_and_age_count_across_requirements(shelf: Shelf) -> None:
    shelf.put("plain")
    shelf.put("gpu", ["gpu"])
    shelf.put("urgent", ["gpu", "linux"], priority=1)
    assert [shelf.take("gpu", "linux") for _ in range(4)] == ["urgent", "plain", "gpu", None]


@pytest.mark.parametrize(
    ("offered", "gets"),
    [((), ["none"]), (("gpu",), ["none", "gpu"]), (("linux",), ["none"]), (("gpu", "linux", "x"), ["none", "gpu", "both"])],
)
def test_a_host_gets_what_needs_no_more_than_it_has(shelf: Shelf, offered: tuple[str, ...], gets: list[str]) -> None:
    shelf.put("none")
    shelf.put("gpu", ["gpu"])
    shelf.put("both", ["gpu", "linux"])
    assert [shelf.take(*offered) for _ in range(len(gets) + 1)] == [*gets, None]


def test_requirements_that_come_up_later_are_seen_by_hosts_that_asked_before(shelf: Shelf) -> None:
    assert shelf.take("gpu") is None
    shelf.put("j1", ["gpu"])
    assert shelf.take("gpu") == "j1"


def test_what_left_the_queue_by_another_way_is_passed_over(shelf: Shelf) -> None:
    for name in ("cancelled", "leased", "gone", "good"):
        shelf.put(name)
    shelf.jobs["cancelled"] = lived(asked("cancelled"), ev.JobCancelled("cancelled"))
    shelf.jobs["leased"] = lived(asked("leased"), JobLeased("leased", "h", 1), start=2)
    del shelf.jobs["gone"]
    assert [shelf.take(), shelf.take()] == ["good", None]


def test_a_job_that_was_delayed_since_is_not_taken_by_its_old_entry(shelf: Shelf) -> None:
    old = shelf.put("j1")
    later = jobs.evolve(old, ev.JobRetryScheduled("j1", T0 + 5), stamp(9))
    assert later is not None
    shelf.jobs["j1"] = later
    assert shelf.take() is None
    shelf.ready.add(later)  # its time has come
    assert shelf.take() == "j1"


def test_a_job_that_came_back_is_there_once(shelf: Shelf) -> None:
    job = shelf.put("j1")
    shelf.ready.add(job)
    assert [shelf.take(), shelf.take()] == ["j1", None]


@given(st.lists(st.tuples(st.sets(st.sampled_from("abc")), st.integers(-2, 2)), max_size=30), st.sets(st.sampled_from("abc")))
def test_the_order_is_that_of_a_plain_sort(wanted: list[tuple[set[str], int]], offered: set[str]) -> None:
    shelf = Shelf()
    for number, (required, priority) in enumerate(wanted):
        shelf.put(f"j{number}", required, priority)
    fitting = sorted((-priority, number) for number, (required, priority) in enumerate(wanted) if required <= offered)
    assert [shelf.take(*offered) for _ in fitting] == [f"j{number}" for _, number in fitting]
    assert shelf.take(*offered) is None


# What it costs.


class Counting:
    """How often an entry was taken out of a heap: what a claim costs, whatever else the machine does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pops = 0
        pop: Any = heapq.heappop

        def counted(heap: Any) -> Any:
            self.pops += 1
            return pop(heap)

        monkeypatch.setattr(heapq, "heappop", counted)

    def reset(self) -> None:
        self.pops = 0


@pytest.mark.parametrize("depth", [10, 1000, 20_000])
def test_a_claim_takes_one_entry_out_of_one_heap_at_any_depth(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, depth: int) -> None:
    for number in range(depth):
        shelf.put(f"j{number}", ["gpu"] if number % 2 else [])
    counting = Counting(monkeypatch)
    for _ in range(5):
        shelf.take("gpu")
    assert counting.pops == 5


def test_a_claim_looks_at_no_job_but_the_first_of_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    known: dict[str, Job] = {}

    def find(job_id: str) -> Job | None:
        looked.append(job_id)
        return known.get(job_id)

    ready = ReadyJobs(find)
    for number in range(5000):
        job = lived(asked(f"j{number}", [f"kind{number % 3}"]), start=number + 1)
        known[job.id] = job
        ready.add(job)
    assert looked == []
    ready.take(frozenset(["kind0", "kind1", "kind2"]))
    assert set(looked) == {"j0", "j1", "j2"}
    assert len(looked) <= 4


def test_a_host_that_can_do_little_does_not_pay_for_what_it_cannot_do(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1000):
        shelf.put(f"gpu{number}", ["gpu"])
    shelf.put("plain")
    counting = Counting(monkeypatch)
    assert [shelf.take(), shelf.take()] == ["plain", None]
    assert counting.pops == 1


def test_stale_entries_are_dropped_once_each(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100):
        shelf.put(f"j{number}")
    for number in range(99):
        del shelf.jobs[f"j{number}"]
    counting = Counting(monkeypatch)
    assert shelf.take() == "j99"
    assert counting.pops == 100
    counting.reset()
    assert shelf.take() is None
    assert counting.pops == 0


def test_stale_entries_do_not_pile_up(shelf: Shelf) -> None:
    for number in range(STALE + 10):
        shelf.put(f"j{number}")
        if number > 2:
            del shelf.jobs[f"j{number}"]
    shelf.ready.tidy(queued=3)
    assert shelf.ready._entries == 3
    assert [shelf.take() for _ in range(4)] == ["j0", "j1", "j2", None]


def test_a_rebuilt_heap_goes_on_in_order(shelf: Shelf) -> None:
    for number in range(STALE + 10):
        shelf.put(f"j{number}", priority=number % 5)
        if number >= 10:
            del shelf.jobs[f"j{number}"]
    shelf.take()
    shelf.ready.tidy(queued=9)
    shelf.put("new", priority=4)
    assert [shelf.take() for _ in range(4)] == ["j9", "new", "j3", "j8"]


def test_few_stale_entries_are_left_alone(shelf: Shelf) -> None:
    for number in range(STALE):
        shelf.put(f"j{number}")
        del shelf.jobs[f"j{number}"]
    shelf.ready.tidy(queued=0)
    assert shelf.ready._entries == STALE


def test_requirements_that_nobody_has_any_more_are_forgotten(shelf: Shelf) -> None:
    for number in range(EMPTY + 5):
        shelf.put(f"j{number}", [f"host:{number}"])
        assert shelf.take(f"host:{number}") == f"j{number}"
    shelf.put("last", ["gpu"])
    shelf.ready.tidy(queued=1)
    assert list(shelf.ready._heaps) == [("gpu",)]
    assert shelf.take("gpu") == "last"


# Delayed jobs.


def test_a_delayed_job_comes_up_at_its_time_and_once(shelf: Shelf) -> None:
    job = shelf.put("j1", not_before=T0 + 5)
    assert shelf.delayed.due(T0 + 4) == []
    assert shelf.delayed.due(T0 + 5) == [job]
    assert shelf.delayed.due(T0 + 5) == []


def test_delayed_jobs_come_up_in_the_order_of_their_times(shelf: Shelf) -> None:
    late, early = shelf.put("late", not_before=T0 + 9), shelf.put("early", not_before=T0 + 3)
    assert shelf.delayed.due(T0 + 10) == [early, late]


def test_a_delayed_job_that_left_the_queue_does_not_come_up(shelf: Shelf) -> None:
    job = shelf.put("j1", not_before=T0 + 5)
    cancelled = jobs.evolve(job, ev.JobCancelled("j1"), stamp(9))
    assert cancelled is not None
    shelf.jobs["j1"] = cancelled
    assert shelf.delayed.due(T0 + 5) == []


def test_a_job_that_was_put_off_comes_up_at_its_new_time_only(shelf: Shelf) -> None:
    job = shelf.put("j1", not_before=T0 + 5)
    later = jobs.evolve(job, ev.JobRetryScheduled("j1", T0 + 50), stamp(9))
    assert later is not None
    shelf.jobs["j1"] = later
    shelf.delayed.add(later)
    assert shelf.delayed.due(T0 + 49) == []
    assert shelf.delayed.due(T0 + 50) == [later]


def test_cancelled_delayed_jobs_do_not_pile_up(shelf: Shelf) -> None:
    for number in range(STALE + 10):
        shelf.put(f"j{number}", not_before=T0 + 10**9 + number)
        if number > 1:
            del shelf.jobs[f"j{number}"]
    shelf.delayed.tidy(queued=2)
    assert len(shelf.delayed._heap) == 2
    assert [job.id for job in shelf.delayed.due(T0 + 10**10)] == ["j0", "j1"]

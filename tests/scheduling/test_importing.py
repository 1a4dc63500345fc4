"""Taking over jobs and hosts of another system: once, whole, and so that it can be taken back."""

from dataclasses import replace

import pytest

from skyclaw import events as ev
from skyclaw.errors import NotOwner, QueueFull
from skyclaw.scheduling.importing import Arrival, Import, Imported
from skyclaw.scheduling.jobs import COMPLETED, FAILED
from tests.scheduling.making import DAY, HOME, T0, Shop, asked, done, failed, stamp
from tests.scheduling.observing import observed

OTHER = "ffffffff"


def job_id(number: int, log: str = HOME) -> str:
    return f"job_{log}-0000-4000-8000-{number:012d}"


def arrival(number: int, log: str = HOME, **fields: object) -> ev.JobEnqueued:
    key = {"scope": "/v1/import", "key": f"import/{number}", "digest": f"{number}"}
    return replace(asked(job_id(number, log)), **{**key, **fields})  # type: ignore[arg-type]


def waiting(*numbers: int) -> tuple[Arrival, ...]:
    return tuple(Arrival(arrival(number)) for number in numbers)


def host(host_id: str = "h1") -> ev.HostRegistered:
    return ev.HostRegistered(host_id, host_id, ("a",), 2, life=1)


def test_what_waits_is_queued_and_what_has_ended_is_history(shop: Shop) -> None:
    over = (Arrival(arrival(2), done(job_id(2), "h9")), Arrival(arrival(3), failed(job_id(3), "h9")))
    answer = shop.ask(Import((*waiting(1), *over), (host(),)))
    assert answer == Imported((job_id(1), job_id(2), job_id(3)), ("h1",))
    assert [job.status for job in shop.state.recent.values()] == [COMPLETED, FAILED]
    assert list(shop.state.jobs) == [job_id(1)]
    assert shop.state.queued == 1
    assert shop.claim("h1", 5) == [job_id(1)]


def test_who_brings_it_again_changes_nothing(shop: Shop) -> None:
    page = Import((*waiting(1, 2), Arrival(arrival(3), done(job_id(3)))), (host(),))
    shop.ask(page)
    assert shop.ask(page) == Imported((), ())
    assert shop.turn.events == []
    assert shop.ask(Import(waiting(2, 4, 4))) == Imported((job_id(4),), ())


def test_a_job_that_went_on_since_stays_as_it_is(shop: Shop) -> None:
    shop.ask(Import(waiting(1), (host(),)))
    assert shop.claim("h1") == [job_id(1)]
    assert shop.ask(Import(waiting(1), (replace(host(), name="renamed"),))) == Imported((), ())
    shop.report(job_id(1))
    assert shop.ask(Import((Arrival(arrival(1), failed(job_id(1))),))) == Imported((), ())
    assert shop.state.find(job_id(1)).status == COMPLETED  # type: ignore[union-attr]
    assert shop.state.hosts["h1"].name == "h1"


def test_what_was_taken_over_into_another_log_is_known_here(shop: Shop) -> None:
    shop.queue.learn(OTHER, [], T0)
    other = shop.books.book(OTHER)
    shop.queue.learn(OTHER, [(arrival(1, OTHER), stamp(1))], T0)
    assert job_id(1, OTHER) in other.state.jobs
    assert shop.ask(Import(waiting(1, 2))) == Imported((job_id(2),), ())


def test_the_key_alone_suffices_when_memory_has_let_the_job_go(shop: Shop) -> None:
    shop.ask(Import((Arrival(arrival(1), done(job_id(1))),)))
    shop.state.recent.clear()
    assert shop.ask(Import(waiting(1))) == Imported((), ())
    shop.pass_time(2 * DAY)
    assert shop.ask(Import(waiting(1))) == Imported((job_id(1),), ()), "by then, whoever asks looks into the archive first"


def test_a_log_that_others_decide_for_is_left_to_them(shop: Shop) -> None:
    shop.queue.learn(OTHER, [], T0)
    for log in (OTHER, "00000000"):
        with pytest.raises(NotOwner) as elsewhere:
            shop.ask(Import((Arrival(arrival(1, log)),), home=log))
        assert (elsewhere.value.log, elsewhere.value.home) == (log, log)
    shop.queue.disown(HOME)
    with pytest.raises(NotOwner):
        shop.ask(Import(waiting(1)))


def test_a_full_queue_takes_history_but_nothing_that_waits() -> None:
    shop = Shop(max_queued=2)
    shop.enqueue("j1")
    with pytest.raises(QueueFull):
        shop.ask(Import((*waiting(1, 2), Arrival(arrival(3), done(job_id(3)))), (host(),)))
    assert (shop.state.hosts, shop.state.queued, dict(shop.state.recent)) == ({}, 1, {})
    assert shop.ask(Import(tuple(Arrival(arrival(n), done(job_id(n))) for n in range(5)))).jobs == tuple(map(job_id, range(5)))


def test_it_can_be_taken_back(shop: Shop) -> None:
    shop.register("h1")
    shop.enqueue("j1")
    before, compared = shop.state.end, Shop()
    compared.register("h1")
    compared.enqueue("j1")
    shop.ask(Import((*waiting(1), Arrival(arrival(2), failed(job_id(2), "h1"))), (host("h2"),)))
    assert shop.state.end == before + 4
    shop.turn.take_back()
    assert observed(shop.state) == observed(compared.state)


def test_a_host_that_waits_gets_what_was_taken_over_and_no_history(shop: Shop) -> None:
    shop.register("h1", parallel=5)
    shop.park("parked", limit=5)
    shop.ask(Import((*waiting(1), Arrival(arrival(2), done(job_id(2))))))
    assert [seen.job.id for seen in shop.others()["parked"].jobs] == [job_id(1)]

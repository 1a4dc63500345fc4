"""Why a job is where it is."""

from typing import Any

import pytest

from skyclaw.answers import Explained, HostFit
from skyclaw.commands import Cancel, ChangeMode, Explain
from skyclaw.errors import UnknownJob
from tests.scheduling.making import T0, Shop, asked, done, lived

LINE = "it is next in line for the first free host, by priority and age"
NOBODY = "no host that could run it takes work now"


def explained(shop: Shop, job_id: str = "j1") -> Explained:
    answer: Any = shop.ask(Explain(job_id))
    assert isinstance(answer, Explained)
    return answer


def reasons(shop: Shop, job_id: str = "j1") -> list[str]:
    return list(explained(shop, job_id).reasons)


def fit(shop: Shop, job_id: str = "j1") -> HostFit:
    (only,) = explained(shop, job_id).hosts
    return only


def test_without_hosts_somebody_has_to_start_one(shop: Shop) -> None:
    shop.enqueue("j1")
    assert reasons(shop) == ["no host is known; start one with: skyclaw host"]


def test_a_job_that_any_host_could_take_is_next(shop: Shop) -> None:
    shop.enqueue("j1")
    shop.register()
    assert reasons(shop) == [LINE]
    assert fit(shop) == HostFit("h1", "H1", True, "could run it")


def test_what_no_host_has_is_named(shop: Shop) -> None:
    shop.enqueue(asked("j1", ["gpu", "arm", "linux"]))
    shop.register("h1", ["linux"])
    assert reasons(shop) == ["no host has arm, gpu"]
    assert fit(shop) == HostFit("h1", "H1", False, "lacks arm, gpu")


def test_hosts_that_have_it_all_only_together_do_not_help(shop: Shop) -> None:
    shop.enqueue(asked("j1", ["gpu", "linux"]))
    shop.register("h1", ["linux"])
    shop.register("h2", ["gpu"])
    assert reasons(shop) == [NOBODY]
    assert [one.reason for one in explained(shop).hosts] == ["lacks gpu", "lacks linux"]


def test_a_full_host_is_full(shop: Shop) -> None:
    shop.register(parallel=1)
    shop.leased("j0")
    shop.enqueue("j1")
    assert reasons(shop) == [NOBODY]
    assert fit(shop).reason == "is full (1 of 1)"


@pytest.mark.parametrize("mode", ["paused", "draining"])
def test_a_host_that_takes_no_work_says_why(shop: Shop, mode: str) -> None:
    shop.register()
    shop.ask(ChangeMode("h1", mode))
    shop.enqueue("j1")
    assert reasons(shop) == [NOBODY]
    assert fit(shop).reason == f"is {mode}"


def test_a_silent_host_is_not_counted_on(shop: Shop) -> None:
    shop.register()
    shop.enqueue("j1")
    shop.now += 15_000
    assert fit(shop).can
    shop.now += 1
    assert reasons(shop) == [NOBODY]
    assert fit(shop).reason == "not heard of for 15 s"


def test_a_quarantined_host_is_shown_as_such(shop: Shop) -> None:
    shop.register()
    for _ in range(5):
        shop.leased(f"j{shop.now}", kind="openclaw-run")
        shop.pass_time(60_000)
    shop.register("h1")  # heard of again
    shop.enqueue("j1")
    assert fit(shop).reason == "is quarantined"


def test_a_delayed_job_says_until_when(shop: Shop) -> None:
    shop.register()
    shop.enqueue(asked("j1", not_before=T0 + 90_000))
    assert reasons(shop) == ["it may not start before 2023-11-14 22:14:50 UTC"]
    shop.now = T0 + 90_000
    shop.register()
    assert reasons(shop) == [LINE]


def test_a_delayed_job_has_all_its_reasons(shop: Shop) -> None:
    shop.enqueue(asked("j1", ["gpu"], not_before=T0 + 1000))
    shop.register()
    assert len(reasons(shop)) == 2


def test_a_running_job_says_where(shop: Shop) -> None:
    shop.register(parallel=2)
    shop.leased("j1")
    assert reasons(shop) == ["it is running on H1, attempt 1"]


def test_a_finished_job_says_how_it_ended(shop: Shop) -> None:
    shop.register(parallel=9)
    shop.leased("j1", kind="openclaw-run")
    shop.enqueue("j2")
    shop.ask(Cancel("j2"))
    shop.pass_time(60_000)
    assert reasons(shop, "j1") == ["it has finished: failed (its lease was lost once)"]
    assert reasons(shop, "j2") == ["it has finished: cancelled"]
    assert shop.ask(Explain("j2")).hosts == ()


def test_an_archived_job_is_explained_and_an_unknown_one_is_not() -> None:
    shop = Shop(archived={"old": lived(asked("old"), done("old"))})
    assert reasons(shop, "old") == ["it has finished: completed"]
    with pytest.raises(UnknownJob):
        reasons(shop, "never")

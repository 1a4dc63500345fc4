"""Which backend gets the next request: turns, fewest in flight, ejection, half-open, fail open, bulkheads, new tables."""

import threading
from collections import Counter
from collections.abc import Collection

import pytest

from skyclaw.services.routing import (
    Backend,
    Backends,
    BackendSeen,
    Failed,
    Missed,
    NoBackend,
    Notice,
    Outcome,
    Overloaded,
    Recovered,
    Route,
    Rules,
    State,
)

COOLDOWN = 1_000
RULES = Rules(cooldown_ms=COOLDOWN, failures=3, per_backend=2, per_service=5)


def backend(name: str) -> Backend:
    return Backend(f"ins_{name}", f"http://10.0.0.1:{3100 + ord(name[0])}", "http", "10.0.0.1", 3100 + ord(name[0]))


A, B, C = map(backend, "abc")


class Bench:
    """Backends with a clock that the test moves, and what they noticed."""

    def __init__(self, *routes: Route, rules: Rules = RULES) -> None:
        self.now = 5_000
        self.noticed: list[Notice] = []
        self.all = Backends(lambda: self.now, threading.Lock(), rules, self.noticed.append)
        self.all.replace(routes or (Route("svc_1", "web", (A, B, C)),))

    def ask(self, outcome: Outcome = Outcome.OK, key: str = "web", tried: Collection[str] = ()) -> Backend:
        """One request from its beginning to its end."""
        taken = self.all.take(key, tried)
        self.all.give(taken, outcome, 1.0)
        return taken

    def fail(self, one: Backend, times: int = RULES.failures) -> None:
        """Let requests to this backend fail."""
        others = {other.id for route in self.all.routes for other in route.backends} - {one.id}
        for _ in range(times):
            assert self.ask(Outcome.FAILED, tried=others) == one

    def seen(self, one: Backend) -> BackendSeen:
        return next(seen for seen in self.all.look() if seen.backend == one)

    def state(self, one: Backend) -> State:
        return self.seen(one).state


def test_equals_take_turns() -> None:
    bench = Bench()
    assert [bench.ask() for _ in range(7)] == [A, B, C, A, B, C, A]


def test_the_turns_are_the_service_s_whether_it_is_named_or_given_by_its_id() -> None:
    bench = Bench()
    assert [bench.ask(key=key) for key in ("web", "svc_1", "web", "svc_1")] == [A, B, C, A]


def test_the_one_with_the_fewest_requests_in_flight_is_next() -> None:
    bench = Bench()
    first, second = bench.all.take("web"), bench.all.take("web")
    assert (first, second) == (A, B)
    assert [bench.ask() for _ in range(3)] == [C, C, C]
    bench.all.give(A, Outcome.OK, 1.0)
    assert Counter(bench.ask() for _ in range(4)) == {A: 2, C: 2}


def test_those_that_were_tried_are_not_taken_again() -> None:
    bench = Bench()
    assert bench.ask(tried=[A.id]) == B
    assert bench.ask(tried=[A.id, B.id]) == C
    with pytest.raises(NoBackend):
        bench.all.take("web", [A.id, B.id, C.id])
    assert bench.noticed == []


def test_an_unknown_service_has_no_backend_and_that_is_noticed() -> None:
    bench = Bench()
    with pytest.raises(NoBackend, match=r"^no healthy endpoints for service nobody$"):
        bench.all.take("nobody")
    assert bench.noticed == [Missed("nobody")]


def test_a_service_that_vanished_between_two_attempts_was_not_missed() -> None:
    bench = Bench()
    bench.all.replace([])
    with pytest.raises(NoBackend):
        bench.all.take("web", [A.id])
    assert bench.noticed == []


def test_keys_are_ids_and_names_sorted() -> None:
    bench = Bench(Route("svc_2", "web", (A,)), Route("svc_1", "api", (B,)))
    assert bench.all.keys() == ["api", "svc_1", "svc_2", "web"]


def test_an_id_wins_over_a_name_and_the_first_of_one_name_has_it() -> None:
    bench = Bench(Route("svc_1", "web", (A,)), Route("svc_2", "web", (B,)), Route("svc_3", "svc_2", (C,)))
    assert [bench.ask(key=key) for key in ("web", "svc_1", "svc_2", "svc_3")] == [A, A, B, C]


def test_failures_in_a_row_eject_and_a_success_between_them_starts_anew() -> None:
    bench = Bench()
    bench.fail(A, 2)
    assert bench.ask(tried=[B.id, C.id]) == A
    bench.fail(A, 2)
    assert bench.state(A) is State.OPEN
    bench.fail(A, 1)
    assert bench.state(A) is State.EJECTED
    assert bench.noticed[-1] == Failed(A, ejected=True, probed=False)
    assert [notice.ejected for notice in bench.noticed if isinstance(notice, Failed)] == [False] * 4 + [True]
    assert Counter(bench.ask() for _ in range(10)) == {B: 5, C: 5}


def test_a_client_that_leaves_says_nothing_about_the_backend() -> None:
    bench = Bench()
    bench.fail(A, 2)
    assert bench.ask(Outcome.NEUTRAL, tried=[B.id, C.id]) == A
    bench.fail(A, 1)
    assert bench.state(A) is State.EJECTED


def test_after_the_cooldown_it_gets_one_request_at_a_time_until_one_succeeds() -> None:
    bench = Bench()
    bench.fail(A)
    bench.now += COOLDOWN - 1
    assert bench.state(A) is State.EJECTED
    bench.now += 1
    assert bench.state(A) is State.HALF_OPEN
    assert [bench.all.take("web", [B.id]) for _ in range(3)] == [C, A, C]
    with pytest.raises(Overloaded):
        bench.all.take("web", [B.id])
    bench.all.give(A, Outcome.OK, 1.0)
    assert bench.state(A) is State.OPEN
    assert bench.noticed[-1] == Recovered(A)


def test_a_half_open_one_that_fails_is_left_alone_again() -> None:
    bench = Bench()
    bench.fail(A)
    bench.now += COOLDOWN
    bench.fail(A, 1)
    assert bench.state(A) is State.EJECTED
    bench.now += COOLDOWN - 1
    assert A not in {bench.ask() for _ in range(9)}


def test_a_client_that_leaves_does_not_use_up_the_chance_of_a_half_open_one() -> None:
    bench = Bench()
    bench.fail(A)
    bench.now += COOLDOWN
    assert bench.ask(Outcome.NEUTRAL, tried=[B.id, C.id]) == A
    assert bench.state(A) is State.HALF_OPEN
    assert A in {bench.ask() for _ in range(3)}


def test_what_was_in_flight_before_an_ejection_does_not_end_it() -> None:
    bench = Bench()
    bench.all.take("web", [B.id, C.id])
    bench.fail(A)
    bench.all.give(A, Outcome.OK, 1.0)
    assert bench.state(A) is State.EJECTED


def test_one_failed_probe_ejects_and_one_that_passes_after_the_cooldown_brings_back() -> None:
    bench = Bench()
    bench.all.probed(A, healthy=False)
    assert (bench.state(A), bench.noticed) == (State.EJECTED, [Failed(A, ejected=True, probed=True)])
    bench.all.probed(A, healthy=True)
    assert bench.state(A) is State.EJECTED
    bench.now += COOLDOWN
    bench.all.probed(A, healthy=True)
    assert (bench.state(A), bench.noticed[-1]) == (State.OPEN, Recovered(A))


def test_a_probe_does_not_bring_back_what_requests_ejected() -> None:
    bench = Bench()
    bench.fail(A)
    bench.now += COOLDOWN
    bench.all.probed(A, healthy=True)
    assert bench.state(A) is State.HALF_OPEN


def test_each_further_failed_probe_lengthens_the_ejection_but_is_no_news() -> None:
    bench = Bench()
    bench.all.probed(A, healthy=False)
    bench.now += COOLDOWN - 1
    bench.all.probed(A, healthy=False)
    bench.now += COOLDOWN - 1
    assert bench.state(A) is State.EJECTED
    assert bench.noticed[1:] == [Failed(A, ejected=False, probed=True)]


def test_when_all_are_ejected_all_are_used() -> None:
    bench = Bench()
    for one in (A, B, C):
        bench.all.probed(one, healthy=False)
    assert {bench.ask() for _ in range(3)} == {A, B, C}


def test_a_retry_goes_to_an_ejected_one_when_the_healthy_ones_were_tried() -> None:
    bench = Bench()
    bench.all.probed(B, healthy=False)
    bench.all.probed(C, healthy=False)
    assert bench.ask(tried=[A.id]) in (B, C)


def test_a_full_backend_is_passed_over_and_when_all_are_full_the_request_is_refused() -> None:
    bench = Bench(Route("svc_1", "web", (A, B)))
    assert Counter(bench.all.take("web") for _ in range(4)) == {A: 2, B: 2}
    with pytest.raises(Overloaded, match="web") as refusal:
        bench.all.take("web")
    assert refusal.value.retry_after_s == 1
    bench.all.give(B, Outcome.OK, 1.0)
    assert bench.all.take("web") == B


def test_an_ejected_one_does_not_help_out_when_the_healthy_ones_are_full() -> None:
    bench = Bench(Route("svc_1", "web", (A, B)))
    bench.all.probed(B, healthy=False)
    assert [bench.all.take("web") for _ in range(2)] == [A, A]
    with pytest.raises(Overloaded):
        bench.all.take("web")


def test_a_service_has_a_most_of_its_own_and_another_one_does_not_suffer() -> None:
    bench = Bench(Route("svc_1", "web", (A, B, C)), Route("svc_2", "api", (D := backend("d"),)))
    for _ in range(RULES.per_service):
        bench.all.take("web")
    with pytest.raises(Overloaded):
        bench.all.take("svc_1")
    assert bench.all.take("api") == D


def test_a_new_table_keeps_what_is_known_of_those_that_stay() -> None:
    bench = Bench()
    bench.fail(A)
    bench.all.take("web", [A.id, C.id])
    bench.all.replace([Route("svc_1", "web", (A, B, D := backend("d")))])
    assert bench.state(A) is State.EJECTED
    assert bench.seen(B).in_flight == 1
    assert bench.ask() == D


def test_a_retired_backend_gets_no_new_request_and_is_forgotten_with_its_last_one() -> None:
    bench = Bench(Route("svc_1", "web", (A, B)))
    bench.all.probed(A, healthy=False)
    assert bench.all.take("web", [B.id]) == A
    bench.all.replace([Route("svc_1", "web", (B,))])
    assert {bench.ask() for _ in range(3)} == {B}
    bench.all.give(A, Outcome.FAILED, 1.0)
    bench.all.replace([Route("svc_1", "web", (A, B))])
    assert bench.state(A) is State.OPEN


def test_what_a_retired_backend_still_answers_counts_for_its_service() -> None:
    bench = Bench(rules=Rules(per_service=2))
    taken = [bench.all.take("web") for _ in range(2)]
    bench.all.replace([Route("svc_1", "web", (D := backend("d"),))])
    with pytest.raises(Overloaded):
        bench.all.take("web")
    bench.all.give(taken[0], Outcome.OK, 1.0)
    assert bench.all.take("web") == D


def test_a_backend_that_moved_is_another_one() -> None:
    bench = Bench(Route("svc_1", "web", (A,)))
    bench.all.probed(A, healthy=False)
    moved = Backend(A.id, "http://10.0.0.2:3100", "http", "10.0.0.2", 3100)
    bench.all.replace([Route("svc_1", "web", (moved,))])
    assert bench.state(moved) is State.OPEN


def test_the_probe_of_a_retired_backend_says_nothing() -> None:
    bench = Bench(Route("svc_1", "web", (A, B)))
    bench.all.take("web", [B.id])
    bench.all.replace([Route("svc_1", "web", (B,))])
    bench.all.probed(A, healthy=False)
    bench.all.probed(C, healthy=False)
    assert bench.noticed == []


def test_what_was_not_taken_cannot_be_given_back() -> None:
    bench = Bench()
    taken = bench.all.take("web")
    bench.all.give(taken, Outcome.OK, 1.0)
    with pytest.raises(ValueError, match="no request in flight"):
        bench.all.give(taken, Outcome.OK, 1.0)
    with pytest.raises(ValueError, match="no request in flight"):
        bench.all.give(backend("z"), Outcome.OK, 1.0)


def test_the_latency_is_a_mean_of_the_latest_successes() -> None:
    bench = Bench(Route("svc_1", "web", (A,)))
    assert bench.seen(A).latency_ms is None
    for outcome, latency_ms in ((Outcome.OK, 100.0), (Outcome.FAILED, 9_000.0), (Outcome.OK, 200.0)):
        bench.all.take("web")
        bench.all.give(A, outcome, latency_ms)
    assert bench.seen(A).latency_ms == pytest.approx(110.0)


def test_many_threads_at_once_lose_no_count() -> None:
    bench = Bench(rules=Rules(per_backend=1_000, per_service=1_000))
    ready = threading.Barrier(8)

    def ask() -> None:
        ready.wait()
        for _ in range(500):
            bench.ask()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [seen.in_flight for seen in bench.all.look()] == [0, 0, 0]
    assert bench.all._in_flight == {}

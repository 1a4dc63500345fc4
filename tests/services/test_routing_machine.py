"""Whatever requests, probes, new tables and time do, in any order: what must always be true of the choice of a backend."""

import threading
from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from skyclaw.services.routing import Backend, Backends, NoBackend, Outcome, Overloaded, Route, Rules, State

RULES = Rules(cooldown_ms=100, failures=3, per_backend=3, per_service=7)
POOL = tuple(Backend(f"ins_{number}", f"http://10.0.0.1:{number}", "http", "10.0.0.1", number) for number in range(3_100, 3_105))
SERVICE, NAME = "svc_1", "web"

tables = st.lists(st.sampled_from(POOL), unique=True)


class Routing(RuleBasedStateMachine):
    """Keeps a book of its own of the requests in flight, and looks at every choice from outside."""

    @initialize(table=tables)
    def begin(self, table: list[Backend]) -> None:
        self.now = 0
        self.backends = Backends(lambda: self.now, threading.Lock(), RULES)
        self.flying: list[Backend] = []
        self.replace(table)

    @rule(table=tables)
    def replace(self, table: list[Backend]) -> None:
        self.table = table
        self.backends.replace([Route(SERVICE, NAME, tuple(table))])

    @rule(key=st.sampled_from([SERVICE, NAME]), tried=st.lists(st.sampled_from(POOL), max_size=2))
    def take(self, key: str, tried: list[Backend]) -> None:
        candidates = [seen for seen in self.backends.look() if seen.backend not in tried]
        trusted = [seen for seen in candidates if _is_trusted(seen.state, seen.in_flight)]
        roomy = [seen for seen in trusted or candidates if seen.in_flight < RULES.per_backend]
        try:
            taken = self.backends.take(key, [one.id for one in tried])
        except NoBackend:
            assert not candidates
        except Overloaded:
            assert candidates
            assert not roomy or len(self.flying) >= RULES.per_service
        else:
            assert taken in [seen.backend for seen in roomy]
            assert Counter(self.flying)[taken] == min(seen.in_flight for seen in roomy)
            assert len(self.flying) < RULES.per_service
            self.flying.append(taken)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome))
    def give(self, data: st.DataObject, outcome: Outcome) -> None:
        one = data.draw(st.sampled_from(self.flying))
        self.flying.remove(one)
        self.backends.give(one, outcome, 1.0)

    @rule(one=st.sampled_from(POOL), healthy=st.booleans())
    def probe(self, one: Backend, healthy: bool) -> None:
        self.backends.probed(one, healthy)
        if one in self.table and not healthy:
            assert self.state_of(one) is State.EJECTED

    @rule(passed=st.integers(0, 150))
    def pass_time(self, passed: int) -> None:
        self.now += passed

    @rule()
    def cool_down(self) -> None:
        self.now += RULES.cooldown_ms
        assert all(seen.state is not State.EJECTED for seen in self.backends.look())

    @invariant()
    def counts_are_those_of_the_book(self) -> None:
        book = Counter(self.flying)
        assert {seen.backend: seen.in_flight for seen in self.backends.look()} == {one: book[one] for one in self.table}

    @invariant()
    def nothing_is_remembered_that_is_neither_in_the_table_nor_in_flight(self) -> None:
        assert set(self.backends._loads) == set(self.table) | set(self.flying)

    def state_of(self, one: Backend) -> State:
        return next(seen.state for seen in self.backends.look() if seen.backend == one)


def _is_trusted(state: State, in_flight: int) -> bool:
    return state is State.OPEN or (state is State.HALF_OPEN and in_flight == 0)


TestRouting = Routing.TestCase
TestRouting.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.integers(1, 5), st.integers(0, 40), st.integers(0, 4))
def test_requests_one_after_the_other_are_shared_out_to_within_one(backends: int, requests: int, earlier: int) -> None:
    chosen = _asked(POOL[:backends], earlier + requests)[earlier:]
    counts = [Counter(chosen)[one] for one in POOL[:backends]]
    assert max(counts) - min(counts) <= 1


@given(st.integers(1, 5), st.integers(0, 40))
def test_requests_at_the_same_time_are_shared_out_to_within_one(backends: int, requests: int) -> None:
    pool = Backends(lambda: 0, threading.Lock(), Rules(per_backend=100, per_service=100))
    pool.replace([Route(SERVICE, NAME, POOL[:backends])])
    counts = Counter(pool.take(NAME) for _ in range(requests))
    assert max(counts.values(), default=0) - min(counts[one] for one in POOL[:backends]) <= 1


def _asked(table: Sequence[Backend], requests: int) -> list[Backend]:
    """Who answered, request after request."""
    pool, chosen = Backends(lambda: 0, threading.Lock(), RULES), []
    pool.replace([Route(SERVICE, NAME, tuple(table))])
    for _ in range(requests):
        chosen.append(pool.take(NAME))
        pool.give(chosen[-1], Outcome.OK, 1.0)
    return chosen

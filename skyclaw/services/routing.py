"""Which backend of a service gets the next request, and which ones are left alone for a while.

1. A service is found by its id, or by its name; an id wins over a name, and of two services of one name the one that is listed first.
2. Of the backends that may be used, the one with the fewest requests in flight is next; of equals, the one whose turn was longest ago.
3. A backend is ejected for a cooldown after so many failures in a row, or after one failed probe.
4. After the cooldown it is half-open: it gets one request at a time until one succeeds. What a probe ejected, a probe can bring back too.
5. When all backends of a service are ejected, all of them are used: an answer that may fail is better than none.
6. A backend may have so many requests in flight, and a service too. When those that may be used are full, the request is refused.
7. A new table keeps what is known of the backends that are still in it; the others get no new request, but those that they have count.

Times are milliseconds of a clock that only goes forward.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from types import TracebackType
from typing import ClassVar, Protocol

from skyclaw.errors import SkyclawError

LATENCY_WEIGHT = 0.1  # of the newest request in a backend's mean latency


class NoBackend(SkyclawError):
    """The service has no backend."""

    code = "no_backend"
    retry_after_s: ClassVar[int] = 1


class Overloaded(SkyclawError):
    """The service has as many requests as it can take; try again."""

    code = "overloaded"
    retry_after_s: ClassVar[int] = 1


class Outcome(Enum):
    """What came of a request to a backend."""

    OK = "ok"
    FAILED = "failed"  # counts against the backend: no connection, no answer in time, no proper HTTP, a status of 500 or more
    NEUTRAL = "neutral"  # says nothing about it: the client left


class State(Enum):
    """Whether a backend gets requests."""

    OPEN = "open"
    HALF_OPEN = "half-open"
    EJECTED = "ejected"


@dataclass(frozen=True, slots=True)
class Backend:
    """One instance of a service. `url` has no trailing slash, `prefix` is its path ("" or `/...`), `host` is without brackets.

    `addresses` are the IP addresses to connect to when `host` is a name; a backend stays the same when they change.
    """

    id: str
    url: str
    scheme: str
    host: str
    port: int
    prefix: str = ""
    addresses: tuple[str, ...] = field(default=(), compare=False)

    @property
    def places(self) -> tuple[str, ...]:
        """The IP addresses to connect to."""
        return self.addresses or (self.host,)


@dataclass(frozen=True, slots=True)
class Route:
    """A service with its backends. `health_path` is the service's own one, None when it has none."""

    id: str
    name: str
    backends: tuple[Backend, ...]
    health_path: str | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """When a backend is left alone, for how long (ms), and how many requests may be in flight."""

    cooldown_ms: int = 10_000
    failures: int = 3
    per_backend: int = 16
    per_service: int = 48


@dataclass(frozen=True, slots=True)
class Missed:
    """A request named a service that has no backend."""

    key: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A request to a backend, or a probe of it, failed; `ejected`: so it is left alone from now on."""

    backend: Backend
    ejected: bool
    probed: bool


@dataclass(frozen=True, slots=True)
class Recovered:
    """A backend that was ejected takes part again."""

    backend: Backend


Notice = Missed | Failed | Recovered


@dataclass(frozen=True, slots=True)
class BackendSeen:
    """How a backend is; `latency_ms` is the mean of its latest successful requests, None before the first."""

    service: str
    backend: Backend
    state: State
    in_flight: int
    latency_ms: float | None


class Lock(Protocol):
    """What keeps threads apart, as `threading.Lock` does."""

    def __enter__(self) -> bool: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /) -> None: ...


@dataclass(slots=True)
class _Load:
    """What is known of one backend."""

    service: str
    in_flight: int = 0
    failures: int = 0  # in a row
    ejected_until: int | None = None
    by_probe: bool = False  # it was a probe that ejected it
    turn: int = 0  # when it was taken last
    latency_ms: float | None = None

    def state(self, now: int) -> State:
        if self.ejected_until is None:
            return State.OPEN
        return State.EJECTED if now < self.ejected_until else State.HALF_OPEN

    def is_trusted(self, now: int) -> bool:
        """May it be used while others could be used instead?"""
        state = self.state(now)
        return state is State.OPEN or (state is State.HALF_OPEN and self.in_flight == 0)

    def eject(self, until: int, by_probe: bool) -> None:
        self.ejected_until, self.by_probe = until, by_probe

    def recover(self) -> None:
        self.ejected_until, self.failures = None, 0


class Backends:
    """The backends of all services. May be used by many threads: `lock` keeps them apart, `notice` is called outside of it."""

    def __init__(
        self, clock: Callable[[], int], lock: Lock, rules: Rules | None = None, notice: Callable[[Notice], None] = lambda _: None
    ) -> None:
        self._clock, self._lock, self._rules, self._notice = clock, lock, rules or Rules(), notice
        self._routes: tuple[Route, ...] = ()
        self._by_key: dict[str, Route] = {}
        self._loads: dict[Backend, _Load] = {}
        self._present: frozenset[Backend] = frozenset()
        self._in_flight: dict[str, int] = {}  # of each service that has any
        self._turns = count(1)
        self.skipped = 0  # of the present table
        self.has_table = False  # was there any yet?

    @property
    def routes(self) -> tuple[Route, ...]:
        """The present table."""
        return self._routes

    def keys(self) -> list[str]:
        """The ids and names under which services are found, sorted."""
        return sorted(self._by_key)

    def knows(self, key: str) -> bool:
        """Is there a service of this id or name?"""
        return key in self._by_key

    def replace(self, routes: Iterable[Route], skipped: int = 0) -> None:
        """Use this table from now on; `skipped` things of it were left out, because they could not be what they were said to be."""
        routes = tuple(routes)
        by_key = {route.id: route for route in reversed(routes)}
        for route in routes:
            by_key.setdefault(route.name, route)
        with self._lock:
            self._routes, self._by_key, self.skipped, self.has_table = routes, by_key, skipped, True
            self._present = frozenset(backend for route in routes for backend in route.backends)
            for route in routes:
                for backend in route.backends:
                    self._loads.setdefault(backend, _Load(route.id))
            for backend in self._loads.keys() - self._present:
                self._forget_if_idle(backend)

    def take(self, key: str, tried: Collection[str] = ()) -> Backend:
        """The backend for the next request, which is in flight until it is given back; none of those whose ids were `tried`.

        Raises NoBackend, and Overloaded when those that may be used are full.
        """
        with self._lock:
            route = self._by_key.get(key)
            candidates = [backend for backend in route.backends if backend.id not in tried] if route else []
            if route and candidates:
                return self._pick(key, route, candidates)
        if not tried:
            self._notice(Missed(key))
        raise NoBackend(f"no healthy endpoints for service {key}")

    def give(self, backend: Backend, outcome: Outcome, latency_ms: float) -> None:
        """The request to a backend that was taken is over, after that time. Raises ValueError when it has none in flight."""
        with self._lock:
            load = self._loads.get(backend)
            if load is None or not load.in_flight:
                raise ValueError(f"backend {backend.id} has no request in flight")
            self._end_one(load)
            found = self._judge(backend, load, outcome, latency_ms)
            self._forget_if_idle(backend)
        if found is not None:
            self._notice(found)

    def probed(self, backend: Backend, healthy: bool) -> None:
        """A probe of a backend ended; nothing happens when it is not in the table any more."""
        with self._lock:
            load, now = self._loads.get(backend), self._clock()
            found: Notice | None = None
            if load is None or backend not in self._present:
                return
            if not healthy:
                found = Failed(backend, load.ejected_until is None, True)
                load.eject(now + self._rules.cooldown_ms, True)
            elif load.by_probe and load.state(now) is State.HALF_OPEN:
                load.recover()
                found = Recovered(backend)
        if found is not None:
            self._notice(found)

    def look(self) -> tuple[BackendSeen, ...]:
        """How all backends of the present table are."""
        with self._lock:
            now = self._clock()
            pairs = [(route.id, backend, self._loads[backend]) for route in self._routes for backend in route.backends]
            return tuple(BackendSeen(service, one, load.state(now), load.in_flight, load.latency_ms) for service, one, load in pairs)

    def _pick(self, key: str, route: Route, candidates: list[Backend]) -> Backend:
        now = self._clock()
        trusted = [backend for backend in candidates if self._loads[backend].is_trusted(now)]
        roomy = [backend for backend in trusted or candidates if self._loads[backend].in_flight < self._rules.per_backend]
        if not roomy or self._in_flight.get(route.id, 0) >= self._rules.per_service:
            raise Overloaded(f"service {key} has as many requests as it can take; try again")
        backend = min(roomy, key=self._order)
        load = self._loads[backend]
        load.in_flight, load.turn = load.in_flight + 1, next(self._turns)
        self._in_flight[load.service] = self._in_flight.get(load.service, 0) + 1
        return backend

    def _order(self, backend: Backend) -> tuple[int, int]:
        load = self._loads[backend]
        return load.in_flight, load.turn

    def _end_one(self, load: _Load) -> None:
        load.in_flight -= 1
        self._in_flight[load.service] -= 1
        if not self._in_flight[load.service]:
            del self._in_flight[load.service]

    def _judge(self, backend: Backend, load: _Load, outcome: Outcome, latency_ms: float) -> Notice | None:
        """What the outcome says about the backend."""
        now = self._clock()
        state = load.state(now)
        if outcome is Outcome.OK:
            former = load.latency_ms
            load.latency_ms = latency_ms if former is None else former + LATENCY_WEIGHT * (latency_ms - former)
            load.failures = 0
            if state is State.HALF_OPEN:
                load.recover()
                return Recovered(backend)
        elif outcome is Outcome.FAILED:
            load.failures += 1
            ejected = state is State.HALF_OPEN or (state is State.OPEN and load.failures >= self._rules.failures)
            if ejected:
                load.eject(now + self._rules.cooldown_ms, False)
            return Failed(backend, ejected, False)
        return None

    def _forget_if_idle(self, backend: Backend) -> None:
        if backend not in self._present and not self._loads[backend].in_flight:
            del self._loads[backend]

"""One instance of a service on its host: when its process is started, probed, terminated, started again and given up.

`after` gives the life as it is after an event, and what is to be done. Times are ms of the host's clock.

1. What the process needs is prepared first. If that is not possible now, it is tried again after a pause (rule 4); if it never will be, the
   instance has failed.
2. A process is starting until a probe finds it healthy: then it is running. It is probed every 200 ms, and every 5 s once it is running,
   never twice at the same time. What was found out about a former process counts for nothing.
3. A process that is not healthy within its time, or that was running and is not healthy in three probes in a row, is terminated.
4. When a process has ended it is started again after a pause: 0.1, 1, 2, 4 ... 30 s. The row of pauses begins anew after a process that was
   running for 60 s.
5. The instance has failed when three starts brought no healthy process and it never had one before, when a process ends that had been
   started again five times within 60 s, and when this host does not run such a thing at all. What is the host's own fault does not count.
6. Drained, a running process goes on for the drain time and is then terminated; any other is terminated at once, as is every process when
   the instance is stopped. The instance has ended when no process is left; a failed one has none.
7. An instance that has ended stays so.
"""

from dataclasses import dataclass, replace
from enum import Enum

STARTING, RUNNING, FAILED, ENDED = "starting", "running", "failed", "ended"  # as coordinators are told

STARTING_PROBE_MS, RUNNING_PROBE_MS = 200, 5_000
BAD_PROBES = 3
FIRST_PAUSE_MS, SECOND_PAUSE_MS, LONGEST_PAUSE_MS = 100, 1_000, 30_000
WELL_MS = 60_000  # of running, after which former failures are forgotten
STARTS = 3  # of an instance that was never healthy
RESTARTS = 5  # within WELL_MS


class Phase(Enum):
    """Where an instance is on its way."""

    PREPARING = "preparing"
    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"  # its process was terminated, and will be started again
    PAUSING = "pausing"
    DRAINING = "draining"
    STOPPING = "stopping"  # its process was terminated for good
    FAILED = "failed"
    ENDED = "ended"


class Do(Enum):
    """What is to be done for an instance, with its process number `run`."""

    PREPARE = "prepare"
    START = "start"
    PROBE = "probe"
    TERMINATE = "terminate"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the process needs is there."""


@dataclass(frozen=True, slots=True)
class Unprepared:
    """It is not; `for_good` when to try again would not help."""

    error: str
    for_good: bool


@dataclass(frozen=True, slots=True)
class Exited:
    """Process number `run` has ended, and nothing of it is left; `counts` unless that is the host's own fault."""

    run: int
    error: str
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Probed:
    """A probe of process number `run` was answered well, or for this reason not."""

    run: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Drain:
    """The instance is to end, but first to answer what it was asked."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The instance is to end at once."""


@dataclass(frozen=True, slots=True)
class Passed:
    """Time has passed."""


Event = Prepared | Unprepared | Exited | Probed | Drain | Stop | Passed


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a process may take until it is healthy, and goes on when it is drained, in ms."""

    health_timeout_ms: int
    drain_ms: int


@dataclass(frozen=True, slots=True)
class Life:
    """An instance; made anew it is preparing. `run` numbers its processes from 1, `error` is why there is no healthy one."""

    terms: Terms
    phase: Phase = Phase.PREPARING
    run: int = 0
    error: str | None = None
    prepared: bool = False
    due: int | None = None  # when the phase is over by itself
    probe_at: int | None = None
    bad_probes: int = 0
    probe_error: str | None = None
    running_since: int | None = None
    ever_healthy: bool = False
    failures: int = 0  # that count, while it was never healthy
    row: int = 0  # pauses since it was well
    restarts: tuple[int, ...] = ()  # the latest, that count

    @property
    def status(self) -> str:
        """What coordinators are told."""
        match self.phase:
            case Phase.RUNNING | Phase.DRAINING:
                return RUNNING
            case Phase.FAILED:
                return FAILED
            case Phase.ENDED:
                return ENDED
        return STARTING

    @property
    def has_process(self) -> bool:
        """Whether a process was started whose end is not known yet."""
        return self.phase in (Phase.STARTING, Phase.RUNNING, Phase.ENDING, Phase.DRAINING, Phase.STOPPING)

    @property
    def over(self) -> bool:
        """Whether nothing will happen any more unless somebody asks for it."""
        return self.phase in (Phase.FAILED, Phase.ENDED)


Step = tuple[Life, tuple[Do, ...]]


def after(life: Life, event: Event, now: int) -> Step:
    """The life after an event, and what is to be done. What does not concern it any more changes nothing."""
    match event:
        case Prepared() if life.phase is Phase.PREPARING:
            return _started(replace(life, prepared=True), now)
        case Unprepared() if life.phase is Phase.PREPARING:
            return (_failed(life, event.error) if event.for_good else _paused(life, event.error, now)), ()
        case Exited() if life.has_process and event.run == life.run:
            return _exited(life, event, now), ()
        case Probed() if event.run == life.run:
            return _probed(life, event.error, now)
        case Drain() if life.phase is Phase.RUNNING:
            return replace(life, phase=Phase.DRAINING, due=now + life.terms.drain_ms), ()
        case Drain() if life.phase is not Phase.DRAINING:
            return _stopped(life)
        case Stop():
            return _stopped(life)
        case Passed():
            return _passed(life, now)
    return life, ()


def _started(life: Life, now: int) -> Step:
    fresh = replace(life, phase=Phase.STARTING, run=life.run + 1, due=now + life.terms.health_timeout_ms, probe_at=now)
    return replace(fresh, bad_probes=0, probe_error=None, running_since=None), (Do.START,)


def _exited(life: Life, exited: Exited, now: int) -> Life:
    if life.phase in (Phase.DRAINING, Phase.STOPPING):
        return _ended(life)
    error = life.error if life.phase is Phase.ENDING and life.error else exited.error
    if life.running_since is not None and now - life.running_since >= WELL_MS:
        life = replace(life, row=0)
    if not exited.counts:
        return _paused(life, error, now)
    recent = tuple(at for at in life.restarts if now - at < WELL_MS)
    failures = life.failures if life.ever_healthy else life.failures + 1
    if failures >= STARTS and not life.ever_healthy:
        return _failed(life, error)
    if len(recent) >= RESTARTS:
        return _failed(life, f"{error}; it was started again {RESTARTS} times within {WELL_MS // 1000} s")
    return _paused(replace(life, failures=failures, restarts=(*recent, now)), error, now)


def _probed(life: Life, error: str | None, now: int) -> Step:
    match life.phase:
        case Phase.STARTING if error is None:
            healthy = replace(life, phase=Phase.RUNNING, error=None, due=None, running_since=now, ever_healthy=True)
            return replace(healthy, probe_at=now + RUNNING_PROBE_MS), ()
        case Phase.STARTING:
            return replace(life, probe_at=now + STARTING_PROBE_MS, probe_error=error), ()
        case Phase.RUNNING if error is None:
            return replace(life, probe_at=now + RUNNING_PROBE_MS, bad_probes=0), ()
        case Phase.RUNNING if life.bad_probes + 1 < BAD_PROBES:
            return replace(life, probe_at=now + RUNNING_PROBE_MS, bad_probes=life.bad_probes + 1), ()
        case Phase.RUNNING:
            return _terminated(life, f"not healthy any more: {error}")
    return life, ()


def _passed(life: Life, now: int) -> Step:
    if life.due is not None and now >= life.due:
        match life.phase:
            case Phase.STARTING:
                why = f": {life.probe_error}" if life.probe_error else ""
                return _terminated(life, f"not healthy within {life.terms.health_timeout_ms / 1000:g} s{why}")
            case Phase.PAUSING if life.prepared:
                return _started(life, now)
            case Phase.PAUSING:
                return replace(life, phase=Phase.PREPARING, due=None), (Do.PREPARE,)
            case Phase.DRAINING:
                return _stopped(life)
    if life.phase in (Phase.STARTING, Phase.RUNNING) and life.probe_at is not None and now >= life.probe_at:
        return replace(life, probe_at=None), (Do.PROBE,)
    return life, ()


def _terminated(life: Life, error: str) -> Step:
    return replace(life, phase=Phase.ENDING, error=error, due=None), (Do.TERMINATE,)


def _stopped(life: Life) -> Step:
    match life.phase:
        case Phase.STARTING | Phase.RUNNING | Phase.DRAINING:
            return replace(life, phase=Phase.STOPPING, due=None), (Do.TERMINATE,)
        case Phase.ENDING | Phase.STOPPING:
            return replace(life, phase=Phase.STOPPING), ()
    return _ended(life), ()


def _ended(life: Life) -> Life:
    return replace(life, phase=Phase.ENDED, error=None, due=None)


def _failed(life: Life, error: str) -> Life:
    return replace(life, phase=Phase.FAILED, error=error, due=None)


def _paused(life: Life, error: str, now: int) -> Life:
    pause = FIRST_PAUSE_MS if life.row == 0 else min(LONGEST_PAUSE_MS, SECOND_PAUSE_MS << min(life.row - 1, 10))
    return replace(life, phase=Phase.PAUSING, error=error, due=now + pause, row=life.row + 1)

"""The host process: a list of starts and, reversed, of stops."""

import contextlib
import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from actors.host_agent import HostAgent
from actors.host_boxes import Slots
from actors.host_claims import ClaimLoop
from actors.host_deliveries import DeliveryLoop
from actors.host_heartbeats import HeartbeatLoop
from actors.host_loops import Hear, host_clock, unheard
from actors.host_messages import Drain, StopNow
from actors.host_work import HostWork
from actors.ticker import Ticker
from skyclaw.entrypoints import rendering
from skyclaw.entrypoints.actor_address import Address
from skyclaw.entrypoints.host_arrival import Arrived, arrive
from skyclaw.entrypoints.host_services import RunningServices, start_services
from skyclaw.entrypoints.settings import HostSettings
from skyclaw.entrypoints.signals import StopSignals
from skyclaw.hosting.leaving import HASTE_MS

logger = logging.getLogger(__name__)

STOPPED_AT_ONCE = 130
TICK_S = 0.25
LAST_DELIVERY_S = 2.0
AGENT_ENDS_S = 2.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class RunningHost:
    """A host that takes jobs and services. `left` is set when it was drained and has nothing left to do, `failed` when it cannot go on."""

    id: str
    left: threading.Event
    failed: threading.Event
    _agent: Address = field(repr=False)
    _services: RunningServices | None = field(repr=False)
    _stops: ExitStack = field(repr=False)

    def drain(self) -> None:
        """Take no more jobs, and finish those that run, within the grace; services end at once."""
        self._tell(Drain())

    def stop(self) -> None:
        """Be gone: what still runs is killed and given back, if a coordinator answers within seconds."""
        if self._agent.alive:
            self._tell(StopNow())
            self.left.wait(HASTE_MS / 1000 + 1)
        self._stops.close()

    def _tell(self, message: object) -> None:
        if self._services is not None:
            self._services.supervisor.tell(message)
        self._agent.tell(message)


def print_line(line: str) -> None:
    """Tell whoever started the host; when nobody reads it any more, the host works on."""
    with contextlib.suppress(OSError, ValueError):
        print(rendering.safe_line(line), flush=True)  # noqa: T201  # for whoever started it


def start_host(settings: HostSettings, say: Say = print_line) -> RunningHost:
    """Register, and take jobs. Waits for a coordinator to answer; raises StartRefused, ServerRefused, NotACoordinator."""
    return _take_jobs(arrive(settings), say)


def run_host(settings: HostSettings) -> int:
    """Be a host until a signal says otherwise: the first drains it, the second stops it at once. Returns the exit code."""
    arrived = arrive(settings)
    signals = StopSignals()  # until here there was nothing to finish, and a signal just ended the process
    running = _take_jobs(arrived, print_line)
    try:
        signals.wait(running.failed)
        if signals.count:
            print_line(f"[skyclaw] draining: what runs has up to {settings.grace_ms / 1000:g} s to finish; a second signal stops at once")
        running.drain()
        signals.wait(running.left, running.failed)
    finally:
        running.stop()
    if running.failed.is_set():
        return 1
    return STOPPED_AT_ONCE if signals.count > 1 else 0


def _take_jobs(arrived: Arrived, say: Say) -> RunningHost:
    """Start everything that takes jobs and services, runs them and tells of them."""
    host_id, config, outbox, coordinators, tell = arrived.id, arrived.config, arrived.outbox, arrived.coordinators, arrived.agent.tell
    left, failed = threading.Event(), threading.Event()
    parts_here = {"jobs", "services"} if arrived.services is not None else {"jobs"}

    def idle(part: str) -> None:
        parts_here.discard(part)
        if not parts_here:
            left.set()

    def broken(cause: str) -> None:
        logger.critical("host_broken cause=%s", cause)
        failed.set()

    with arrived.stops.pop_all() as stops:
        arrived.executor.start()
        stops.callback(arrived.executor.stop)
        say(f"[skyclaw] host registered: {host_id} ({config.name})")
        services: RunningServices | None = None
        hear: Hear = unheard
        if arrived.services is not None:
            services = start_services(arrived.services, host_id, arrived.means, say, lambda: idle("services"), broken, tell, stops)
            hear = services.hear
        slots = Slots(config.max_parallel)
        work = HostWork(arrived.means, config.max_output_bytes, arrived.executor, slots, outbox, say, broken)
        work.recover(outbox.reports(), host_clock())
        heartbeats = HeartbeatLoop(coordinators, config, host_id, tell, host_clock, hear)
        agent = HostAgent.start(work, heartbeats, arrived.rhythm, slots, outbox, host_clock, config.grace_ms, lambda: idle("jobs"), broken)
        arrived.agent.actor = agent
        stops.callback(agent.stop, timeout=AGENT_ENDS_S)
        for loop, ends_s in (
            (heartbeats, 0.0),
            (ClaimLoop(coordinators, host_id, slots, config.poll_ms, tell, host_clock, hear), 0.0),
            (DeliveryLoop(coordinators, host_id, outbox, arrived.kept, tell, max(1, config.max_parallel // 2)), LAST_DELIVERY_S),
        ):
            loop.start()
            stops.callback(loop.stop, ends_s)
        ticker = Ticker(tell, TICK_S, "host-ticker")
        ticker.start()
        stops.callback(ticker.stop)
        return RunningHost(host_id, left, failed, arrived.agent, services, stops.pop_all())

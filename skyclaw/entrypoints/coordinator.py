"""The coordinator process: a list of starts and, reversed, of stops."""

import gc
import os
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from actors.coordinator import Coordinator
from actors.peer_config import PeerConfig
from api.app import create_app
from api.bundle_exchange import BundleExchange
from api.bundle_keeper import BundleKeeper
from api.parts import HealthSeen, Parts
from skyclaw.cluster.replication import Pace
from skyclaw.entrypoints.serve import Server
from skyclaw.entrypoints.settings import IN_MEMORY, CoordinatorSettings
from skyclaw.entrypoints.signals import StopSignals
from skyclaw.outside.clock import Clock, steady_clock
from skyclaw.outside.cpus import stay_on_one_cpu
from skyclaw.outside.processes import hide_from_jobs
from skyclaw.scheduling.turn import Rules
from skyclaw.store.bundles import BundleFiles
from skyclaw.store.event_log import EventLog
from skyclaw.store.memory import MemoryEventLog
from skyclaw.store.sqlite import open_sqlite

SWITCH_INTERVAL_S = 1e-3  # shorter: threads that wait wake each other in vain; longer: one that computes holds up all others
HAND_OVER_S = 3.0  # for others to take over what is owned here, before a stop
DOUBT_BEATS = 35  # tenths of a heartbeat after which an owner is doubted
BUNDLE_SPARE = 1024 * 1024  # bytes between the limit of a bundle and that of the server, so that it is the former that is told
YOUNG_OBJECTS = 50_000  # between collections: live jobs are many and hold no cycles


@dataclass(frozen=True)
class RunningCoordinator:
    """A coordinator that accepts requests; `failed` is set when its actors could not be kept alive."""

    url: str
    label: str
    failed: threading.Event
    _stops: ExitStack = field(repr=False)

    def stop(self) -> None:
        """Accept nothing more, store what was accepted, let go of the database."""
        self._stops.close()


def start_coordinator(settings: CoordinatorSettings) -> RunningCoordinator:
    """Open the log, start the actors, listen. Raises StartRefused."""
    failed = threading.Event()
    with ExitStack() as stops:
        log = _open_log(settings)
        stops.callback(log.close)
        clock = steady_clock()
        rules = Rules(settings.lease_ms, settings.max_queued_jobs, settings.idempotency_ttl_ms, service_lease_ms=settings.service_lease_ms)
        files = BundleFiles(_bundle_folder(settings, stops), settings.max_bundle_bytes)
        coordinator = Coordinator(
            log,
            clock,
            rules,
            failed.set,
            settings.min_replications,
            pace=_pace(settings),
            peering=_peering(settings, log),
        )
        stops.callback(coordinator.stop)
        coordinator.start()
        bundles = BundleExchange(files, coordinator.cluster, coordinator.cluster.peers, clock)
        keeper = BundleKeeper(bundles, coordinator.desk)
        app = create_app(_parts(settings, coordinator, clock, bundles))
        server = Server(app, settings.host, settings.port, max_large=settings.max_bundle_bytes + BUNDLE_SPARE)
        server.start()
        keeper.start()
        stops.callback(keeper.stop)
        stops.callback(server.stop)
        stops.callback(coordinator.send_waiters_home)
        stops.callback(coordinator.hand_over, HAND_OVER_S)
        label = settings.node_id or log.node
        return RunningCoordinator(f"http://{settings.host}:{server.port}", label, failed, stops.pop_all())


def run_coordinator(settings: CoordinatorSettings) -> int:
    """Be a coordinator until a signal says otherwise; returns the exit code."""
    hide_from_jobs()  # a host on this machine may run jobs as the same user
    _tune_interpreter()
    if settings.one_cpu:
        stay_on_one_cpu(os.getpid())
    signals = StopSignals()
    gc.disable()  # rebuilding the state makes much that stays, and no garbage
    running = start_coordinator(settings)
    try:
        gc.freeze()
        gc.enable()
        _announce(running, settings)
        signals.wait(running.failed)
    finally:
        running.stop()
    return 1 if running.failed.is_set() else 0


def _open_log(settings: CoordinatorSettings) -> EventLog:
    label = settings.node_id or "node"
    return MemoryEventLog(label) if settings.database_url == "memory://" else open_sqlite(settings.db_path, label)


def _pace(settings: CoordinatorSettings) -> Pace:
    beat = settings.peers.heartbeat_ms
    doubt = beat * DOUBT_BEATS // 10
    return Pace(beat, doubt, doubt)


def _peering(settings: CoordinatorSettings, log: EventLog) -> PeerConfig:
    peers = settings.peers
    return PeerConfig(
        node=log.node,
        label=settings.node_id or log.node,
        log=None if peers.witness else log.log,
        url=settings.announced(settings.port),
        tokens=peers.tokens or settings.tokens,
        peer_urls=peers.urls,
        discovery=peers.discovery,
        sync_ms=peers.sync_ms,
        networks=peers.networks,
        ca_file=peers.ca_file,
        witness=peers.witness,
        strict=bool(peers.tokens),
    )


def _bundle_folder(settings: CoordinatorSettings, stops: ExitStack) -> Path:
    """Where bundles are kept: beside the database, and gone with the process when that is."""
    if settings.database_url == IN_MEMORY:
        return Path(stops.enter_context(TemporaryDirectory(prefix="skyclaw-")))
    return settings.db_path.parent / "bundles"


def _parts(settings: CoordinatorSettings, coordinator: Coordinator, clock: Clock, bundles: BundleExchange) -> Parts:
    return Parts(
        desk=coordinator.desk,
        archive=coordinator.archive,
        node=settings.node_id or coordinator.log.node,
        log=coordinator.cluster.home,
        tokens=settings.tokens,
        clock=clock,
        health=lambda: _health(coordinator),
        cluster=coordinator.cluster,
        network=coordinator.cluster.peers,
        replication=coordinator.cluster,
        peer_tokens=settings.peers.tokens,
        logs_admin=coordinator.orders,
        bundles=bundles,
    )


def _health(coordinator: Coordinator) -> HealthSeen:
    """Which required actors live, and what does not work as it should."""
    actors = coordinator.actors
    degraded = [f"{name} is down" for name, alive in actors.items() if not alive]
    if coordinator.log.read_only:
        degraded.append("the storage is read-only: writes are refused")
    degraded += coordinator.cluster.shortcomings()
    return HealthSeen(ok=all(actors.values()), ready=coordinator.ready, degraded=tuple(degraded), actors=dict(actors))


def _tune_interpreter() -> None:
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(YOUNG_OBJECTS, 20, 100)


def _announce(running: RunningCoordinator, settings: CoordinatorSettings) -> None:
    copies, has_peers = settings.min_replications or 1, bool(settings.peers.urls)
    policy = f"min replicas {copies} ({copies - 1} peer acks required)"
    if settings.min_replications is None and has_peers:
        policy = "1 copy until three coordinators are level, then 2"
    lines = [f"coordinator {running.label} listening on {running.url}", f"replication policy: {policy}"]
    if settings.public_url:
        lines.append(f"public url: {settings.public_url}")
    if has_peers and (own := settings.announced(settings.port)) is not None:
        lines.append(f"announced to other coordinators as {own}")
    for line in lines:
        print(f"[skyclaw] {line}", flush=True)  # noqa: T201  # for whoever started it

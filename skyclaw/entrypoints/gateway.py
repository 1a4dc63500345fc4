"""The gateway process: a list of starts and, reversed, of stops."""

import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from actors.gateway_looks import Looks
from actors.gateway_probes import HealthCheck, Probers
from actors.gateway_refresh import RefreshLoop
from actors.gateway_router import GatewayRouter, Probing, heed
from actors.host_loops import host_clock
from actors.ticker import Ticker
from api.gateway import GatewayParts, create_gateway
from skyclaw.entrypoints.actor_address import Address
from skyclaw.entrypoints.gateway_configs import traefik
from skyclaw.entrypoints.gateway_settings import GatewaySettings
from skyclaw.entrypoints.relaying import relay_server
from skyclaw.entrypoints.serve import Server, listen
from skyclaw.entrypoints.signals import StopSignals
from skyclaw.errors import AddressUnusable, StartRefused
from skyclaw.outside.coordinators import Coordinators
from skyclaw.outside.cpus import stay_on_one_cpu
from skyclaw.outside.processes import hide_from_jobs
from skyclaw.outside.upstream_limits import GatewayLimits
from skyclaw.services.routing import Backends, Notice, Rules, State

logger = logging.getLogger(__name__)

FIRST_ROUTES_S = 2.0  # a gateway that just started waits so long for its first routes before it answers
DRAIN_S = 30.0  # for running requests, when it is stopped
EVENTS_DRAIN_S = 3.0  # for event streams, most of which have no end: their clients look for another gateway then
TICK_S = LOOK_S = 0.1
STOPPED_AT_ONCE = 130


@dataclass(frozen=True)
class RunningGateway:
    """A gateway that answers requests; `failed` is set when it cannot go on."""

    url: str
    failed: threading.Event
    _server: Server = field(repr=False)
    _end_events: Callable[[], None] = field(repr=False)
    _stops: ExitStack = field(repr=False)

    def drain(self, within_s: float = DRAIN_S) -> threading.Event:
        """Accept nothing more, and end event streams soon; what is returned is set when no request is left, or the time is over."""
        logger.info("gateway_draining")
        drained = threading.Event()

        def drain() -> None:
            self._server.stop(within_s)
            drained.set()

        def end_events() -> None:
            pause_s = EVENTS_DRAIN_S
            while not drained.wait(pause_s):
                self._end_events()
                pause_s = LOOK_S

        for task in (drain, end_events):
            threading.Thread(target=task, name=f"gateway-{task.__name__}", daemon=True).start()
        return drained

    def stop(self) -> None:
        """Be gone; who did not drain it before loses the requests that run."""
        self._stops.close()


def open_listener(settings: GatewaySettings) -> socket.socket:
    """Listen where the settings say; raises StartRefused."""
    try:
        return listen(settings.host, settings.port)
    except AddressUnusable as error:
        raise StartRefused(f"{error}; SKYCLAW_GATEWAY_HOST and SKYCLAW_GATEWAY_PORT name another") from None


def start_gateway(settings: GatewaySettings, listener: socket.socket) -> RunningGateway:
    """Learn the routes, if a coordinator answers soon, and serve."""
    failed, router = threading.Event(), Address()
    with ExitStack() as stops:
        token = next(iter(settings.tokens), None)
        coordinators, each = Coordinators(settings.urls, token), [Coordinators([url], token) for url in settings.urls]
        for asked in (coordinators, *each):
            stops.callback(asked.close)
        looks = Looks()
        refresh = RefreshLoop(coordinators, settings.refresh_ms, router.tell, each, looks=looks)

        def notice(noticed: Notice) -> None:
            heed(noticed, refresh.nudge)

        backends = Backends(host_clock, threading.Lock(), _rules(settings), notice)
        probers = Probers(HealthCheck(settings.probe_timeout_ms / 1000, settings.ca_file), router.tell)
        probing = Probing(settings.probe_ms, settings.health_path, settings.own_health_path is not None)
        router.actor = GatewayRouter.start(backends, probing, probers.order, host_clock, lambda _: failed.set(), looks=looks)
        stops.callback(router.actor.stop, timeout=1.0)
        for part in (probers, refresh, Ticker(router.tell, TICK_S, "gateway-ticker")):
            part.start()
            stops.callback(part.stop)
        refresh.tried.wait(FIRST_ROUTES_S)
        application = create_gateway(_parts(settings, backends, looks))
        stops.callback(application.close)
        server = relay_server(application, settings.host, settings.port, listener=listener)
        server.start()
        stops.callback(server.stop, 0.0)
        return RunningGateway(f"http://{settings.host}:{server.port}", failed, server, application.end_events, stops.pop_all())


def run_gateway(settings: GatewaySettings) -> int:
    """Be a gateway until a signal says otherwise: the first lets running requests finish, the second does not. Returns the exit code."""
    hide_from_jobs()  # a host on this machine may run jobs as the same user
    listener = open_listener(settings)
    signals = StopSignals()
    if settings.one_cpu:
        stay_on_one_cpu(os.getpid())
    running = start_gateway(settings, listener)
    try:
        announce(settings, listener)
        signals.wait(running.failed)
        if not running.failed.is_set():
            signals.wait(running.drain(), running.failed)
    finally:
        running.stop()
    if running.failed.is_set():
        return 1
    return STOPPED_AT_ONCE if signals.count > 1 else 0


def announce(settings: GatewaySettings, listener: socket.socket) -> None:
    """Tell whoever started it where it listens."""
    print(f"[skyclaw] gateway listening on http://{settings.host}:{listener.getsockname()[1]}", flush=True)  # noqa: T201


def _rules(settings: GatewaySettings) -> Rules:
    return Rules(settings.cooldown_ms, per_backend=settings.per_instance, per_service=settings.per_service)


def _limits(settings: GatewaySettings) -> GatewayLimits:
    usual, answer_s = GatewayLimits(), settings.answer_ms / 1000
    return replace(usual, header_s=answer_s, patience_s=min(usual.patience_s, answer_s / 2), answer_s=max(usual.answer_s, answer_s))


def _parts(settings: GatewaySettings, backends: Backends, looks: Looks) -> GatewayParts:
    return GatewayParts(
        backends=backends,
        retries=settings.retries,
        await_route=lambda key: looks.wait(lambda: backends.knows(key)),
        limits=_limits(settings),
        health=lambda: _health(backends),
        traefik=lambda: traefik(backends.routes, settings),
        ca_file=settings.ca_file,
        secrets=settings.tokens,
    )


def _health(backends: Backends) -> dict[str, Any]:
    """A gateway works without any service, and while no coordinator answers; but not before it has heard of the services once."""
    seen = backends.look()
    ejected = sum(one.state is State.EJECTED for one in seen)
    return {
        "ok": backends.has_table,
        "services": backends.keys(),
        "backends": {"known": len(seen), "ejected": ejected, "skipped": backends.skipped},
    }

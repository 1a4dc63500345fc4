"""The part of a host that runs services: what it is made with, and a list of starts."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.host_loops import Tell, host_clock
from actors.service_board import ServiceBoard
from actors.service_bundles import BundleStock
from actors.service_helpers import ServiceHelpers
from actors.service_supervisor import ServiceSupervisor
from actors.service_syncs import PulseLoop, SyncLoop
from actors.service_work import ServiceWork
from skyclaw.entrypoints import host_means
from skyclaw.entrypoints.actor_address import Address
from skyclaw.entrypoints.settings import HostSettings
from skyclaw.hosting.payloads import Means
from skyclaw.outside.coordinators import Coordinators
from skyclaw.outside.processes import Executor
from skyclaw.outside.service_folders import ServiceFolders

SUPERVISOR_ENDS_S = 2.0


@dataclass(frozen=True)
class ServiceParts:
    """What there is before the host is registered. `most` instances are taken."""

    most: int
    base_url: str | None
    executor: Executor
    helpers: ServiceHelpers
    supervisor: Address
    coordinators: Coordinators


@dataclass(frozen=True)
class RunningServices:
    """`hear` takes the answers to claims and heartbeats."""

    hear: Callable[[Mapping[str, Any]], None]
    supervisor: Address = field(repr=False)


def service_parts(settings: HostSettings, slot: Path, coordinators: Coordinators) -> ServiceParts:
    """Make what runs services; no process and no thread is started before there is one. Raises StartRefused."""
    supervisor = Address()
    executor = Executor(
        host_means.work_parent(settings, slot),
        host_means.service_limits(settings),
        host_means.level(settings),
        supervisor.tell,
        settings.job_user,
    )
    folders = ServiceFolders(host_means.service_parent(settings, slot), settings.job_user)
    stock, begin = BundleStock(slot / "bundles", coordinators), host_means.first_port_of(settings, slot)
    helpers = ServiceHelpers(executor, folders, stock, settings.service_base_port, begin, supervisor.tell)
    return ServiceParts(settings.services, settings.service_base_url, executor, helpers, supervisor, coordinators)


def start_services(
    parts: ServiceParts,
    host_id: str,
    means: Means,
    say: Callable[[str], None],
    on_idle: Callable[[], None],
    broken: Callable[[str], None],
    tell_agent: Tell,
    stops: ExitStack,
) -> RunningServices:
    """Take and run the services that the coordinators want here; `on_idle` hears when the host leaves and none is left."""
    board, tell = ServiceBoard(), parts.supervisor.tell
    stops.callback(parts.helpers.stop)
    stops.callback(parts.executor.stop)
    work = ServiceWork(means, parts.most, os.getcwd(), parts.helpers, board, say)
    parts.supervisor.actor = ServiceSupervisor.start(work, host_clock, on_idle, broken)
    stops.callback(parts.supervisor.actor.stop, timeout=SUPERVISOR_ENDS_S)
    syncs = SyncLoop(parts.coordinators, host_id, board, parts.base_url, tell, tell_agent)
    for loop in (syncs, PulseLoop(board, tell)):
        loop.start()
        stops.callback(loop.stop)
    return RunningServices(syncs.hear, parts.supervisor)

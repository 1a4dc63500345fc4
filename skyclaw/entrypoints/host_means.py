"""From a host's settings, and from what is installed on its machine, to what its parts are made with."""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from actors.host_config import HostConfig
from skyclaw.entrypoints.settings import HostSettings
from skyclaw.hosting.payloads import Means
from skyclaw.outside.processes import Limits
from skyclaw.trust.command_policy import CommandPolicy, CommandRefused, look_up

logger = logging.getLogger(__name__)

SERVICE_HOST = "service-host"  # the capability to run services
PORTS_FOR_ALL = 960  # of the hosts of a machine
SERVICE_FILES = 4_096  # which an instance may have open, connections included


def means(settings: HostSettings) -> Means:
    """What jobs may run; says in the log what is missing, and what makes the list of commands no boundary. Raises SettingsWrong."""
    policy = look_up(settings.allowed_commands, shutil.which, os.path.realpath, map(str, settings.work_roots))
    if policy.missing:
        logger.warning("commands_missing commands=%s", ",".join(policy.missing))
    if policy.interpreters:
        logger.info(
            "commands_no_boundary commands=%s isolation=%s what these run is not limited by the list of allowed commands",
            ",".join(policy.interpreters),
            level(settings),
        )
    if os.getuid() == 0 and settings.job_user is None:
        logger.warning("jobs_run_as_root they can read what every process here knows; set SKYCLAW_JOB_USER to a user of their own")
    return Means(policy, settings.openclaw_command, settings.automaton_command, settings.timeout_ms, settings.max_timeout_ms)


def config(settings: HostSettings, policy: CommandPolicy) -> HostConfig:
    """What the host tells of itself."""
    return HostConfig(
        name=settings.name,
        capabilities=tuple(_capabilities(settings, policy)),
        labels={"isolation": level(settings), "services": str(settings.services)},
        max_parallel=settings.max_parallel,
        poll_ms=settings.poll_ms,
        heartbeat_ms=settings.heartbeat_ms,
        grace_ms=settings.grace_ms,
        max_output_bytes=settings.max_output_bytes,
    )


def level(settings: HostSettings) -> str:
    """The isolation level: `auto` means `process` among those who know each other."""
    return "process" if settings.isolation == "auto" else settings.isolation


def limits(settings: HostSettings) -> Limits:
    """What each job may use."""
    return Limits(parallel=settings.max_parallel)


def service_limits(settings: HostSettings) -> Limits:
    """What each instance of a service may use: as a job, but with more connections.

    Its processes are counted together with those of all jobs, also of jobs that begin long after it, so there is room for these.
    """
    return Limits(parallel=settings.services + settings.max_parallel, files=SERVICE_FILES)


def work_parent(settings: HostSettings, slot: Path) -> Path:
    """Where jobs' directories are made: in the host's own slot, or, for another user's jobs, where that user can get to."""
    if settings.job_user is None:
        return slot / "work"
    return Path(tempfile.gettempdir()) / f"skyclaw-{hashlib.sha256(bytes(slot.absolute())).hexdigest()[:16]}"


def service_parent(settings: HostSettings, slot: Path) -> Path:
    """Where the folders of services' instances are made: in the host's own slot, or where another user can get to."""
    return slot / "services" if settings.job_user is None else Path(f"{work_parent(settings, slot)}-services")


def first_port_of(settings: HostSettings, slot: Path) -> int:
    """Where among the ports for services this host begins to look for a free one: each host of a machine has some of its own."""
    return int(slot.name) * settings.services % PORTS_FOR_ALL


def _capabilities(settings: HostSettings, policy: CommandPolicy) -> Iterator[str]:
    """The configured ones, without those whose command this host cannot run; and whether it runs services, whatever is configured."""
    if settings.services:
        yield SERVICE_HOST
    commands = {"openclaw": settings.openclaw_command, "automaton": settings.automaton_command}
    for name in settings.capabilities:
        if name == SERVICE_HOST:
            continue
        try:
            if name in commands:
                policy.path_of(commands[name])
        except CommandRefused as refusal:
            logger.warning("capability_missing capability=%s cause=%s", name, refusal)
        else:
            yield name

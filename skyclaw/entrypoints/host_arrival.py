"""How a host arrives: its state directory, what it left undelivered, and its registration."""

import logging
import random
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from actors.host_boxes import Outbox
from actors.host_config import HostConfig
from actors.host_heartbeats import register
from actors.host_loops import host_clock
from actors.host_messages import Report
from skyclaw.entrypoints import host_means
from skyclaw.entrypoints.actor_address import Address
from skyclaw.entrypoints.host_services import ServiceParts, service_parts
from skyclaw.entrypoints.settings import HostSettings
from skyclaw.errors import NotACoordinator, ServerRefused, Unreachable
from skyclaw.hosting.held_leases import Lease
from skyclaw.hosting.pacing import Backoff, Rhythm
from skyclaw.hosting.payloads import Means
from skyclaw.outside.coordinators import Coordinators
from skyclaw.outside.host_slot import take_slot
from skyclaw.outside.kept_results import KeptResults
from skyclaw.outside.processes import Executor, hide_from_jobs

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arrived:
    """A host that is registered, but takes no jobs yet."""

    id: str
    means: Means
    config: HostConfig
    coordinators: Coordinators
    kept: KeptResults
    outbox: Outbox
    rhythm: Rhythm
    executor: Executor
    agent: Address
    services: ServiceParts | None
    stops: ExitStack


def arrive(settings: HostSettings) -> Arrived:
    """Take a slot and register as who had it before, holding the leases of the results it left, which are to be delivered again."""
    with ExitStack() as stops:
        hide_from_jobs()
        slot = take_slot(settings.home, settings.host_id)
        stops.callback(slot.release)
        means = host_means.means(settings)
        config = host_means.config(settings, means.policy)
        agent = Address()
        executor = Executor(
            host_means.work_parent(settings, slot.path),
            host_means.limits(settings),
            host_means.level(settings),
            agent.tell,
            settings.job_user,
        )
        coordinators = Coordinators(settings.urls, settings.token)
        stops.callback(coordinators.close)
        services = service_parts(settings, slot.path, coordinators) if settings.services else None
        kept, outbox, known_id = KeptResults(slot.results), Outbox(), settings.host_id or slot.host_id
        _put_left_over(kept, outbox, known_id)
        answer = _register_until_answered(coordinators, config, known_id, tuple(report.lease for report in outbox.reports()))
        host_id, rhythm = _id_in(answer, coordinators), Rhythm(config.heartbeat_ms, host_clock())
        slot.remember(host_id, chosen=settings.host_id is not None)
        if isinstance(wanted := answer.get("heartbeatMs"), int):
            rhythm.ask(wanted)
        return Arrived(host_id, means, config, coordinators, kept, outbox, rhythm, executor, agent, services, stops.pop_all())


def _id_in(answer: dict[str, Any], coordinators: Coordinators) -> str:
    """The id that the host was registered under; raises NotACoordinator for an answer that has none."""
    host = answer.get("host")
    if not isinstance(host, dict) or not isinstance(host.get("id"), str):
        raise NotACoordinator(coordinators.urls[0])
    return str(host["id"])


def _put_left_over(kept: KeptResults, outbox: Outbox, host_id: str | None) -> None:
    """What a former life of this host could not deliver is on its way again."""
    for number, left in enumerate(kept.all()):
        if left.host_id == host_id:
            outbox.put(Report(f"left-{number}", Lease(left.job_id, left.lease_token), left.lease_ms, left.kind, left.result))
        else:
            logger.warning("kept_result_foreign job=%s host=%s", left.job_id, left.host_id)
            kept.forget(left.job_id, left.lease_token)


def _register_until_answered(
    coordinators: Coordinators, config: HostConfig, host_id: str | None, leases: tuple[Lease, ...]
) -> dict[str, Any]:
    """Coordinator and host may be started together: wait for it. What it refuses is not asked again."""
    backoff, trouble = Backoff(random.random, first_s=0.2), ""
    key = None if host_id else f"register-{uuid.uuid4().hex}"
    while True:
        try:
            return register(coordinators, config, host_id, leases, key)
        except (Unreachable, ServerRefused) as error:
            refusal = error if isinstance(error, ServerRefused) else None
            if refusal and refusal.status < 500 and refusal.status != 429:
                raise
            if str(error) != trouble:
                logger.warning("host_not_registered_yet cause=%s", error)
                trouble = str(error)
            time.sleep(backoff.pause((refusal.retry_after or 0.0) if refusal else 0.0))

"""Why a service is as it is, in words, host by host."""

from collections.abc import Mapping

from skyclaw.services import placing
from skyclaw.services.placing import HostView
from skyclaw.services.service import FAILED, LOST, ROLLING, RUNNING, UNCLAIMED, Service

HAPPENED = {FAILED: "it failed there", LOST: "it was lost there", UNCLAIMED: "it was not taken up there"}

REFUSALS = ("command not allowed: ", "cwd not allowed: ")  # how the errors of hosts begin that will not start it, however often it is tried

Fits = dict[str, tuple[bool, str]]


def explain(service: Service, hosts: Mapping[str, HostView], now: int) -> tuple[tuple[str, ...], Fits]:
    """The reasons, and for each host, by id, whether it could take another instance now (ms), and why (not)."""
    fresh = {host.id for host in hosts.values() if placing.obstacle(service, host) is None and service.failure_on(host.id, now) is None}
    fits = {host.id: _fit(service, host, bool(fresh), now) for host in hosts.values()}
    return (*_instances(service, hosts), *_rollout(service), *_waiting(service, hosts, fits, now)), fits


def _fit(service: Service, host: HostView, others: bool, now: int) -> tuple[bool, str]:
    obstacle = placing.obstacle(service, host)
    if obstacle is not None:
        return False, obstacle
    failure = service.failure_on(host.id, now)
    if failure is None:
        return True, "could run it"
    if failure.revision == service.target and failure.error and failure.error.startswith(REFUSALS):
        return False, failure.error
    happened = f"{(now - failure.at) // 1000} s ago {HAPPENED[failure.reason]}{_because(failure.error)}"
    return True, f"could run it, but others are preferred: {happened}" if others else f"could run it, although {happened}"


def _instances(service: Service, hosts: Mapping[str, HostView]) -> list[str]:
    """How many there are, and what those do that are not running."""
    live, draining = service.live, len(service.instances) - len(service.live)
    running = sum(instance.status == RUNNING for instance in live)
    if service.wanted:
        reasons = [f"{running} of {service.wanted} instances {'is' if running == 1 else 'are'} running"]
    else:
        reasons = ["it has been removed" if service.removed else "it is stopped"]
    for instance in live:
        if instance.status != RUNNING:
            host = hosts.get(instance.host_id)
            again = "being started" if instance.running_since is None else "being restarted"
            reasons.append(f"an instance is {again} on {host.name if host else instance.host_id}{_because(instance.error)}")
    if draining:
        reasons.append(f"{draining} {'instance is' if draining == 1 else 'instances are'} about to end")
    return reasons


def _rollout(service: Service) -> list[str]:
    newest = service.newest
    if newest.state == FAILED:
        stays = f"; revision {service.good} stays" if service.target != newest.number else ""
        return [f"revision {newest.number} failed{_because(newest.reason)}{stays}"]
    if newest.state == ROLLING and service.good and service.wanted:
        return [f"revision {newest.number} is to take the place of revision {service.good}"]
    return []


def _waiting(service: Service, hosts: Mapping[str, HostView], fits: Fits, now: int) -> list[str]:
    """Why no instance is placed although one more is wanted, and what came of the former ones."""
    present = service.present
    leaving = {host.id for host in hosts.values() if host.mode == placing.DRAINING}
    if sum(one.revision == service.target and one.host_id not in leaving for one in service.live) >= service.wanted:
        return _failures(service)
    if present.retry_at > now:
        reasons = [f"waits {-(-(present.retry_at - now) // 1000)} s more after its last failure{_because(present.error)}"]
    else:
        reasons = _failures(service)
    offered = frozenset[str]().union(*(host.capabilities for host in hosts.values()))
    nobody = [name for name in present.asked.required if name not in offered]
    if not hosts:
        reasons.append("no host is known; start one with: skyclaw host")
    elif nobody:
        reasons.append(f"no host has {', '.join(nobody)}")
    elif not any(can for can, _ in fits.values()):
        reasons.append("no host that could run it takes another instance now")
    return reasons


def _failures(service: Service) -> list[str]:
    """What has become of the instances before those that are there now."""
    number, error = service.present.in_a_row, service.present.error
    if not number or not service.wanted:
        return []
    return [f"{'the instance' if number == 1 else f'{number} instances'} before failed{_because(error)}"]


def _because(error: str | None) -> str:
    return f": {error}" if error else ""

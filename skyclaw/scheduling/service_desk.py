"""What may be asked about services. Each function decides, lets the events happen in the turn of the service's log, and returns the answer.

1. A new service belongs to the log that `Books.service_home` says; a name that is known in any log is another revision of that service.
2. Of two services with one name (their logs did not know each other yet) the oldest owns it; the other one is still found by its id.
3. After each change, and whenever time has passed, the service is reconciled: instances are placed and drained until it is as wanted.
4. Questions are answered from copies, too; whoever would change a log that another coordinator decides for gets NotOwner.
5. A new revision carries the idempotency key of its request: whoever takes the log over in the middle of a turn has both or neither.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from skyclaw import events as ev
from skyclaw.answers import HostFit, ServiceExplained, ServiceSeen, ServicesSeen
from skyclaw.commands import (
    Command,
    Deploy,
    ExplainService,
    FindService,
    ListServices,
    RemoveService,
    RestartService,
    Rollback,
    Scale,
    StopService,
)
from skyclaw.errors import Refused
from skyclaw.ids import new_instance_id, new_service_id
from skyclaw.scheduling.host_views import views
from skyclaw.scheduling.turn import Book
from skyclaw.scheduling.turns import Turns
from skyclaw.services import deployments, explaining, reconciling
from skyclaw.services.placing import HostView
from skyclaw.services.service import Service


def deploy(turns: Turns, asked: Deploy) -> ServiceSeen:
    """Give a service a new revision, or make it. Raises UnknownService for an id, Refused for another one's name."""
    books = turns.books
    owner = books.named(asked.name)
    known = owner if asked.service_id is None else books.service(asked.service_id)
    if known is not None and owner is not None and owner.id != known.id and asked.name != known.name:
        raise Refused(f"the name {asked.name} belongs to service {owner.id}")
    book = turns.about = books.require(books.service_home() if known is None else books.of(known.id))
    service_id = new_service_id(book.log) if known is None else known.id
    return change(turns, service_id, _keyed(asked, deployments.deploy(known, asked, service_id)))


def scale(turns: Turns, asked: Scale) -> ServiceSeen:
    """Want so many instances. Raises UnknownService."""
    service = own(turns, asked.service)
    return change(turns, service.id, deployments.scale(service, asked.replicas))


def stop(turns: Turns, asked: StopService) -> ServiceSeen:
    """Want no instance for now. Raises UnknownService."""
    service = own(turns, asked.service)
    return change(turns, service.id, deployments.stop(service))


def restart(turns: Turns, asked: RestartService) -> ServiceSeen:
    """Want fresh instances. Raises UnknownService."""
    service = own(turns, asked.service)
    return change(turns, service.id, _keyed(asked, deployments.restart(service)))


def rollback(turns: Turns, asked: Rollback) -> ServiceSeen:
    """Want what a former revision was. Raises UnknownService, and Refused when there is no such revision."""
    service = own(turns, asked.service)
    return change(turns, service.id, _keyed(asked, deployments.rollback(service, asked.revision)))


def remove(turns: Turns, asked: RemoveService) -> ServiceSeen:
    """Want the service no more. Raises UnknownService."""
    service = own(turns, asked.service)
    return change(turns, service.id, deployments.remove(service))


def find(turns: Turns, asked: FindService) -> ServiceSeen:
    """One service. Raises UnknownService, and NotOwner for one that a copy does not know."""
    service = turns.books.service(asked.service)
    turns.about = turns.books.of(service.id)
    return ServiceSeen(service)


def list_all(turns: Turns, _asked: ListServices) -> ServicesSeen:
    """All services."""
    return ServicesSeen(tuple(turns.books.services()))


def explain(turns: Turns, asked: ExplainService) -> ServiceExplained:
    """Why a service is as it is. Raises as `find`."""
    service = turns.books.service(asked.service)
    turns.about = turns.books.of(service.id)
    hosts = views(turns.books, turns.now)
    reasons, fits = explaining.explain(service, hosts, turns.now)
    return ServiceExplained(service, reasons, tuple(HostFit(host_id, hosts[host_id].name, *fit) for host_id, fit in fits.items()))


def own(turns: Turns, service: str) -> Service:
    """A service that is decided for here, which the answer is about; raises UnknownService, NotOwner."""
    found = turns.books.service(service)
    turns.about = turns.books.require(turns.books.of(found.id))
    return found


def change(turns: Turns, service_id: str, events: Iterable[ev.Event]) -> ServiceSeen:
    """Let something happen to a service that is decided for here, and what follows from it; the answer is how it is then, or was last."""
    book = turns.books.of(service_id)
    turns.of(book).emit(events)
    return ServiceSeen(reconcile(turns, book.state.services[service_id], views(turns.books, turns.now)))


def reconcile(turns: Turns, service: Service, hosts: Mapping[str, HostView]) -> Service:
    """Place and drain instances of a service that is decided for here, as it is wanted now; returns what has become of it, at last."""
    book = turns.books.of(service.id)
    turn, services = turns.of(book), book.state.services
    for event in reconciling.reconcile(service, hosts, turns.now, lambda: new_instance_id(book.log)):
        turn.emit([event])
        service = services.get(service.id, service)
    return service


def _keyed(asked: Command, events: Iterable[ev.Event]) -> list[ev.Event]:
    """The events, deployments among them with the key of the request."""
    key = asked.keyed
    if key is None:
        return list(events)
    return [
        replace(event, scope=key.scope, key=key.key, digest=key.digest) if isinstance(event, ev.ServiceDeployed) else event
        for event in events
    ]


def reap(turns: Turns, slept_ms: int = 0) -> int:
    """Time has passed: instances whose hosts were not heard of end, and every service is looked after; says how many have ended."""
    books, lost = turns.books, 0
    for book in books.owned if slept_ms else ():
        book.renewed.update({instance_id: min(since + slept_ms, turns.now) for instance_id, since in book.renewed.items()})
    services = [(book, service_id) for book in books.owned for service_id in book.state.services]
    if not services:
        return 0
    for book, service_id in services:
        lost += _expire(turns, book, service_id)
    hosts = views(books, turns.now)
    for book, service_id in services:
        service = book.state.services[service_id]
        if reconcile(turns, service, hosts) is not service:
            hosts = views(books, turns.now)
    return lost


def _expire(turns: Turns, book: Book, service_id: str) -> int:
    turn, services, until = turns.of(book), book.state.services, turns.now - turns.books.rules.service_lease_ms
    expired = [one for one in services[service_id].instances if book.renewed.setdefault(one.id, turns.now) <= until]
    for instance in expired:
        turn.emit(reconciling.expire(services[service_id], instance, turns.now))
    return len(expired)

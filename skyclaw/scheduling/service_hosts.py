"""What hosts say about the services that were placed on them, and what they are told. Each function decides and returns the answer.

1. A host may have instances in many logs, and asks any coordinator: whoever else decides is named in the answer.
2. A host that syncs or claims renews the leases of all its instances, as far as they are decided for here; a report renews its own one.
3. A host that names all its instances (`sync`) is told which of them it must stop. One that asks for one service after the other (`claim`)
   is given those that it has not taken up yet, and then each again in turn, so that it says again how it is.
"""

from collections.abc import Iterable

from skyclaw.answers import ServiceClaimed, ServiceSeen, Synced
from skyclaw.commands import ClaimService, InstanceNews, ReportService, SyncServices
from skyclaw.errors import NotAssigned
from skyclaw.ids import INSTANCE_ID
from skyclaw.scheduling import service_desk
from skyclaw.scheduling.books import TAG, Books
from skyclaw.scheduling.turn import Book
from skyclaw.scheduling.turns import Turns
from skyclaw.services import reconciling
from skyclaw.services.service import DRAINING, ENDED, PLACED, STARTING, Instance, Service

PENDING = "pending"  # what such a host calls starting


def claim(turns: Turns, asked: ClaimService) -> ServiceClaimed:
    """The next service for the host. Raises UnknownHost, and NotOwner when it is in a log that another coordinator decides for."""
    books, now = turns.books, turns.now
    host = books.host(asked.host_id)
    books.hear(host.id, now)
    _renew(books.instances(host.id, books.owned), now)
    among = books.owned if asked.forwarded else books.all
    mine = [one for one in books.instances(host.id, among) if one[2].status != DRAINING]
    if not mine:
        return ServiceClaimed(None)
    book, service, instance = min(mine, key=lambda one: (one[2].status != PLACED, books.claimed.get(one[2].id, 0), one[2].placed_at))
    books.claimed[instance.id] = now
    turns.about = books.require(book)
    if instance.status == PLACED:
        _tell(turns, book, service, InstanceNews(instance.id, STARTING))
    return ServiceClaimed(book.state.services[service.id], instance.id)


def report(turns: Turns, asked: ReportService) -> ServiceSeen:
    """How the host's instance of a service is. Raises UnknownHost, UnknownService, NotAssigned, NotOwner."""
    books = turns.books
    host = books.host(asked.host_id)
    books.hear(host.id, turns.now)
    service = service_desk.own(turns, asked.service)
    book = books.of(service.id)
    mine = [one for one in books.instances(host.id, [book]) if one[1] is service and one[2].status != DRAINING]
    if not mine:
        raise NotAssigned(f"service {asked.service} is not assigned to host {host.id}")
    _renew(mine, turns.now)
    status = STARTING if asked.status == PENDING else asked.status
    _tell(turns, book, service, InstanceNews(mine[-1][2].id, status, asked.endpoint, asked.error))
    return service_desk.change(turns, service.id, ())


def sync(turns: Turns, asked: SyncServices) -> Synced:
    """How all the host's instances are, and what it is to run. Raises UnknownHost."""
    books, now = turns.books, turns.now
    host = books.host(asked.host_id)
    books.hear(host.id, now)
    _renew(books.instances(host.id, books.owned), now)
    stop = []
    for news in asked.news:
        book = books.get(news.instance_id[TAG])
        if book is None or not book.epoch:
            continue
        service_id = book.state.placed.get(host.id, {}).get(news.instance_id)
        if service_id is not None:
            if _tell(turns, book, book.state.services[service_id], news):
                service_desk.change(turns, service_id, ())
        elif news.status != ENDED:
            stop.append(news.instance_id)
    wanted = tuple((service, instance) for _, service, instance in books.instances(host.id, books.owned))
    logs = tuple(sorted(book.log for book in books.owned))
    return Synced(
        wanted, tuple(stop), logs, _owners(books, host.id, asked.news), books.rules.service_lease_ms, books.services_digest(host.id)
    )


def _owners(books: Books, host_id: str, news: Iterable[InstanceNews]) -> tuple[str, ...]:
    """The logs that others decide for in which the host has instances, as far as known here, or says so."""
    logs = {book.log for book, _, _ in books.instances(host_id, books.all)}
    logs |= {one.instance_id[TAG] for one in news if INSTANCE_ID.fullmatch(one.instance_id)}
    return tuple(sorted(logs - {book.log for book in books.owned}))


def _renew(some: Iterable[tuple[Book, Service, Instance]], now: int) -> None:
    """Give these leases their full time again."""
    for book, _, instance in some:
        book.renewed[instance.id] = now


def _tell(turns: Turns, book: Book, service: Service, news: InstanceNews) -> bool:
    """Let a host's words about an instance have their effect; says whether they had any."""
    instance = service.instance(news.instance_id)
    assert instance is not None
    events = reconciling.take_news(service, instance, news, turns.now)
    turns.of(book).emit(events)
    return bool(events)

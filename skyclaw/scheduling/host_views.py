"""The hosts as far as services are concerned, drawn from all logs that are known here.

A host of ours says with a label how many instances it takes. One without it is of the TypeScript kind.
"""

from skyclaw.ids import NUMBER
from skyclaw.scheduling.books import Books
from skyclaw.scheduling.hosts import Host
from skyclaw.services.placing import HostView

LABEL = "services"  # of a host: the number of instances it takes
UNMANAGED_CAPACITY = 16


def views(books: Books, now: int) -> dict[str, HostView]:
    """Every known host."""
    return {host.id: _view(books, host, now) for host in books.hosts()}


def _view(books: Books, host: Host, now: int) -> HostView:
    said = dict(host.labels).get(LABEL)
    capacity = UNMANAGED_CAPACITY if said is None else _number(said)
    online, mode, instances = books.is_online(host, now), books.mode_of(host, now), books.count_instances(host.id)
    return HostView(host.id, host.name, online, mode, host.capabilities, capacity, said is not None, instances, host.updated_at)


def _number(said: str) -> int:
    return int(said) if NUMBER.fullmatch(said) else 0

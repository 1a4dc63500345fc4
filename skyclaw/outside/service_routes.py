"""What a coordinator's list of services means for a gateway: which backends each service has.

The list is another program's word. An endpoint counts only if it is an http or https address that a service can have: no user, query or
fragment, not an unspecified, multicast, link-local or metadata address, and this machine's loopback only when the coordinator is on this
machine too. A name must be known, and all its addresses must be such ones; to these addresses requests go, whatever the name means a moment
later. What does not count is left out, and counted.
"""

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from skyclaw.errors import Invalid
from skyclaw.outside import peer_addresses
from skyclaw.services.listings import Listed, Listing
from skyclaw.services.routing import Backend, Route

ID = re.compile(r"[\x21-\x2e\x30-\x7e]{1,128}")  # one segment of a path
PREFIX = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*")
HEALTH_PATH = re.compile(r"/[\x21-\x22\x24-\x7e]{0,1023}")
LONGEST = 2_048  # characters of an endpoint
ANYWHERE = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
THIS_MACHINE = "127.0.0.1"

Lookup = Callable[[Collection[str]], Mapping[str, Sequence[str]]]  # names -> the addresses of those that are known


@dataclass(frozen=True, slots=True)
class Found:
    """The services that have a backend, in the order of the list, and how many services and endpoints were left out."""

    routes: tuple[Route, ...]
    skipped: int


class _Bad(Exception):
    """This service or endpoint does not count."""


def read_listing(said: Mapping[str, Any], *, is_local: bool) -> Listing:
    """What `GET /v1/services` answered; `is_local`: by a coordinator on this machine. Raises Invalid when it is no list of services."""
    services = said.get("services")
    if not isinstance(services, list):
        raise Invalid("the coordinator's answer has no list of services")
    return [Listed(record, is_local) for record in services]


def read_routes(listing: Listing, find: Lookup) -> Found:
    """The routes to the listed services; `find` is asked once for all names of hosts."""
    written, skipped = list[tuple[Route, bool]](), 0
    for one in listing:
        try:
            route, bad = _route(one.record, one.is_local)
        except _Bad:
            skipped += 1
            continue
        skipped += bad
        written.append((route, one.is_local))
    names = {backend.host for route, _ in written for backend in route.backends if not _is_literal(backend.host)}
    known = find(names) if names else {}
    pinned = [_pinned(route, is_local, known) for route, is_local in written]
    skipped += sum(len(route.backends) for route, _ in written) - sum(len(route.backends) for route in pinned)
    return Found(tuple(route for route in pinned if route.backends), skipped)


def endpoint(text: str, *, is_local: bool) -> tuple[peer_addresses.PeerUrl, str]:
    """The origin and the path of a service's endpoint, the path without a slash at its end; raises Invalid."""
    if len(text) > LONGEST or not peer_addresses.SHAPE.fullmatch(text):
        raise Invalid("an endpoint has at most 2048 visible characters")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise Invalid("the endpoint cannot be read") from None
    prefix = parts.path.rstrip("/")
    if "?" in text or "#" in text or not PREFIX.fullmatch(prefix):
        raise Invalid("an endpoint has no query and no fragment, and a plain path")
    url = peer_addresses.parse(f"{parts.scheme}://{parts.netloc}")
    if url.host == "localhost" or url.host.endswith(".localhost"):
        peer_addresses.judge(THIS_MACHINE, THIS_MACHINE if is_local else None, ANYWHERE)
    elif _is_literal(url.host):
        peer_addresses.judge(url.host, THIS_MACHINE if is_local else None, ANYWHERE)
    return url, prefix


def is_this_machine(url: str, find: peer_addresses.Resolve = peer_addresses.resolve) -> bool:
    """Does this address of a coordinator lead to this machine, whatever name it has? Not, when the name is not known."""
    parts = urlsplit(url)
    try:
        found = find(parts.hostname or "", parts.port or peer_addresses.PORTS.get(parts.scheme, 80))
        return bool(found) and all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)
    except (OSError, ValueError):
        return False


def _route(record: object, is_local: bool) -> tuple[Route, int]:
    if not isinstance(record, dict) or not isinstance(assignments := record.get("assignments"), list):
        raise _Bad
    service_id, name = _word(record.get("id")), _word(record.get("name"))
    backends, bad = dict[str, Backend](), 0
    for assignment in _running(assignments):
        try:
            backend = _backend(service_id, assignment, is_local)
        except (_Bad, Invalid):
            bad += 1
        else:
            backends.setdefault(backend.id, backend)
    return Route(service_id, name, tuple(backends.values()), _health_path(record.get("health"))), bad


def _pinned(route: Route, is_local: bool, known: Mapping[str, Sequence[str]]) -> Route:
    """The route with the addresses of its backends, without those backends that must not be contacted there."""
    backends = []
    for backend in route.backends:
        if _is_literal(backend.host):
            backends.append(backend)
        elif _may_be_contacted(found := known.get(backend.host, ()), is_local):
            backends.append(replace(backend, addresses=tuple(found)))
    return replace(route, backends=tuple(backends))


def _may_be_contacted(addresses: Sequence[str], is_local: bool) -> bool:
    """Is there an address, and may every one be contacted?"""
    try:
        for address in addresses:
            peer_addresses.judge(address, THIS_MACHINE if is_local else None, ANYWHERE)
    except Invalid:
        return False
    return bool(addresses)


def _running(assignments: list[object]) -> Iterator[dict[str, Any]]:
    """Those that are to get requests and say where."""
    for assignment in assignments:
        if isinstance(assignment, dict) and assignment.get("status") == "running" and assignment.get("endpoint"):
            yield assignment


def _backend(service_id: str, assignment: Mapping[str, Any], is_local: bool) -> Backend:
    text = assignment["endpoint"]
    if not isinstance(text, str):
        raise _Bad
    url, prefix = endpoint(text, is_local=is_local)
    named = assignment.get("instanceId")
    instance_id = _word(named) if named is not None else f"{service_id} {_word(assignment.get('hostId'))} {url}{prefix}"
    return Backend(instance_id, f"{url}{prefix}", url.scheme, url.host, url.port, prefix)


def _word(value: object) -> str:
    """An id or a name, as it can stand in a path."""
    if not isinstance(value, str) or not ID.fullmatch(value):
        raise _Bad
    return value


def _health_path(health: object) -> str | None:
    path = health.get("path") if isinstance(health, dict) else None
    return path if isinstance(path, str) and HEALTH_PATH.fullmatch(path) else None


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

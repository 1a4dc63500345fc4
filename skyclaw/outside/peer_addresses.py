"""Which addresses of other coordinators may be contacted: an announced one is a stranger's wish, and must not lead us into a trap.

A name is resolved once; every address it has must be allowed, and it is these addresses that are connected to, whatever the name means a
moment later.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import urlsplit

from skyclaw.errors import Invalid

LONGEST = 2_048  # characters
PORTS = {"http": 80, "https": 443}
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
METADATA = tuple(map(ipaddress.ip_address, ("169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200")))
NAT64 = ipaddress.ip_network("64:ff9b::/96")
NAME = re.compile(r"(?=.{1,253}$)(?!-)[a-z0-9_-]{1,63}(\.(?!-)[a-z0-9_-]{1,63})*\.?")
SHAPE = re.compile(r"[\x21-\x7e]+")

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Sequence[str]]  # name, port -> addresses; raises OSError

DEFAULT_NETWORKS: tuple[Network, ...] = tuple(map(ipaddress.ip_network, PRIVATE))


class BadPeerUrl(Invalid):
    """This address cannot be that of a coordinator."""

    code = "bad_peer_url"


@dataclass(frozen=True, slots=True)
class PeerUrl:
    """An address in its parts; `host` is a name, or an IP address as it is usually written."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """Host and port as in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True)
class Pinned:
    """An address that may be contacted, at one of these IP addresses and nowhere else."""

    url: PeerUrl
    addresses: tuple[str, ...]


def resolve(host: str, port: int) -> list[str]:
    """The IP addresses of a name; raises OSError."""
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def parse(text: str) -> PeerUrl:
    """Read `scheme://host[:port][/]`; raises BadPeerUrl, also for an IP address in a disguise (`127.1`, `0x7f.1`, `[::ffff:10.0.0.1]`)."""
    if len(text) > LONGEST or not SHAPE.fullmatch(text) or "\\" in text:
        raise BadPeerUrl("an address of a coordinator is an http or https URL of at most 2048 visible characters")
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise BadPeerUrl("the address of a coordinator cannot be read") from None
    if parts.scheme not in PORTS or not host or port == 0:
        raise BadPeerUrl("the address of a coordinator must be like http://192.168.1.4:8787")
    if "@" in parts.netloc or "?" in text or "#" in text or parts.path not in ("", "/"):
        raise BadPeerUrl("the address of a coordinator has no user, path, query or fragment")
    return PeerUrl(parts.scheme, _host(host, "[" in parts.netloc), port or PORTS[parts.scheme])


def check(
    text: str, sender: str | None, networks: Iterable[Network] = DEFAULT_NETWORKS, find: Resolve = resolve, *, configured: bool = False
) -> Pinned:
    """The address, with the IP addresses to connect to; raises BadPeerUrl.

    `sender` is the IP address of whoever announced it, None when nobody did. What the operator `configured` is only resolved.
    """
    url = parse(text)
    try:
        found = tuple(find(url.host, url.port))
    except (OSError, UnicodeError):
        raise BadPeerUrl(f"the name {url.host} is not known") from None
    allowed = tuple(networks)
    for address in () if configured else found:
        judge(address, sender, allowed)
    if not found:
        raise BadPeerUrl(f"the name {url.host} has no address")
    return Pinned(url, found)


def check_literal(text: str, sender: str | None, networks: Iterable[Network] = DEFAULT_NETWORKS) -> PeerUrl:
    """As `check`, as far as it can be done without asking anybody: a name is not resolved. Raises BadPeerUrl."""
    url = parse(text)
    if _literal(url.host) is not None:
        judge(url.host, sender, tuple(networks))
    return url


def judge(address: str, sender: str | None, networks: Sequence[Network]) -> None:
    """Raises BadPeerUrl unless an announced IP address may be contacted."""
    ip = _meant(address)
    if ip.is_loopback:
        if sender is None or not _meant(sender).is_loopback:
            raise BadPeerUrl(f"{ip} is this machine, and whoever announced it is on another one")
    elif ip.is_unspecified or ip.is_multicast or ip.is_link_local or ip.is_reserved or ip in METADATA:
        raise BadPeerUrl(f"{ip} is no address of a coordinator")
    elif not ip.is_global and not any(ip in network for network in networks):
        raise BadPeerUrl(f"{ip} is in no network of SKYCLAW_PEER_CIDRS")


def local_address(urls: Sequence[str], listens_on: str, find: Resolve = resolve) -> str | None:
    """The own IP address on the way to these coordinators, the first that others can reach; None when no name is known, or no way.

    `listens_on` is an unspecified address: only ways of its family count, for `::` those of both. Nothing is sent.
    """
    found = [own for url in urls for own in _own_addresses(parse(url), listens_on, find)]
    return next((own for own in found if not _meant(own).is_loopback), found[0] if found else None)


def _own_addresses(url: PeerUrl, listens_on: str, find: Resolve) -> Iterator[str]:
    try:
        addresses = find(url.host, url.port)
    except (OSError, UnicodeError):
        return
    for address in addresses:
        if ":" in address and ":" not in listens_on:
            continue
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                sock.connect((address, url.port))
            except OSError:
                continue
            own = str(sock.getsockname()[0])
        if not _meant(own).is_link_local:
            yield own


def _meant(address: str) -> Address:
    """The address that is reached in the end, below whatever wraps it."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        raise BadPeerUrl(f"{address[:64]!a} is not an IP address") from None
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (IPv4Address(int(ip) & 0xFFFFFFFF) if ip in NAT64 or int(ip) >> 32 == 0 else None)
        if inner is not None and ip not in (IPv6Address("::1"), IPv6Address("::")):
            return inner
    return ip


def _host(host: str, bracketed: bool) -> str:
    """The host, checked; IP addresses in the one way of writing them that hides nothing."""
    ip = _literal(host)
    if ip is not None:
        if (isinstance(ip, IPv6Address) and (ip.ipv4_mapped is not None or ip.scope_id)) or bracketed != isinstance(ip, IPv6Address):
            raise BadPeerUrl("the IP address of a coordinator must be written plainly")
        return str(ip)
    if bracketed or not NAME.fullmatch(host) or _is_disguised(host):
        raise BadPeerUrl("the host of a coordinator must be a name or a plain IP address")
    return host.rstrip(".")


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_disguised(host: str) -> bool:
    """Would the system read this name as a number?"""
    last = host.rstrip(".").rpartition(".")[2]
    return last.isdecimal() or last.startswith("0x")

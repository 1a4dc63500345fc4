"""Free ports for services: tried out, because a table of ports in use is old as soon as it has been read."""

import errno
import socket
from collections.abc import Collection
from itertools import chain

from skyclaw.errors import SkyclawError

TRIED_BEYOND_FIRST = 1_000
_LAST_PORT = 65_535
_EVERYWHERE = ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))  # noqa: S104
_NO_SUCH_PROTOCOL = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)


class NoFreePort(SkyclawError):
    """No port is free for the service."""

    code = "no_free_port"


def free_port(first: int, taken: Collection[int], begin: int = 0) -> int:
    """A port from `first` on, and at most 1,000 beyond it, that is not `taken` and on which a service could listen now.

    It is the first one of these, or of those from the `begin`th on if one of them is free: who looks for ports at the same time begins
    elsewhere, because a port stays free until the service listens on it. It is tried on all addresses of IPv4 and, where this machine has
    it, of IPv6; a port whose last connections the kernel still remembers is not free. Raises NoFreePort.
    """
    last = min(first + TRIED_BEYOND_FIRST, _LAST_PORT)
    ports = range(first, last + 1)
    for port in chain(ports[begin:], ports[:begin]):
        if port not in taken and can_listen(port, reuse=False):
            return port
    raise NoFreePort(f"no port from {first} to {last} is free")


def can_listen(port: int, reuse: bool) -> bool:
    """Whether a server could listen on the port now: one that asks for its `reuse`, as most do, or one that does not.

    With it, connections of an earlier server there do not count that are not over yet or that the kernel still remembers.
    """
    return all(_can_be_bound(family, address, port, reuse) for family, address in _EVERYWHERE)


def _can_be_bound(family: socket.AddressFamily, address: str, port: int, reuse: bool) -> bool:
    """Whether nobody has the port; True also where there is no such protocol."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
            listener.bind((address, port))
    except OSError as error:
        return error.errno in _NO_SUCH_PROTOCOL
    return True

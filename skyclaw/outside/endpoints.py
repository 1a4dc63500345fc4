"""Where the services of a host are reached, as the coordinator that the host speaks to makes it out.

Requests of strangers are sent there, so it must not lead into a trap: the host's own machine is only meant when it is this machine, too.
"""

import ipaddress
from dataclasses import dataclass

from skyclaw.errors import Invalid
from skyclaw.outside.service_routes import endpoint

SHOWN = 128  # characters


class BadEndpoint(Invalid):
    """This address cannot be that of a service."""

    code = "bad_endpoint"


@dataclass(frozen=True, slots=True)
class Sender:
    """The IP address a host is seen at; None when another coordinator, which has looked at it, passes on what the host said."""

    address: str | None

    def at(self, port: int) -> str:
        """The address of what listens on that port there; raises BadEndpoint."""
        return self.check(f"http://{_host(self.address or '')}:{port}")

    def check(self, text: str) -> str:
        """The address that the host gives, without a slash at its end; raises BadEndpoint."""
        is_local = self.address is None or _ip(self.address).is_loopback
        try:
            url, prefix = endpoint(text, is_local=is_local)
        except Invalid:
            raise BadEndpoint(f"a service cannot be reached at {text[:SHOWN]}: it must be an address like http://10.0.0.5:3100") from None
        return f"{url}{prefix}"


def _host(address: str) -> str:
    """An IP address as it stands in a URL."""
    ip = _ip(address)
    return f"[{ip}]" if isinstance(ip, ipaddress.IPv6Address) else str(ip)


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IP address; one of IPv4 that came over IPv6 as what it is. Raises BadEndpoint."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        raise BadEndpoint("the address of the host is not known") from None
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip

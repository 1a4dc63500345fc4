"""Connecting to the first of several IP addresses that lets us."""

import socket
import time
from collections.abc import Sequence


def connect(addresses: Sequence[str], port: int, within_s: float) -> socket.socket:
    """A connection, whose every wait ends after what is left of the time; each address gets its share. Raises OSError."""
    ends = time.monotonic() + within_s
    failure: OSError | None = None
    for at, address in enumerate(addresses):
        share_s = max(0.001, ends - time.monotonic()) / (len(addresses) - at)
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.settimeout(share_s)
            sock.connect((address, port))
            sock.settimeout(max(0.001, ends - time.monotonic()))
        except OSError as error:
            sock.close()
            failure = failure or error
        else:
            return sock
    raise failure or OSError("it has no address")

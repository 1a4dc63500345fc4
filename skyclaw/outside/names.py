"""Looking up names of hosts without waiting for long: the system's way has no deadline, so a few threads go it.

1. An answer counts for a while, also that a name is not known. After that it is looked up again, and the former answer counts until then.
2. Only a name that nothing is known of is waited for.
3. When the lookup itself does not work, what was known still counts.
"""

import ipaddress
import socket
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from queue import SimpleQueue

from skyclaw.outside.peer_addresses import Resolve, resolve

THREADS = 4
WITHIN_S = 2.0  # for all names of one question together
KEPT_S = 10.0
FORGOTTEN_S = 60.0
MOST_NAMES = 1_000
NOT_KNOWN = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


@dataclass(slots=True)
class _Name:
    """What is known of a name; times are time.monotonic."""

    asked: float
    addresses: tuple[str, ...] = ()
    looked_up: float | None = None
    is_sought: bool = False


class Names:
    """Names and their addresses, for any thread. `resolve` is the system's way; times are seconds."""

    def __init__(self, resolve: Resolve = resolve, within_s: float = WITHIN_S, kept_s: float = KEPT_S) -> None:
        self._resolve, self._within_s, self._kept_s = resolve, within_s, kept_s
        self._names: dict[str, _Name] = {}
        self._changed = threading.Condition()
        self._sought: SimpleQueue[str | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def find(self, names: Collection[str]) -> Mapping[str, tuple[str, ...]]:
        """The addresses of those of these names that are known."""
        now, wanted = time.monotonic(), sorted(names)[:MOST_NAMES]
        with self._changed:
            for name in wanted:
                self._seek(name, now)
            self._changed.wait_for(lambda: all(self._names[name].looked_up is not None for name in wanted), self._within_s)
            found = {name: self._names[name].addresses for name in wanted}
            self._forget(now)
        return {name: addresses for name, addresses in found.items() if addresses}

    def resolve(self, host: str, _port: int) -> list[str]:
        """The addresses of one host, which may be an IP address itself; raises OSError."""
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            found = self.find([host]).get(host)
        if found is None:
            raise OSError(f"the name {host} is not known")
        return list(found)

    def stop(self) -> None:
        """Look up nothing more."""
        for _ in self._threads:
            self._sought.put(None)

    def _seek(self, name: str, now: float) -> None:
        known = self._names.setdefault(name, _Name(now))
        known.asked = now
        if known.is_sought or (known.looked_up is not None and now - known.looked_up < self._kept_s):
            return
        known.is_sought = True
        self._sought.put(name)
        if len(self._threads) < THREADS:
            self._threads.append(threading.Thread(target=self._work, name=f"names-{len(self._threads)}", daemon=True))
            self._threads[-1].start()

    def _forget(self, now: float) -> None:
        """Let go of the names that nobody asks for any more."""
        for name in [name for name, known in self._names.items() if now - known.asked > FORGOTTEN_S and not known.is_sought]:
            del self._names[name]

    def _work(self) -> None:
        while (name := self._sought.get()) is not None:
            addresses = self._looked_up(name)
            with self._changed:
                known = self._names[name]
                known.addresses = known.addresses if addresses is None else addresses
                known.looked_up, known.is_sought = time.monotonic(), False
                self._changed.notify_all()

    def _looked_up(self, name: str) -> tuple[str, ...] | None:
        """The addresses, none when the name is not known; None when nobody can tell."""
        try:
            return tuple(self._resolve(name, 0))
        except UnicodeError:
            return ()
        except OSError as error:
            return () if error.errno in NOT_KNOWN else None

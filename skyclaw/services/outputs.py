"""What instances have printed lately, in memory: the last bytes of each, at the coordinator that decides for its service.

1. Offsets count the bytes of all that an instance has printed since its start, as UTF-8; a host sends text that has as many bytes as what
   it stands for.
2. What comes twice is taken once. After a gap, only what comes after it is kept: what was lost is not asked for again.
3. An instance that is not known is not kept: `know` says which ones are, each time its host is heard of. FORGET_MS after the last time all
   of it is forgotten.
4. MOST_BYTES bound an instance, MOST_IN_ALL all of them: the one that has been silent for longest goes first.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

MOST_BYTES = 256 * 1024
MOST_IN_ALL = 64 * 1024 * 1024
FORGET_MS = 600_000
CONTINUING = bytes(range(0x80, 0xC0))  # the bytes of a character after its first one


@dataclass(frozen=True, slots=True)
class Source:
    """Whose output it is."""

    instance_id: str
    service_id: str
    host_id: str
    revision: int


@dataclass(frozen=True, slots=True)
class Printed:
    """A part of what an instance has printed: the bytes from `start` to `end`; the first one that is known may be a later one."""

    source: Source
    text: str
    start: int
    end: int


@dataclass(slots=True)
class _Ring:
    source: Source
    known_at: int
    start: int = 0
    kept: bytearray = field(default_factory=bytearray)

    @property
    def end(self) -> int:
        return self.start + len(self.kept)


class Outputs:
    """The latest output of all instances that were heard of lately. Times are ms. Not for several threads at once."""

    def __init__(self, most_bytes: int = MOST_BYTES, most_in_all: int = MOST_IN_ALL) -> None:
        self._most_bytes, self._most_in_all = most_bytes, most_in_all
        self._rings: dict[str, _Ring] = {}  # whoever printed last is the last
        self._bytes = 0

    def know(self, sources: Iterable[Source], now: int) -> None:
        """These instances live, as far as their host says."""
        for source in sources:
            ring = self._rings.get(source.instance_id)
            if ring is None:
                self._rings[source.instance_id] = _Ring(source, now)
            else:
                ring.known_at = now
        for instance_id in [one for one, ring in self._rings.items() if now - ring.known_at > FORGET_MS]:
            self._bytes -= len(self._rings.pop(instance_id).kept)

    def wanted(self, instance_id: str) -> int:
        """The offset of the next byte that is not known here."""
        ring = self._rings.get(instance_id)
        return ring.end if ring is not None else 0

    def put(self, instance_id: str, at: int, text: str) -> None:
        """An instance has printed this; `at` is the offset of its first byte."""
        ring = self._rings.get(instance_id)
        data = text.encode()
        if ring is None or not data or at + len(data) <= ring.end:
            return
        self._bytes -= len(ring.kept)
        if at > ring.end:
            ring.start, ring.kept = at, bytearray()
        ring.kept += data[ring.end - at :]
        surplus = max(0, len(ring.kept) - self._most_bytes)
        del ring.kept[:surplus]
        ring.start += surplus
        self._bytes += len(ring.kept)
        self._rings[instance_id] = self._rings.pop(instance_id)
        self._make_room()

    def of(self, service_id: str) -> list[Source]:
        """The instances of a service whose output is known, whoever printed last being the last."""
        return [ring.source for ring in self._rings.values() if ring.source.service_id == service_id]

    def read(self, instance_id: str, after: int | None, limit: int) -> Printed | None:
        """At most `limit` bytes from the offset `after` on, the last ones without it; None for an instance that is not known."""
        ring = self._rings.get(instance_id)
        if ring is None:
            return None
        start = max(ring.start, ring.end - limit if after is None else min(after, ring.end))
        part = bytes(ring.kept[start - ring.start :][:limit])
        if start != after:  # perhaps within a character
            rest = part.lstrip(CONTINUING)
            start, part = start + len(part) - len(rest), rest
        part = _whole(part)
        return Printed(ring.source, part.decode(errors="replace"), start, start + len(part))

    def _make_room(self) -> None:
        for ring in self._rings.values():
            if self._bytes <= self._most_in_all:
                return
            self._bytes -= len(ring.kept)
            ring.start, ring.kept = ring.end, bytearray()


def _whole(part: bytes) -> bytes:
    """Without the beginning of a character at its end."""
    for back in range(1, min(4, len(part) + 1)):
        byte = part[-back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return part[:-back] if back < length else part
        if byte < 0x80:
            break
    return part

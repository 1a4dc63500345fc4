"""Which services there are, when one coordinator may know less of them than was known before.

1. A coordinator that has just been started, that lost its disk, or that is cut off from the others lists what it knows, which may be old.
2. Its list is doubted when it lacks a known service, or has an older version of one. Then the others are asked, too.
3. About a service counts who decides for the log that it is in; when that one is not heard, who knows most of that log; of equals, who was
   asked first.
4. But only who decides takes something away: from anybody else, silence and an older version mean nothing, and what is known stays.
5. Of what stays, no instance counts whose endpoint somebody else is listed with by now.
6. Who has no logs, as coordinators of the TypeScript Skyclaw, is taken at its word.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skyclaw.scheduling.books import TAG


@dataclass(frozen=True, slots=True)
class Listed:
    """A service as it was listed, `is_local` by a coordinator on this machine."""

    record: Any
    is_local: bool

    @property
    def id(self) -> str | None:
        """Of the service; None for what is none."""
        found = self.record.get("id") if isinstance(self.record, dict) else None
        return found if isinstance(found, str) else None

    @property
    def version(self) -> int:
        """How often the service was changed; 0 when that is not told."""
        found = self.record.get("version")
        return found if isinstance(found, int) else 0

    @property
    def assignments(self) -> list[dict[str, Any]]:
        """Its instances."""
        found = self.record.get("assignments")
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


Listing = Sequence[Listed]


@dataclass(frozen=True, slots=True)
class LogSeen:
    """How far a coordinator knows a log, and whether it decides for it."""

    position: int
    decides: bool


@dataclass(frozen=True, slots=True)
class Word:
    """What one coordinator says: its list, and how it is about each log; None when it has no logs."""

    listing: Listing
    logs: Mapping[str, LogSeen] | None

    def weight(self, service_id: str) -> tuple[bool, float]:
        """Whether it decides about the service, and how much it knows of what happened to it."""
        if self.logs is None:
            return True, math.inf
        seen = self.logs.get(service_id[TAG])
        return (seen.decides, seen.position) if seen is not None else (False, 0)


def is_doubted(listing: Listing, known: Listing) -> bool:
    """Does the list lack something that is known?"""
    versions = {one.id: one.version for one in _services(listing)}
    return any(versions.get(one.id, -1) < one.version for one in _services(known))


def settle(words: Sequence[Word], known: Listing) -> Listing:
    """The services as those say who know them best, in the order in which they were listed first, and what stays behind them."""
    former = {one.id: one for one in _services(known)}
    said = [{one.id: one for one in _services(word.listing)} for word in words]
    listed, kept = list[Listed](), list[Listed]()
    for service_id in dict.fromkeys(one.id for listing in (*(word.listing for word in words), known) for one in _services(listing)):
        assert service_id is not None
        weights = [word.weight(service_id) for word in words]
        best = max(weights)
        one, before = said[weights.index(best)].get(service_id), former.get(service_id)
        if before is not None and not best[0] and (one is None or one.version < before.version):
            kept.append(before)
        elif one is not None:
            listed.append(one)
    taken = {assignment.get("endpoint") for one in listed for assignment in one.assignments}
    return [*listed, *(_without(one, taken) for one in kept)]


def _without(one: Listed, taken: set[Any]) -> Listed:
    """The service without the instances at these endpoints."""
    left = [assignment for assignment in one.assignments if assignment.get("endpoint") not in taken]
    return Listed({**one.record, "assignments": left}, one.is_local)


def _services(listing: Listing) -> Iterable[Listed]:
    return (one for one in listing if one.id is not None)

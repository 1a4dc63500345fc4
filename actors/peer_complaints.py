"""Which complaints about addresses that are not admitted stand in the log already."""

import logging
from collections.abc import Collection

from skyclaw.cluster.address_book import Hint

YOUNG_MS = 10_000  # that long an address may be that of a coordinator that only starts
MOST = 8  # complaints about one address


class Complaints:
    """Each reason is worth one line while the address is new, and one after that."""

    def __init__(self) -> None:
        self._made: dict[str, set[tuple[int, str]]] = {}

    def level(self, hint: Hint, reason: str, now: int) -> int | None:
        """The level at which to say that; None when it was said."""
        level = logging.INFO if now - hint.since < YOUNG_MS else logging.WARNING
        made = self._made.setdefault(hint.url, set())
        if (level, reason) in made or len(made) >= MOST:
            return None
        made.add((level, reason))
        return level

    def keep_only(self, urls: Collection[str]) -> None:
        """Whatever was said about other addresses may be said again."""
        for url in [url for url in self._made if url not in urls]:
            del self._made[url]

"""Which requests were answered before: idempotency keys, part of the replicated state.

A key is unique within its scope. Its entry remembers the request's digest, whom the answer was about and the position at which it was
given, so that the answer can be given again without repeating the effect.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

from skyclaw.commands import Keyed
from skyclaw.errors import IdempotencyConflict


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that was given: about `subjects`, as they were at position `seq`."""

    digest: str
    subjects: tuple[str, ...]
    seq: int
    at: int


Entry = tuple[tuple[str, str], Answered]  # (scope, key), what was answered


class Keys:
    """The keys in use, oldest first."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Answered] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.items())

    def find(self, keyed: Keyed) -> Answered | None:
        """The answer given before, or None; raises IdempotencyConflict when the request was another one."""
        entry = self._entries.get((keyed.scope, keyed.key))
        if entry is not None and entry.digest != keyed.digest:
            raise IdempotencyConflict(f"idempotency key reuse conflict for route {keyed.scope}")
        return entry

    def put(self, scope: str, key: str, entry: Answered) -> None:
        """Remember an answer."""
        self._entries[scope, key] = entry

    def drop(self, scope: str, key: str) -> None:
        """Forget one key."""
        self._entries.pop((scope, key), None)

    def oldest(self) -> int | None:
        """When the oldest key was used, ms."""
        return next((entry.at for entry in self._entries.values()), None)

    def prune(self, until: int) -> list[Entry]:
        """Forget the keys used at or before `until` (ms); returns them."""
        old = list(takewhile(lambda entry: entry[1].at <= until, self._entries.items()))
        for name, _ in old:
            del self._entries[name]
        return old

    def put_back(self, old: list[Entry]) -> None:
        """Remember again what has been pruned."""
        self._entries = {**dict(old), **self._entries}

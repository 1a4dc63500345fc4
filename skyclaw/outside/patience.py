"""How long a request that is refused for now is repeated, and what is told of it meanwhile."""

from collections.abc import Callable

from skyclaw.errors import ServerRefused

TOLD_AFTER_S = 2.0
LASTING_S = 5.0
LASTING = frozenset({"too_few_copies", "storage_readonly"})  # what passes only when somebody does something about it


class Patience:
    """The tries of one request, which may take `patience_s` together; `tell` hears each reason for waiting once."""

    def __init__(self, patience_s: float, clock: Callable[[], float], tell: Callable[[str], None] | None) -> None:
        self._clock, self._tell, self._began = clock, tell, clock()
        self._ends = self._began + patience_s
        self._lasting_since: float | None = None
        self._told = ""

    def allows(self, pause_s: float, refusal: ServerRefused) -> bool:
        """May it be tried again after this pause? Then the reason is told, if one would wait for it for longer than one likes to wonder."""
        after = self._clock() + pause_s
        if refusal.code not in LASTING:
            self._lasting_since = None
        elif self._lasting_since is None:
            self._lasting_since = self._clock()
        if after >= self._ends or (self._lasting_since is not None and after > self._lasting_since + LASTING_S):
            return False
        if self._tell is not None and after > self._began + TOLD_AFTER_S and refusal.error != self._told:
            self._told = refusal.error
            self._tell(refusal.error)
        return True

    def given_up(self, refusal: ServerRefused) -> ServerRefused:
        """The refusal that ends it, which says in its details how long was tried (`triedForS`), when that was long enough to be noticed."""
        tried = self._clock() - self._began
        if tried >= TOLD_AFTER_S:
            refusal.details["triedForS"] = round(tried)
        return refusal

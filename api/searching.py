"""How a claim finds its jobs when they may lie in logs that other coordinators decide for.

1. The queue here names the log with the best job, as far as its copies go. It is this coordinator's: the job is leased. It is another's:
   that one is asked, and may have given the job away meanwhile; then the next best log is looked for. MOST_ASKED are asked in one search.
2. When nothing was found and there is time left, the claim is parked here. News of a job wakes it, wherever the job is.
3. What came into the logs that were searched while they were being searched is no news: so after such a search the claim is parked for a
   short time only, and the search begins anew.
"""

import time
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from api.forwarding import Forwarding, Passing, accepted
from api.parts import Parts
from skyclaw.answers import Claimed, Repeated
from skyclaw.commands import Claim
from skyclaw.errors import NotOwner, Unavailable
from skyclaw.outside.peer_channel import PeerSilent, Reply

MOST_ASKED = 3
ANSWER_S = 4.0
AGAIN_MS = 1_000


@dataclass(frozen=True, slots=True)
class Found:
    """Jobs that another coordinator has leased to the host, and how it said so."""

    reply: Reply
    jobs: tuple[dict[str, Any], ...]


Answer: TypeAlias = Claimed | Repeated | Found


class Search:
    """One claim on its way."""

    def __init__(self, parts: Parts, forwarding: Forwarding, passing: Passing, claim: Claim) -> None:
        self._desk, self._cluster, self._forwarding, self._passing, self._claim = parts.desk, parts.cluster, forwarding, passing, claim
        self._ends = 0.0

    def here(self) -> Claimed | Repeated:
        """What this coordinator decides for has something, or nothing: it does not wait, and does not ask others."""
        return self._ask(self._of_others(), 0)

    def everywhere(self, wait_ms: int) -> Answer:
        """The best jobs there are, or come within this time."""
        self._ends = time.monotonic() + wait_ms / 1000
        skip: tuple[str, ...] = ()
        while True:
            park_ms = min(self._left_ms(), AGAIN_MS) if skip else self._left_ms()
            over = time.monotonic() + park_ms / 1000
            try:
                answer: Answer | None = self._ask(skip, park_ms)
            except NotOwner as elsewhere:
                answer, skip = self._elsewhere(elsewhere.log)
                if answer is None and self._left_ms() == 0:
                    answer = Claimed(())
            else:
                if skip and _is_empty(answer) and over <= time.monotonic() < self._ends:
                    answer, skip = None, ()
            if answer is not None:
                return answer

    def _left_ms(self) -> int:
        return max(0, round((self._ends - time.monotonic()) * 1000))

    def _ask(self, skip: tuple[str, ...], park_ms: int) -> Claimed | Repeated:
        """The answer of the queue here; raises NotOwner."""
        claim = replace(self._claim, skip=skip, park=park_ms > 0)
        answer: Claimed | Repeated = self._desk.ask_parked(claim, park_ms) if park_ms else self._desk.ask(claim)
        return answer

    def _elsewhere(self, log: str) -> tuple[Answer | None, tuple[str, ...]]:
        """Jobs from this log or the next best ones, or what else there is to be said at once; and the logs in which nothing was found."""
        skip: tuple[str, ...] = ()
        while log not in skip and len(skip) < MOST_ASKED:
            found = self._owners_answer(log)
            if found is not None:
                return found, skip
            skip = (*skip, log)
            try:
                answer = self._ask(skip, 0)
            except NotOwner as elsewhere:
                log = elsewhere.log
            else:
                return (None if _is_empty(answer) else answer), skip
        return None, tuple({*skip, *self._of_others()})

    def _owners_answer(self, log: str) -> Found | None:
        owner = self._cluster.owner(log)
        if owner is None or owner == self._cluster.node:
            return None
        try:
            reply = self._forwarding.send(self._passing, owner, ANSWER_S)
        except (PeerSilent, Unavailable):
            return None  # should it have leased something all the same, the host's next heartbeat ends the lease
        said = accepted(lambda: reply) or {}
        jobs = tuple(job for job in said.get("jobs") or () if isinstance(job, dict))
        return Found(reply, jobs) if jobs else None

    def _of_others(self) -> tuple[str, ...]:
        return tuple(log for log in self._cluster.logs() if self._cluster.owner(log) != self._cluster.node)


def _is_empty(answer: Answer | None) -> bool:
    """Does it bring nothing, and say nothing but that?"""
    return isinstance(answer, Claimed) and not answer.jobs and answer.reason in (None, "full") and not answer.crowded

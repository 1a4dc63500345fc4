"""Who waits: claims for a job, and watchers for a job's end. Bounded, because each of them holds a thread of the server."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import count

from skyclaw.commands import Claim
from skyclaw.scheduling.turn import Ticket


@dataclass(frozen=True, slots=True)
class Parked:
    """A claim that waits, and since which one of all it does."""

    ticket: Ticket
    claim: Claim
    turn: int


class Parking:
    """At most `places` waiting tickets; of the claims, at most one for each host."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._turns = count()
        self._claims: dict[frozenset[str], dict[str, Parked]] = {}  # capabilities -> host id -> claim, oldest first
        self._capabilities: dict[str, frozenset[str]] = {}  # host id -> where its claim is
        self._watchers: dict[str, list[Ticket]] = {}
        self._watching = 0

    def __len__(self) -> int:
        return len(self._capabilities) + self._watching

    @property
    def full(self) -> bool:
        """Is no place left?"""
        return len(self) >= self._places

    @property
    def claimants(self) -> Collection[str]:
        """The hosts whose claims wait."""
        return self._capabilities.keys()

    @property
    def watched(self) -> Collection[str]:
        """The jobs whose ends somebody waits for."""
        return self._watchers.keys()

    def close(self) -> None:
        """No place any more; who is there has to be taken out."""
        self._places = 0

    def clear(self) -> list[Ticket]:
        """Remove and return everybody."""
        claims = [parked.ticket for parked in map(self.take, list(self._capabilities)) if parked is not None]
        return claims + [ticket for job_id in list(self._watchers) for ticket in self.take_watchers(job_id)]

    def park(self, ticket: Ticket, claim: Claim, capabilities: frozenset[str]) -> None:
        """Let a claim wait; the caller has looked for a place and taken out the host's former claim."""
        self._claims.setdefault(capabilities, {})[claim.host_id] = Parked(ticket, claim, next(self._turns))
        self._capabilities[claim.host_id] = capabilities

    def waiting(self, host_ids: Iterable[str]) -> list[Parked]:
        """The claims of these hosts, the longest waiting first."""
        found = [parked for parked in map(self.of, host_ids) if parked is not None]
        return sorted(found, key=lambda parked: parked.turn)

    def of(self, host_id: str) -> Parked | None:
        """The claim of a host, which goes on waiting."""
        return self._claims[self._capabilities[host_id]][host_id] if host_id in self._capabilities else None

    def take(self, host_id: str) -> Parked | None:
        """Remove and return the claim of a host."""
        capabilities = self._capabilities.pop(host_id, None)
        if capabilities is None:
            return None
        same = self._claims[capabilities]
        parked = same.pop(host_id)
        if not same:
            del self._claims[capabilities]
        return parked

    def fitting(self, required: tuple[str, ...]) -> list[Parked]:
        """The claims that could take a job with these requirements, the longest waiting first."""
        return self.waiting(host_id for caps, same in self._claims.items() if caps.issuperset(required) for host_id in same)

    def watch(self, ticket: Ticket, job_id: str) -> None:
        """Let somebody wait for a job's end."""
        self._watchers.setdefault(job_id, []).append(ticket)
        self._watching += 1

    def take_watchers(self, job_id: str) -> list[Ticket]:
        """Remove and return those who wait for this job."""
        tickets = self._watchers.pop(job_id, [])
        self._watching -= len(tickets)
        return tickets

    def give_up(self, ticket: Ticket) -> Claim | str | None:
        """Remove one who waits no longer: returns its claim, or the id of the job it watched, or None when it was answered already."""
        for same in self._claims.values():
            for parked in same.values():
                if parked.ticket is ticket:
                    self.take(parked.claim.host_id)
                    return parked.claim
        for job_id, tickets in self._watchers.items():
            others = [waiting for waiting in tickets if waiting is not ticket]
            if len(others) < len(tickets):
                self.take_watchers(job_id)
                for other in others:
                    self.watch(other, job_id)
                return job_id
        return None

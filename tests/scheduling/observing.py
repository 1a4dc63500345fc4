"""What can be seen of a State from outside, so that two of them can be compared."""

from collections.abc import Iterable, Iterator
from itertools import chain, combinations
from typing import Any

from skyclaw.scheduling.jobs import QUEUED
from skyclaw.scheduling.state import State

FOREVER = 10**15


def observed(state: State, names: Iterable[str] = ("a", "b", "c")) -> dict[str, Any]:
    """Everything a queue can learn from the state, the order of all its claims included. The state is of no use afterwards."""
    seen = {
        "end": state.end,
        "jobs": dict(state.jobs),
        "recent": list(state.recent.items()),
        "hosts": dict(state.hosts),
        "keys": list(state.keys),
        "held": {host_id: set(held) for host_id, held in state.held.items() if held},
        "queued": state.queued,
        "services": dict(state.services),
        "placed": {host_id: dict(placed) for host_id, placed in state.placed.items()},
    }
    state.wake(FOREVER)
    seen["claims"] = {capabilities: list(drained(state, capabilities)) for capabilities in subsets(names)}
    every = {name for job in state.jobs.values() for name in job.asked.required}
    waiting = {job.id for job in state.jobs.values() if job.status == QUEUED}
    assert set(drained(state, frozenset(every))) == waiting, "a queued job cannot be claimed, or one can that is not queued"
    return seen


def subsets(names: Iterable[str]) -> Iterator[frozenset[str]]:
    """Every set of these names."""
    every = list(names)
    return map(frozenset, chain.from_iterable(combinations(every, size) for size in range(len(every) + 1)))


def drained(state: State, capabilities: frozenset[str]) -> Iterator[str]:
    """The ids of the ready jobs in the order in which a host with these capabilities would get them; they are ready again afterwards."""
    taken = {}
    while (job := state.ready.take(capabilities)) is not None:
        if job.id not in taken:
            taken[job.id] = job
            yield job.id
    for job in taken.values():
        state.ready.add(job)

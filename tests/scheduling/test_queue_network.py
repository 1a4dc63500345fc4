"""Two queues that share two logs live through everything that can happen to them; planted faults must be found."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyclaw.scheduling.books import Books
from skyclaw.scheduling.hosts import Host
from skyclaw.scheduling.queue import Queue
from skyclaw.scheduling.turn import Book
from tests.scheduling.network import LOGS, Network, live
from tests.scheduling.observing import observed

THOROUGH = os.environ.get("SKYCLAW_HYPOTHESIS") == "thorough"
LIVES = 10_000 if THOROUGH else 60

pytestmark = pytest.mark.timeout(7200 if THOROUGH else 120)


def test_every_seeded_life_keeps_the_rules() -> None:
    for seed in range(LIVES):
        network = live(seed)
        for log in LOGS:
            first, second = (node.queue.books.book(log).state for node in network.nodes)
            assert observed(first) == observed(second)


@given(st.integers(0, 2**32))
@settings(max_examples=20)
def test_any_other_life_does_too(seed: int) -> None:
    live(seed, 60)


def test_the_lives_are_rich_enough() -> None:
    """What the seeds are to find faults in must happen in them."""
    happened: set[str] = set()
    for seed in range(20):
        network: Network = live(seed)
        happened |= {type(event).__name__ for log in LOGS for _, event in network.logs[log]}
        happened |= {"finished"} if network.finished else set()
    wanted = {
        "JobLeased",
        "JobReleased",
        "JobLeaseExpired",
        "JobCompleted",
        "HostRegistered",
        "HostModeChanged",
        "OwnershipTaken",
        "ServiceDeployed",
        "ServiceScaled",
        "ServiceForgotten",
        "RolloutEnded",
        "InstancePlaced",
        "InstanceReported",
        "InstanceDraining",
        "InstanceEnded",
        "finished",
    }
    assert wanted <= happened


def _own_room_only(books: Books, host: Host) -> int:
    return host.max_parallel - sum(len(book.state.held.get(host.id, ())) for book in books.owned)


def _never_mind(book: Book) -> Book:
    return book


FAULTS: dict[str, tuple[type, str, Callable[..., Any]]] = {
    "room is counted over the owned logs alone": (Books, "room", _own_room_only),
    "who waits is never served": (Queue, "_serve", lambda *_: ()),
    "a copy is changed as if it were owned": (Books, "require", staticmethod(_never_mind)),
    "a deposed owner keeps its soft state": (Book, "close", lambda book: setattr(book, "epoch", "")),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*FAULTS[fault])
    for seed in range(LIVES):
        try:
            live(seed)
        except (AssertionError, KeyError):
            return
    pytest.fail("no seed finds it")

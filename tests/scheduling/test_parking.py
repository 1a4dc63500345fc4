"""Who waits."""

import pytest

from skyclaw.commands import Claim
from skyclaw.scheduling.parking import Parking


@pytest.fixture
def parking() -> Parking:
    return Parking(3)


def park(parking: Parking, host_id: str, *capabilities: str) -> object:
    ticket = object()
    parking.park(ticket, Claim(host_id), frozenset(capabilities))
    return ticket


def hosts(found: object) -> list[str]:
    return [parked.claim.host_id for parked in found]  # type: ignore[attr-defined]


def test_a_parked_claim_waits_until_it_is_taken(parking: Parking) -> None:
    ticket = park(parking, "h1")
    parked = parking.of("h1")
    assert parked is not None
    assert parked.ticket is ticket
    assert parking.take("h1") == parked
    assert (parking.take("h1"), parking.of("h1"), len(parking)) == (None, None, 0)


def test_claims_and_watchers_share_the_places(parking: Parking) -> None:
    park(parking, "h1")
    parking.watch(object(), "j1")
    assert not parking.full
    parking.watch(object(), "j1")
    assert parking.full
    assert len(parking) == 3
    parking.take("h1")
    assert not parking.full


def test_the_claims_that_fit_come_in_the_order_in_which_they_began_to_wait(parking: Parking) -> None:
    park(parking, "c", "gpu")
    park(parking, "a", "gpu", "linux")
    park(parking, "b", "gpu")
    park(parking, "d")
    assert hosts(parking.fitting(())) == ["c", "a", "b", "d"]
    assert hosts(parking.fitting(("gpu",))) == ["c", "a", "b"]
    assert hosts(parking.fitting(("gpu", "linux"))) == ["a"]
    assert hosts(parking.fitting(("arm",))) == []


def test_the_claims_of_some_hosts_come_in_the_order_in_which_they_began_to_wait(parking: Parking) -> None:
    for host_id in ("z", "y", "x"):
        park(parking, host_id, host_id)
    assert hosts(parking.waiting({"x", "z", "unknown"})) == ["z", "x"]
    assert sorted(parking.claimants) == ["x", "y", "z"]


def test_everybody_who_watches_a_job_hears_of_it_and_of_no_other(parking: Parking) -> None:
    first, second, other = object(), object(), object()
    parking.watch(first, "j1")
    parking.watch(other, "j2")
    parking.watch(second, "j1")
    assert sorted(parking.watched) == ["j1", "j2"]
    assert parking.take_watchers("j1") == [first, second]
    assert parking.take_watchers("j1") == []
    assert len(parking) == 1


def test_who_gives_up_is_told_what_it_waited_for(parking: Parking) -> None:
    claim, watcher, other = park(parking, "h1"), object(), object()
    parking.watch(watcher, "j1")
    parking.watch(other, "j1")
    assert parking.give_up(claim) == Claim("h1")
    assert parking.give_up(watcher) == "j1"
    assert parking.take_watchers("j1") == [other]
    assert len(parking) == 0


def test_who_was_answered_already_gives_nothing_up(parking: Parking) -> None:
    ticket = park(parking, "h1")
    parking.take("h1")
    assert parking.give_up(ticket) is None
    assert parking.give_up(object()) is None


def test_a_ticket_that_is_equal_to_another_is_still_another(parking: Parking) -> None:
    mine, other = [1], [1]
    parking.watch(mine, "j1")
    assert parking.give_up(other) is None
    assert parking.give_up(mine) == "j1"


def test_nothing_is_kept_of_those_who_have_left(parking: Parking) -> None:
    for number in range(100):
        park(parking, f"h{number}", f"kind{number}")
        parking.take(f"h{number}")
        ticket = object()
        parking.watch(ticket, f"j{number}")
        parking.give_up(ticket)
    assert (len(parking), parking._claims, parking._capabilities, parking._watchers) == (0, {}, {}, {})

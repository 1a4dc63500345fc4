"""Which requests were answered before."""

import pytest

from skyclaw.commands import Keyed
from skyclaw.errors import IdempotencyConflict
from skyclaw.scheduling.idempotency import Answered, Keys


def answered(at: int = 0, digest: str = "d") -> Answered:
    return Answered(digest, ("j1",), 7, at)


def keys(*ages: int) -> Keys:
    known = Keys()
    for number, at in enumerate(ages):
        known.put("/v1/jobs", f"k{number}", answered(at))
    return known


def names(known: Keys) -> list[str]:
    return [key for (_, key), _ in known]


def test_a_key_that_was_not_used_is_not_known() -> None:
    assert Keys().find(Keyed("/v1/jobs", "k", "d")) is None


def test_the_same_request_finds_its_answer() -> None:
    assert keys(5).find(Keyed("/v1/jobs", "k0", "d")) == answered(5)


def test_another_request_with_the_same_key_is_a_conflict() -> None:
    with pytest.raises(IdempotencyConflict, match="idempotency key reuse conflict for route /v1/jobs"):
        keys(5).find(Keyed("/v1/jobs", "k0", "another"))


def test_a_key_belongs_to_its_scope() -> None:
    assert keys(5).find(Keyed("/v1/jobs/j1/cancel", "k0", "another")) is None


def test_old_keys_are_pruned_up_to_a_time_that_is_included() -> None:
    known = keys(1, 2, 3)
    assert known.prune(2) == [(("/v1/jobs", "k0"), answered(1)), (("/v1/jobs", "k1"), answered(2))]
    assert names(known) == ["k2"]
    assert len(known) == 1


def test_nothing_is_pruned_before_its_time() -> None:
    known = keys(5)
    assert known.prune(4) == []
    assert len(known) == 1


def test_pruned_keys_can_be_put_back_in_their_places() -> None:
    known = keys(1, 2, 3)
    known.put_back(known.prune(2))
    assert names(known) == ["k0", "k1", "k2"]
    assert known.oldest() == 1


def test_the_oldest_key_is_the_one_to_be_pruned_next() -> None:
    known = keys(4, 8)
    assert known.oldest() == 4
    known.prune(4)
    assert known.oldest() == 8
    known.prune(8)
    assert known.oldest() is None


def test_a_dropped_key_is_free_again() -> None:
    known = keys(5)
    known.drop("/v1/jobs", "k0")
    known.drop("/v1/jobs", "k0")
    assert known.find(Keyed("/v1/jobs", "k0", "another")) is None

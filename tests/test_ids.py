from collections.abc import Callable

import pytest

from skyclaw import ids


def test_a_job_id_names_its_log() -> None:
    log = ids.new_log_tag()
    job_id = ids.new_job_id(log)
    assert ids.JOB_ID.fullmatch(job_id)
    assert job_id.startswith(f"job_{log}-")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "job_",
        "job_0123abcd",
        "0123abcd-1111-4111-8111-111111111111",
        "job_0123ABCD-1111-4111-8111-111111111111",
        "job_0123abcd-1111-4111-8111-111111111111\n",
        "job_0123abcd-1111-4111-8111-1111111111111",
        "host_0123abcd-1111-4111-8111-111111111111",
        "job_٣123abcd-1111-4111-8111-11111111111",
    ],
)
def test_what_only_resembles_a_job_id_is_none(text: str) -> None:
    assert not ids.JOB_ID.fullmatch(text)


def test_a_log_tag_is_eight_hex_digits() -> None:
    tag = ids.new_log_tag()
    assert len(tag) == 8
    assert int(tag, 16) >= 0


@pytest.mark.parametrize(
    "draw",
    [ids.new_log_tag, ids.new_host_id, lambda: next(ids.new_claim_ids()), lambda: ids.new_node_id("a"), lambda: ids.new_job_id("0" * 8)],
)
def test_what_is_drawn_is_not_drawn_again(draw: Callable[[], str]) -> None:
    assert len({draw() for _ in range(100)}) == 100


def test_a_node_id_begins_with_its_label_and_a_host_id_says_what_it_is() -> None:
    assert ids.new_node_id("rack-1").startswith("rack-1#")
    assert ids.new_host_id().startswith("host_")


def test_an_answered_claim_speaks_for_those_before_it_in_its_series_only() -> None:
    claims, others = ids.new_claim_ids(), ids.new_claim_ids()
    first, second, third = (next(claims) for _ in range(3))
    assert [ids.is_claimed_by(claim, second) for claim in (first, second, third, next(others), None)] == [True, True, False, False, False]


@pytest.mark.parametrize("claim", ["", ".", "b8129af6", "x.y", "x.", ".1", "x.1.", "x.-1", "x.\u0663"])
def test_a_claim_of_another_form_is_never_taken_for_answered(claim: str) -> None:
    assert not ids.is_claimed_by(claim, claim)
    assert not ids.is_claimed_by(claim, "x.9")
    assert not ids.is_claimed_by("x.1", claim)

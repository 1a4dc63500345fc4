"""Whose word counts about services when coordinators know more or less."""

from typing import Any

import pytest

from skyclaw.services.listings import Listed, Listing, LogSeen, Word, is_doubted, settle

LOG, OTHER = "0000000a", "0000000b"


def service(number: int, version: int = 3, log: str = LOG, *endpoints: str) -> Listed:
    assignments = [{"endpoint": endpoint} for endpoint in endpoints]
    return Listed({"id": f"svc_{log}-{number}", "version": version, "assignments": assignments}, is_local=False)


def owner(*listing: Listed, position: int = 10) -> Word:
    return Word(listing, {LOG: LogSeen(position, decides=True)})


def follower(*listing: Listed, position: int = 10) -> Word:
    return Word(listing, {LOG: LogSeen(position, decides=False)})


@pytest.mark.parametrize(
    ("listing", "doubted"),
    [
        ([service(1), service(2)], False),
        ([service(2), service(1), service(3)], False),
        ([service(1, version=4), service(2)], False),
        ([service(1)], True),
        ([service(1), service(2, version=2)], True),
        ([], True),
    ],
)
def test_a_list_that_lacks_something_known_is_doubted(listing: Listing, doubted: bool) -> None:
    assert is_doubted(listing, [service(1), service(2)]) is doubted


def test_nothing_is_doubted_where_nothing_is_known() -> None:
    assert not is_doubted([], [])
    assert not is_doubted([], [Listed({"name": "no id"}, False), Listed(None, False)])


def test_who_decides_for_its_log_decides_about_a_service() -> None:
    for words in ([owner(), follower(service(1))], [follower(service(1), position=99), owner()]):
        assert settle(words, [service(1)]) == []
    for words in ([owner(service(1, 5)), follower()], [follower(service(1, 4), position=99), owner(service(1, 5))]):
        assert settle(words, [service(1)]) == [service(1, 5)]


def test_without_that_one_who_knows_most_counts_and_of_equals_who_was_asked_first() -> None:
    assert settle([follower(service(1, 4)), follower(service(1, 5), position=20)], []) == [service(1, 5)]
    assert settle([follower(service(1, 5)), follower(service(1, 4))], []) == [service(1, 5)]


def test_one_decides_about_one_log_and_another_about_another() -> None:
    other = service(1, 3, OTHER)
    first = Word([service(1, 4)], {LOG: LogSeen(5, True), OTHER: LogSeen(9, False)})
    second = Word([service(1), other], {LOG: LogSeen(5, False), OTHER: LogSeen(2, True)})
    assert settle([first, second], [service(1), other]) == [service(1, 4), other]


def test_who_does_not_decide_takes_nothing_away_but_may_add() -> None:
    known = [service(1), service(2)]
    assert settle([Word([], {})], known) == known
    assert settle([follower(position=99)], known) == known
    assert settle([follower(service(1, 2), service(3))], known) == [service(3), *known]
    assert settle([follower(service(1, 4), service(2))], known) == [service(1, 4), service(2)]


def test_who_decides_is_believed_an_older_version_as_after_a_backup_was_restored() -> None:
    assert settle([owner(service(1, 2))], [service(1)]) == [service(1, 2)]


def test_who_has_no_logs_is_taken_at_its_word() -> None:
    assert settle([Word([], None)], [service(1)]) == []
    assert settle([follower(), Word([service(1)], None)], []) == [service(1)]


def test_what_stays_has_no_instance_whose_endpoint_is_somebody_else_s_by_now() -> None:
    known = [service(1, 3, LOG, "http://10.0.0.1:1", "http://10.0.0.1:2")]
    assert settle([follower(service(2, 1, LOG, "http://10.0.0.1:1"))], known)[1] == service(1, 3, LOG, "http://10.0.0.1:2")


@pytest.mark.parametrize("record", [None, 7, [], {"id": 7}, {"name": "web"}])
def test_what_is_no_service_is_passed_over(record: Any) -> None:
    assert settle([owner(Listed(record, False), service(1))], [Listed(record, False)]) == [service(1)]


def test_the_order_of_the_lists_is_kept() -> None:
    assert settle([follower(service(2), service(1)), follower(service(3))], []) == [service(2), service(1)]

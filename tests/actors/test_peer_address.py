"""Does the announced address lead here, as far as can be seen, and which complaints are worth a line."""

import logging

import pytest

from actors.peer_address import FIRST_PAUSE_MS, RIGHT_MS, WRONG_MS, OwnAddress
from actors.peer_complaints import MOST, YOUNG_MS, Complaints
from actors.peer_errands import Failed, Proven
from skyclaw.cluster.address_book import Hint
from skyclaw.outside.peer_addresses import Pinned, parse

OWN, URL = "own#00000001", "http://own:1"
AT = Pinned(parse(URL), ("192.0.2.1",))
HERE, THERE = Proven(URL, AT, OWN, "own", None), Proven(URL, AT, "b#00000001", "b", None)


def test_without_an_address_there_is_nothing_to_look_at() -> None:
    assert not OwnAddress(OWN, None, 0).is_due(10**9)


def test_it_is_looked_at_at_once_and_then_now_and_then() -> None:
    own = OwnAddress(OWN, URL, 5)
    assert [own.is_due(5), own.is_due(6), own.is_due(5 + RIGHT_MS)] == [True, False, True]
    own.see(HERE, 100)
    assert (own.elsewhere, own.is_due(99 + RIGHT_MS), own.is_due(100 + RIGHT_MS)) == ("", False, True)


def test_another_one_there_is_said_once_and_looked_for_more_often(caplog: pytest.LogCaptureFixture) -> None:
    own = OwnAddress(OWN, URL, 0)
    own.see(THERE, 0)
    assert (own.elsewhere, own.is_due(WRONG_MS - 1), own.is_due(WRONG_MS)) == ("b", False, True)
    own.see(HERE, 0)
    assert own.elsewhere == ""
    own.see(THERE, 0)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_nobody_there_says_nothing_and_is_looked_for_less_and_less() -> None:
    own = OwnAddress(OWN, URL, 0)
    for pause in (FIRST_PAUSE_MS, 2 * FIRST_PAUSE_MS, 4 * FIRST_PAUSE_MS):
        own.see(Failed(URL, "timed out"), 0)
        assert (own.elsewhere, own.is_due(pause - 1), own.is_due(pause)) == ("", False, True)


def test_another_one_that_is_silent_for_a_moment_is_still_another_one() -> None:
    own = OwnAddress(OWN, URL, 0)
    own.see(THERE, 0)
    own.see(Failed(URL, "connection refused"), 0)
    assert own.elsewhere == "b"


def test_an_address_that_was_put_right_is_announced_again() -> None:
    """Until then this coordinator announced nothing, and so it does not prove itself there."""
    own = OwnAddress(OWN, URL, 0)
    own.see(THERE, 0)
    own.see(Failed(URL, "this coordinator announces no address", "unannounced"), 0)
    assert own.elsewhere == ""
    assert own.is_due(FIRST_PAUSE_MS)
    own.see(HERE, FIRST_PAUSE_MS)
    assert own.elsewhere == ""


def test_a_reason_is_a_note_at_first_and_a_warning_later_and_each_only_once() -> None:
    said, hint = Complaints(), Hint(URL, "settings", True, 100, 100)
    levels = [said.level(hint, "refused", now) for now in (100, 99 + YOUNG_MS, 100 + YOUNG_MS, 10**9)]
    assert levels == [logging.INFO, None, logging.WARNING, None]
    assert said.level(hint, "timed out", 10**9) == logging.WARNING


def test_whoever_has_many_reasons_is_listened_to_for_a_while() -> None:
    said, hint = Complaints(), Hint(URL, "settings", True, 0, 0)
    assert [said.level(hint, str(number), 0) for number in range(MOST + 2)] == [logging.INFO] * MOST + [None, None]
    said.keep_only([URL])
    assert said.level(hint, "more", 0) is None
    said.keep_only([])
    assert said.level(hint, "more", 0) == logging.INFO

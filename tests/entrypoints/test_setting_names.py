"""The list of settings, and that the README tells the same."""

import re
from pathlib import Path

import pytest

from skyclaw.entrypoints.setting_names import KNOWN, nearest, unknown_names

README = Path(__file__).parents[2] / "README.md"
ROW = re.compile(r"^\| `(SKYCLAW_[A-Z_]+)` \| ([^|]*) \|", re.MULTILINE)


@pytest.fixture
def rows() -> dict[str, str]:
    """The README's table: name and default."""
    return dict(ROW.findall(README.read_text(encoding="utf-8")))


def test_the_readme_lists_every_setting_that_is_used_and_none_that_is_unknown(rows: dict[str, str]) -> None:
    used = {name for name, setting in KNOWN.items() if setting.used}
    assert used - set(rows) == set()
    assert set(rows) - set(KNOWN) == set()


def test_the_readme_gives_the_defaults_that_are_in_force(rows: dict[str, str]) -> None:
    told = {name: KNOWN[name].default for name, cell in rows.items() if f"`{KNOWN[name].default}`" in cell}
    expected = {name: setting.default for name, setting in KNOWN.items() if setting.default and name in rows}
    assert told == expected


def test_every_setting_has_a_meaning_of_one_line() -> None:
    assert all(setting.meaning and "\n" not in setting.meaning and "|" not in setting.meaning for setting in KNOWN.values())
    assert all(name.startswith("SKYCLAW_") for name in KNOWN)


def test_only_our_own_unknown_names_are_pointed_out() -> None:
    assert unknown_names(["PATH", "SKYCLAW_TOKEN", "SKYCLAW_PEER_URLS", "MY_SKYCLAW_X"]) == []
    assert unknown_names(["SKYCLAW_HOSTNAME"]) == ["unknown setting SKYCLAW_HOSTNAME; did you mean SKYCLAW_HOST_NAME?"]


def test_a_word_like_no_other_has_no_nearest() -> None:
    assert nearest("zzzzzz", KNOWN) is None

"""What is printed: foreign text without steering, aligned tables, JSON that reads back."""

import io
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyclaw.entrypoints import rendering

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("\x1b[2J", r"\x1b[2J"), ("a\nb", r"a\nb"), ("a\tb", r"a\tb"), ("\u202eb", r"\u202eb"), ("\x9b1m", r"\x9b1m"), ("ü 漢 🦀", "ü 漢 🦀")],
)
def test_a_line_shows_what_would_steer_the_terminal(text: str, shown: str) -> None:
    assert rendering.safe_line(text) == shown


def test_output_keeps_lines_and_tabs_but_not_a_lone_carriage_return() -> None:
    assert rendering.safe_output("a\tb\r\nc\rd\x1b") == "a\tb\r\nc\\rd\\x1b"


@given(st.text())
def test_no_text_makes_a_line_more_than_one(text: str) -> None:
    assert len(rendering.safe_line(text).splitlines()) <= 1


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_json_reads_back_as_it_was_and_holds_no_escape_character(text: str) -> None:
    kept = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", kept)
        rendering.show_json({"text": text})
    assert json.loads(kept.getvalue()) == {"text": text}
    assert "\x1b" not in kept.getvalue()


def test_a_table_is_aligned_by_blanks_when_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    rendering.show_table(("A", "LONGER"), [("one", 1), ("a\nb", "[red]x[/red]")])
    assert capsys.readouterr().out == "A     LONGER\none   1\na\\nb  [red]x[/red]\n"


def test_a_table_for_a_terminal_takes_foreign_text_literally(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "is_terminal", lambda _: True)
    rendering.show_table(("A", "B"), [("one", "[red]x[/red] :smile:")])
    assert "[red]x[/red] :smile:" in capsys.readouterr().out


def test_facts_leave_out_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    rendering.show_facts({"job": "j", "exit code": 0, "error": None, "labels": ""})
    assert capsys.readouterr().out == "job        j\nexit code  0\n"


@pytest.mark.parametrize(
    ("stamp", "shown"),
    [
        ("2026-11-20T11:59:58.000Z", "2s"),
        ("2026-11-20T11:00:01.000Z", "59m"),
        ("2026-11-20T00:00:00.000Z", "12h"),
        ("2026-11-01T00:00:00.000Z", "19d"),
        ("2026-11-20T12:00:09.000Z", "0s"),
        (None, "-"),
        ("yesterday", "-"),
    ],
)
def test_ages_are_short(stamp: str | None, shown: str) -> None:
    assert rendering.age(stamp, NOW) == shown


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        ({"kind": "shell", "command": "bash", "args": ["-lc", "echo hi"]}, "bash -lc 'echo hi'"),
        ({"kind": "shell", "command": "true"}, "true"),
        ({"kind": "openclaw-run", "args": ["run"]}, "openclaw run"),
        ({"kind": "something", "args": "odd"}, "something"),
        ({}, "'?'"),
    ],
)
def test_work_is_shown_as_one_would_type_it(payload: dict[str, object], shown: str) -> None:
    assert rendering.job_words(payload) == shown


def test_long_text_is_cut_with_dots() -> None:
    assert rendering.shortened("x" * 61) == "x" * 57 + "..."
    assert rendering.shortened("x" * 60) == "x" * 60

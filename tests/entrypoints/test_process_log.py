"""The log of a process: one line for each event, whatever its words contain."""

import io
import json
import logging
import subprocess
import sys
from datetime import UTC, datetime

from skyclaw.entrypoints.process_log import LONGEST, JsonLines, JsonStdout, TextLines

AT = datetime(2026, 11, 20, 12, 20, 53, 796_000, tzinfo=UTC)
NASTY = "job_done name=\x1b]0;pwn\x07\r\nfake_line \u202e"


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    info = (type(error), error, None) if error else None
    made = logging.LogRecord("actors.job_queue", logging.WARNING, "file.py", 1, message, args, info)
    made.created, made.msecs = AT.timestamp(), 796.0
    return made


def test_text_lines_have_time_level_logger_and_words() -> None:
    assert TextLines().format(record("job_done id=%s", "j")) == "2026-11-20T12:20:53.796Z WARNING actors.job_queue job_done id=j"


def test_nothing_in_the_words_makes_a_text_line_more_than_one() -> None:
    line = TextLines().format(record(NASTY, error=ValueError(NASTY)))
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    assert r"\x1b]0;pwn\x07\r\nfake_line \u202e" in line


def test_json_lines_read_back_and_carry_the_exception() -> None:
    line = JsonLines().format(record(NASTY, error=ValueError("broken")))
    assert len(line.splitlines()) == 1
    said = json.loads(line)
    assert (said["level"], said["logger"], said["message"]) == ("WARNING", "actors.job_queue", NASTY)
    assert "ValueError: broken" in said["exception"]


def test_a_field_is_cut_when_it_is_too_long() -> None:
    assert len(json.loads(JsonLines().format(record("x" * 10_000)))["message"]) == LONGEST
    assert len(TextLines().format(record("x" * 10_000))) < LONGEST + 100


def test_set_up_sends_everything_to_stderr() -> None:
    script = """
import logging, warnings
from skyclaw.entrypoints import process_log
process_log.set_up("json")
logging.getLogger("a").info("started")
logging.getLogger("a").debug("not shown")
logging.getLogger("waitress").info("Client disconnected while serving /v1/jobs")
logging.getLogger("waitress").warning("Task queue depth is 1")
warnings.warn("careful")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == ""
    messages = [json.loads(line)["message"] for line in done.stderr.splitlines()]
    assert messages[0] == "started"
    assert messages[1] == "Task queue depth is 1"
    assert "careful" in messages[2]
    assert len(messages) == 3


def test_lines_for_a_person_become_json_lines_once_they_are_whole() -> None:
    kept = io.StringIO()
    stdout = JsonStdout(kept)
    print("[skyclaw] one", end="", file=stdout)
    assert kept.getvalue() == ""
    print(" \x1b\u202e\ntwo", file=stdout)
    assert [json.loads(line) for line in kept.getvalue().splitlines()] == [{"message": "one \x1b\u202e"}, {"message": "two"}]
    assert kept.getvalue().isascii()

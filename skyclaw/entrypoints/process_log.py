"""The log of a process: one line for each event on stderr, as text or as JSON, whatever the event's words contain."""

import io
import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

LONGEST = 2_048  # characters of a field


def set_up(form: str, level: int = logging.INFO) -> None:
    """Send every log line to stderr; `form` is text or json."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.captureWarnings(True)
    logging.getLogger("waitress").setLevel(max(level, logging.WARNING))  # it tells of every client that does not wait for its answer


class TextLines(logging.Formatter):
    """`time LEVEL logger words`, and the traceback's last line when there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for one event."""
        said = f"{_time(record)} {record.levelname} {record.name} {_plain(record.getMessage())}"
        return f"{said} exception={_plain(_exception(self, record))}" if record.exc_info else said


class JsonLines(logging.Formatter):
    """One JSON object a line, with the whole traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for one event."""
        said = {"at": _time(record), "level": record.levelname, "logger": record.name, "message": record.getMessage()[:LONGEST]}
        if record.exc_info:
            said["exception"] = _exception(self, record)
        return json.dumps(said)


class JsonStdout(io.TextIOBase):
    """A stdout on which every line of text becomes a JSON object `{"message": ...}`, for what prints lines for a person."""

    def __init__(self, target: TextIO) -> None:
        self._target, self._begun = target, ""

    def write(self, text: str) -> int:
        """Pass on the lines that are whole now; raises OSError."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._target.write(json.dumps({"message": line.removeprefix("[skyclaw] ")}) + "\n")
        return len(text)

    def flush(self) -> None:
        """Send what was passed on; raises OSError."""
        self._target.flush()


def _time(record: logging.LogRecord) -> str:
    return f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z"


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info)[-LONGEST:] if record.exc_info else ""


def _plain(text: str) -> str:
    """The text on one line, without what moves a terminal's cursor."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[:LONGEST])

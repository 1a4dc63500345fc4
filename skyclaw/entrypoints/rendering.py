"""What the command line prints: tables, facts, JSON, and foreign text that must not steer the terminal."""

import contextlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Any, TextIO

from skyclaw.errors import SkyclawError


class CannotWrite(SkyclawError):
    """The answer could not be written."""


NARROWEST = 8  # characters of a column that yields, unless it says otherwise
_STEERING = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_IN_OUTPUT = re.compile(rf"[{_STEERING}]|\r(?!\n)")
_IN_LINE = re.compile(rf"[{_STEERING}\t\n\r]")
_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U00(?:10|0[0-9a-f])[0-9a-f]{4})")
_FOR_PROGRAMS = re.compile(r"(; repeat it with the same idempotency key|[;,] try again)$")


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


def safe_line(text: object) -> str:
    """Foreign text as it may stand in a line of ours: whatever moves the cursor or turns the writing is shown as an escape."""
    return _IN_LINE.sub(_escaped, str(text))


def safe_output(text: str) -> str:
    """A job's output as it may go to a terminal: lines and tabs stay, the rest is as in `safe_line`."""
    return _IN_OUTPUT.sub(_escaped, text)


def cause(sentence: str) -> str:
    """A coordinator's sentence without the advice at its end, which is for programs."""
    return _FOR_PROGRAMS.sub("", sentence)


def legible(sentence: str) -> str:
    """A coordinator's sentence, in which whatever is not ASCII is an escape, with the letters that were meant."""
    return _ESCAPE.sub(_letter, sentence)


def _letter(found: re.Match[str]) -> str:
    letter = chr(int(found[2][1:], 16))
    return found[1] + letter if letter.isprintable() and not letter.isascii() else found[0]


def is_terminal(stream: IO[str] | None) -> bool:
    """Whether somebody watches that stream."""
    return stream is not None and stream.isatty()


def say(line: str) -> None:
    """One line for the reader, on stderr."""
    print(f"[skyclaw] {safe_line(line)}", file=sys.stderr, flush=True)  # noqa: T201


def warn(sentences: Iterable[str]) -> None:
    """Warnings, one line each, on stderr."""
    for sentence in sentences:
        say(f"warning: {sentence}")


def show(line: str = "") -> None:
    """One line of the answer, on stdout."""
    with _writing():
        print(line)  # noqa: T201


def finish() -> None:
    """See to it that the whole answer has left."""
    with _writing():
        if sys.stdout is not None:
            sys.stdout.flush()


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # the reader has seen enough
        raise
    except OSError as error:
        raise CannotWrite(f"the answer could not be written: {error.strerror}") from error


def show_json(value: object) -> None:
    """The answer as JSON, two spaces deep; what steers a terminal is written as \\u escapes, which read back as the same text."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    show(re.sub(rf"[{_STEERING}]", lambda found: f"\\u{ord(found[0]):04x}", text))


def pour(text: str, stream: TextIO | None, raw: bool = False) -> None:
    """A job's output, byte for byte; escaped when a terminal reads it and `raw` is not asked for."""
    if stream is None or not text:
        return
    if is_terminal(stream) and not raw:
        text = safe_output(text)
    with _writing():
        stream.flush()
        stream.buffer.write(text.encode("utf-8", "surrogatepass"))
        stream.flush()


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]], yielding: Mapping[str, int] | None = None) -> None:
    """A table, aligned by blanks; for a terminal it is made to fit.

    `yielding` names the columns that become narrower there, in that order and down to so many characters, so that the others keep every
    letter; without it the last column does. When that is not enough they are left out, except the first column of the table.
    """
    cells = [[safe_line(cell) for cell in row] for row in rows]
    if is_terminal(sys.stdout):
        _draw(columns, cells, yielding or {columns[-1]: NARROWEST})
        return
    for line in _aligned([columns, *cells]):
        show(line)


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _draw(columns: Sequence[str], cells: Sequence[Sequence[str]], yielding: Mapping[str, int]) -> None:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    needed = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    widths, gap = fitted(dict(zip(columns, needed, strict=True)), console.width, yielding)
    for number, row in enumerate((columns, *cells)):
        texts = [Text(cell) for name, cell in zip(columns, row, strict=True) if name in widths]
        for text, width in zip(texts, widths.values(), strict=True):
            text.truncate(width, overflow="ellipsis", pad=True)
        line = Text(gap * " ").join(texts)
        line.rstrip()
        console.print(line, style="bold" if number == 0 else None, no_wrap=True, overflow="ignore", crop=False)


def fitted(needed: Mapping[str, int], room: int, yielding: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """How wide each column is to be, and the gap between two; a column that is left out is not among them."""
    widths, gap, first = dict(needed), 2, next(iter(needed))

    def excess() -> int:
        return sum(widths.values()) + gap * (len(widths) - 1) - room

    for name, least in yielding.items():
        widths[name] -= max(0, min(excess(), widths[name] - least))
    if excess() > 0:
        gap = 1
    for name in yielding:
        if excess() > 0 and name != first:
            del widths[name]
    return widths, gap


def show_facts(facts: Mapping[str, object]) -> None:
    """Names and values, one a line; those that are None or empty are left out."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        if value not in (None, "", [], {}):
            show(f"{name.ljust(width)}  {safe_line(value)}")


def age(stamp: str | None, now: datetime | None = None) -> str:
    """How long ago an ISO time was, in one unit; `-` when there is none."""
    try:
        seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(stamp or "")).total_seconds()
    except (ValueError, TypeError):
        return "-"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def shortened(text: str, longest: int = 60) -> str:
    """At most `longest` characters, with dots where it was cut."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def job_words(payload: Mapping[str, Any]) -> str:
    """A job's work as one would type it."""
    import shlex

    kind, args = str(payload.get("kind", "?")), payload.get("args")
    first = payload.get("command") if kind == "shell" else kind.removesuffix("-run")
    words = [first, *(args if isinstance(args, list) else [])]
    return " ".join(shlex.quote(str(word)) for word in words)

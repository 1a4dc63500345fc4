"""How a service's process ended, in one line: its exit code or signal, and what it printed last that tells why.

1. That is the last line that looks like an error; one that stands by itself rather than one that is part of a longer message, as the lines
   of a stack trace are. Of a process that exited, it is otherwise the last line that is not empty.
2. Values of the service's own variables that are not very short, and each line of them, are left out: they may be secrets.
3. It is one line of printable characters, and not long.
"""

import re
from collections.abc import Iterable

PRINTED_BYTES = 4_096  # of what a process printed last: enough for a stack trace
MOST_CHARACTERS = 200
SHORTEST_SECRET = 6  # characters
HIDDEN = "***"
_ERROR = re.compile("error|exception|fatal|panic|cannot|denied|no such", re.IGNORECASE)
_COLOURS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def ending(exit_code: int, signal: str | None, printed: str, whole: bool, values: Iterable[str]) -> str:
    """The line. `printed` is what the process printed last, or the `whole` of it; `values` are those of the service's variables."""
    how = f"killed by {signal}" if signal else f"exited with code {exit_code}"
    words = last_words(printed, whole, values, only_errors=signal is not None)
    return f"{how}: {words}" if words else how


def last_words(printed: str, whole: bool, values: Iterable[str], only_errors: bool = False) -> str | None:
    """What a process printed last that tells why it ended; None when there is nothing."""
    text = _without(_COLOURS.sub("", printed), whole, values)
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.search(line)]
    apart = [line for line in errors if not line[0].isspace() and not line.endswith(":")]
    found = apart or errors or ([] if only_errors else lines)
    return one_line(found[-1].expandtabs(1).strip(), MOST_CHARACTERS) if found else None


def one_line(text: str, most: int) -> str:
    """At most so many characters, each of which can be printed and sent."""
    line = "".join(char if char.isprintable() else "?" for char in text)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _without(text: str, whole: bool, values: Iterable[str]) -> str:
    """The text without secrets. At the beginning of a part there may be the rest of one, which is as long as the longest at most."""
    secrets = sorted({line for value in values for line in (value, *value.splitlines()) if len(line) >= SHORTEST_SECRET}, key=len)
    if not whole and secrets:
        text = text[len(secrets[-1]) :]
    for secret in reversed(secrets):
        text = text.replace(secret, HIDDEN)
    return text

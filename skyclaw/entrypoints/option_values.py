"""The values of the command line's options: times, labels, numbers; each raises UsageWrong with the form it wants."""

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from skyclaw.errors import UsageWrong

_UNITS_MS = {"ms": 1, "": 1_000, "s": 1_000, "m": 60_000, "h": 3_600_000}
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)(ms|s|m|h|)", re.ASCII)
_CAPABILITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_LABEL_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
DAY_MS = 86_400_000
MOST_CAPABILITIES, MOST_LABELS, LONGEST_LABEL = 64, 32, 256
_PAIR_HINT = {"label": "KEY=VALUE", "env": "NAME=VALUE"}


def duration_ms(option: str, text: str, low: float = 1, high: float = DAY_MS) -> int:
    """A duration in milliseconds, from `low` to `high`: a number of seconds, or a number with ms, s, m or h."""
    found = _DURATION.fullmatch(text)
    if not found:
        raise UsageWrong(f"--{option}={text} is not a duration; write 30 (seconds), 1500ms, 30s, 5m or 1h")
    length = float(found[1]) * _UNITS_MS[found[2]]
    if not low <= length <= high:
        raise UsageWrong(f"--{option}={text} must be from {_shown(low)} to {_shown(high)}; write 30 (seconds), 1500ms, 30s, 5m or 1h")
    return round(length)


def _shown(length_ms: float) -> str:
    """A bound in the largest unit that gives a whole number."""
    unit = next((unit for unit in ("h", "m", "s") if length_ms and length_ms % _UNITS_MS[unit] == 0), "ms")
    return f"{length_ms / _UNITS_MS[unit]:g}{unit}"


def moment(option: str, text: str, now: datetime | None = None) -> str:
    """An ISO time in UTC with milliseconds, from an ISO time with its zone or from `+30s`, which counts from `now`."""
    if text.startswith("+"):
        delay_ms = duration_ms(option, text[1:], 0, math.inf)
        try:
            when = (now or datetime.now(UTC)) + timedelta(milliseconds=delay_ms)
        except OverflowError:
            raise UsageWrong(f"--{option}={text} is after the year 9999") from None
    else:
        when = _iso(option, text)
    return f"{when.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03d}Z"


def _iso(option: str, text: str) -> datetime:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise UsageWrong(f"--{option}={text} is not a time; write 2030-01-31T12:00:00Z, with Z or an offset, or +30s")
    return when


def whole(option: str, text: str, low: int = -(10**15), high: int = 10**15) -> int:
    """A whole number from `low` to `high`."""
    if not re.fullmatch(r"-?[0-9]{1,15}", text, re.ASCII):
        raise UsageWrong(f"--{option}={text} is not a whole number")
    if not low <= int(text) <= high:
        raise UsageWrong(f"--{option}={text} must be a whole number from {low} to {high}")
    return int(text)


def capabilities(option: str, texts: Iterable[str]) -> list[str]:
    """The items of comma lists, each a name that a host can offer."""
    found = names(texts)
    for item in found:
        if not _CAPABILITY.fullmatch(item):
            raise UsageWrong(f"--{option}={item} must be at most 64 letters, digits and . _ : -, beginning with a letter or digit")
    if len(found) > MOST_CAPABILITIES:
        raise UsageWrong(f"--{option} must give at most {MOST_CAPABILITIES} names")
    return found


def labels(option: str, texts: Iterable[str]) -> dict[str, str]:
    """NAME=VALUE items as a job's labels may be."""
    found = pairs(option, texts)
    for name, value in found.items():
        if not _LABEL_NAME.fullmatch(name):
            raise UsageWrong(f"--{option}={name}={value} must have a name of at most 64 letters, digits and . _ -")
        if len(value) > LONGEST_LABEL:
            raise UsageWrong(f"--{option}={name} must have a value of at most {LONGEST_LABEL} characters")
    if len(found) > MOST_LABELS:
        raise UsageWrong(f"--{option} must not be given more than {MOST_LABELS} times")
    return found


def pairs(option: str, texts: Iterable[str]) -> dict[str, str]:
    """NAME=VALUE items; the value may hold further equals signs, a name may stand once."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageWrong(f"--{option}={text} has no name and value; write --{option}={_PAIR_HINT.get(option, 'NAME=VALUE')}")
        if name in found:
            raise UsageWrong(f"--{option} gives {name} twice")
        found[name] = value
    return found


def names(texts: Iterable[str]) -> list[str]:
    """The items of comma lists, without blank ones, each once."""
    return list(dict.fromkeys(item.strip() for text in texts for item in text.split(",") if item.strip()))

"""The fields of our schemas: strict, and cheap, because each of them checks a whole value in one pass.

Messages complete a sentence that begins with the field's name; what the client sent is shown shortened and escaped.
"""

import re
from abc import abstractmethod
from contextlib import suppress
from datetime import datetime
from typing import Any

from marshmallow import ValidationError, fields

from api.errors import shorten

Labels = tuple[tuple[str, str], ...]

CAPABILITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
LABEL_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
MAX_CAPABILITIES, MAX_LABELS, MAX_LABEL_VALUE = 64, 32, 256
LAST_MOMENT = 253_402_300_799_999  # ms: the end of the year 9999
HALVES = re.compile("[\ud800-\udfff]")


def shown(value: Any) -> str:
    """A value the client sent, as a message may repeat it."""
    match value:
        case str():
            return f'"{shorten(value)}"'
        case bool() | None:
            return str(value).lower() if value is not None else "null"
        case int() | float():
            return shorten(str(value))
    return "a list" if isinstance(value, list) else "an object"


def wrong(expected: str, value: Any, inner: str = "") -> ValidationError:
    """The error that says what a value must be; `inner` is the path to it below the present field."""
    return problem(f"must be {expected}, not {shown(value)}", inner)


def problem(message: str, inner: str = "") -> ValidationError:
    """An error about the present field, or about something in it."""
    return ValidationError({inner: [message]} if inner else [message])


class Strict(fields.Field[Any]):
    """Base: a value is read in one pass, and missing ones are spoken of in our words."""

    default_error_messages = {"required": "is required", "null": "must not be null"}  # noqa: RUF012  # marshmallow's own way

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:  # noqa: ARG002  # marshmallow's signature
        return self.read(value)

    @abstractmethod
    def read(self, value: Any) -> Any:
        """The value as we use it; raises ValidationError."""


class Whole(Strict):
    """A whole number between two others; not a text, not a float, not a boolean."""

    def __init__(self, low: int, high: int, **more: Any) -> None:
        super().__init__(**more)
        self._low, self._high = low, high

    def read(self, value: Any) -> int:
        if type(value) is not int or not self._low <= value <= self._high:
            raise wrong(f"a whole number from {self._low} to {self._high}", value)
        return value


class Flag(Strict):
    """True or false, and nothing that looks like it."""

    def read(self, value: Any) -> bool:
        if value is not True and value is not False:
            raise wrong("true or false", value)
        return value


class Text(Strict):
    """A text of a certain form; `expected` says in words which."""

    def __init__(self, pattern: re.Pattern[str], expected: str, **more: Any) -> None:
        super().__init__(**more)
        self._pattern, self._expected = pattern, expected

    def read(self, value: Any) -> str:
        if not isinstance(value, str) or not self._pattern.fullmatch(value):
            raise wrong(self._expected, value)
        return value


class Printed(Strict):
    """What a program has printed. Half a surrogate pair, as cutting a text leaves it, becomes a replacement character."""

    def read(self, value: Any) -> str:
        if not isinstance(value, str):
            raise wrong("a text", value)
        return value if value.isascii() else HALVES.sub("\ufffd", value)


class Capabilities(Strict):
    """A list of names: sorted, each once."""

    def read(self, value: Any) -> tuple[str, ...]:
        return capabilities(value)


def capabilities(value: Any) -> tuple[str, ...]:
    """The names in a list, sorted, each once; raises ValidationError."""
    if not isinstance(value, list) or len(value) > MAX_CAPABILITIES:
        raise problem(f"must be a list of at most {MAX_CAPABILITIES} names")
    for name in value:
        if not isinstance(name, str) or not CAPABILITY.fullmatch(name):
            raise problem(f"must consist of names of at most 64 letters, digits and . _ : -, unlike {shown(name)}")
    return tuple(sorted(set(value)))


class Pairs(Strict):
    """Labels: an object of short texts, as sorted pairs."""

    def read(self, value: Any) -> Labels:
        if not isinstance(value, dict) or len(value) > MAX_LABELS:
            raise problem(f"must be an object of at most {MAX_LABELS} texts")
        for name, text in value.items():
            if not LABEL_NAME.fullmatch(name):
                raise problem(f"must have names of at most 64 letters, digits and . _ -, unlike {shown(name)}")
            if not isinstance(text, str) or len(text) > MAX_LABEL_VALUE:
                raise wrong(f"a text of at most {MAX_LABEL_VALUE} characters", text, name)
        return tuple(sorted(value.items()))


class Moment(Strict):
    """A time: ISO 8601 with its zone, or milliseconds since the epoch; becomes milliseconds."""

    def read(self, value: Any) -> int:
        if type(value) is int and 0 <= value <= LAST_MOMENT:
            return value
        if isinstance(value, str) and len(value) <= 40 and value.isascii():
            with suppress(ValueError):
                moment = datetime.fromisoformat(value)
                if moment.tzinfo is not None and moment.year >= 1970:
                    return max(0, int(moment.timestamp() * 1000))
        raise wrong("a time like 2026-01-31T12:00:00Z, or milliseconds since 1970", value)

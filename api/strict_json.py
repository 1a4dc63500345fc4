"""JSON as RFC 8259 means it: one UTF-8 document, no name twice, numbers that survive, no depth that could hurt.

What Python's parser lets pass on top of that (NaN, 1e999, duplicate names, lone surrogates) or chokes on later (a NUL in an argument, an
integer the storage cannot hold) is refused here, with a sentence that says what is wrong.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

MAX_DEPTH = 32
MAX_STRING = 65_536  # bytes of UTF-8
BOM = b"\xef\xbb\xbf"
SUSPICIOUS = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")  # a NUL, or half of a pair
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class BadJson(ValueError):
    """The text is not JSON as we take it; the message says why."""


def parse(text: bytes, *, reports: bool = False) -> Any:
    """The value; raises BadJson. `reports` are texts that carry what a job has printed, which may be long and contain anything."""
    value = _decode(text)
    if text.count(b"{") + text.count(b"[") > MAX_DEPTH and _is_too_deep(text):
        raise BadJson(f"it is nested more than {MAX_DEPTH} deep")
    if not reports:
        _check_strings(text, value)
    return value


def _decode(text: bytes) -> Any:
    if text.startswith(BOM):
        raise BadJson("it begins with a byte order mark")
    try:
        return DECODER.decode(text.decode())
    except UnicodeDecodeError as error:
        raise BadJson(f"it is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise BadJson(f"{error.msg} (line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise BadJson(f"it is nested more than {MAX_DEPTH} deep") from None


def _is_too_deep(text: bytes) -> bool:
    """For a text that is known to be JSON: take the innermost brackets away as often as is allowed, and see whether any are left."""
    brackets = STRING.sub(b"", text).translate(None, NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"()").replace(b"{}", b"()").translate(None, b"()")
    return bool(brackets)


def _check_strings(text: bytes, value: Any) -> None:
    """Look at each string only when the text gives a reason to."""
    if SUSPICIOUS.search(text) is None and not _may_hold_long_strings(text):
        return
    for string in _strings(value):
        if UNSTORABLE.search(string):
            raise BadJson("a string contains a NUL character or half a surrogate pair")
        if len(string) * 4 > MAX_STRING and len(string.encode()) > MAX_STRING:
            raise BadJson(f"a string is longer than {MAX_STRING} bytes")


def _may_hold_long_strings(text: bytes) -> bool:
    return len(text) > MAX_STRING and (b'\\"' in text or max(map(len, text.split(b'"'))) > MAX_STRING)


def _strings(value: Any) -> Iterator[str]:
    """All strings in a value, names included."""
    todo = [value]
    for item in todo:
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            yield from item
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadJson("an object has the same name twice")
    return found


def _integer(text: str) -> int:
    if len(text) > 18 and (len(text) > 20 or not -(2**63) <= int(text) < 2**63):
        raise BadJson("an integer does not fit into 64 bits")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if value - value != 0:
        raise BadJson("a number is too large")
    return value


def _constant(name: str) -> NoReturn:
    raise BadJson(f"{name} is not a JSON value")


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant)

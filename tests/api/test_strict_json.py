"""Every JSON text that the rules allow comes through as it is; everything else is refused with a reason."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.strict_json import MAX_DEPTH, MAX_STRING, BadJson, parse

texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=40)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@given(values, st.booleans(), st.sampled_from([None, 1]))
@settings(max_examples=300, deadline=None)
def test_what_the_rules_allow_comes_through_unchanged(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert repr(parse(text)) == repr(value)


@given(st.binary(max_size=60) | st.text('{}[]",:0123456789eE+-.\\u ntf', max_size=60).map(str.encode))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_either_read_as_python_reads_them_or_refused(text: bytes) -> None:
    try:
        value = parse(text)
    except BadJson:
        return
    assert repr(value) == repr(json.loads(text))


@given(st.lists(texts, min_size=1, max_size=5), texts, st.integers())
@settings(max_examples=100, deadline=None)
def test_a_name_that_comes_twice_is_refused(names: list[str], twice: str, value: int) -> None:
    pairs = [f"{json.dumps(name)}:1" for name in [*dict.fromkeys(names), twice, twice]]
    with pytest.raises(BadJson):
        parse(("{" + ",".join(pairs) + "}").encode() + b" " * (value % 3))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b'{"a":1} x', "Extra data"),
        (b"{}{}", "Extra data"),
        (b'{"a":1,}', "Expecting property name|Illegal trailing comma"),
        (b'{"a":NaN}', "NaN is not"),
        (b"[Infinity]", "Infinity is not"),
        (b"[-Infinity]", "-Infinity is not"),
        (b"[1e999]", "too large"),
        (b"[-1e999]", "too large"),
        (b'{"a":1,"a":2}', "same name twice"),
        (b'{"a":1,"\\u0061":2}', "same name twice"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"\xff", "not UTF-8"),
        ('{"a":1}'.encode("utf-16"), "not UTF-8"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b"9223372036854775808", "64 bits"),
        (b"-9223372036854775809", "64 bits"),
        (b"[" + b"1" * 5000 + b"]", "64 bits"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udfff":1}', "surrogate"),
        (b'["\\u0000"]', "NUL"),
        (b'{"a\\u0000":1}', "NUL"),
        (b'"a\x00"', "Invalid control character"),
        (b'"a\nb"', "Invalid control character"),
        (nested(MAX_DEPTH + 1), "deep"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "deep"),
        (nested(100_000), "deep"),
        (b'"' + b"x" * (MAX_STRING + 1) + b'"', "longer than 65536"),
        (b'["' + b'\\"' * (MAX_STRING + 1) + b'"]', "longer than 65536"),
        (("[" + json.dumps("é" * (MAX_STRING // 2 + 1), ensure_ascii=False) + "]").encode(), "longer than 65536"),
    ],
)
def test_what_is_not_json_is_refused_with_the_reason(text: bytes, reason: str) -> None:
    with pytest.raises(BadJson, match=reason):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        nested(MAX_DEPTH),
        b'["' + b"[{" * 40 + b'"]',
        b'["\\\\", "' + b'\\"[' * 40 + b'"]',
        b"[" + b"[],{}," * 40 + b"1]",
        b'"' + b"x" * MAX_STRING + b'"',
        b"[" + b'"abc",' * 20_000 + b"1]",
        b"9223372036854775807",
        b"-9223372036854775808",
        b'"\\\\u0000"',
        b'"\\ud83d\\ude00"',
        b" \t\r\n{} ",
        b"[1e308,0.1,-0.0,1E-400]",
    ],
)
def test_what_is_just_within_the_limits_is_read(text: bytes) -> None:
    assert repr(parse(text)) == repr(json.loads(text))


def test_reports_may_hold_long_texts_and_whatever_a_program_prints() -> None:
    printed = {"stdout": "x" * (MAX_STRING + 1), "stderr": "\x00\ud83d"}
    assert parse(json.dumps(printed).encode(), reports=True) == printed

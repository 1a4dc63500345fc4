"""Times, labels and numbers as they are typed."""

from datetime import UTC, datetime

import pytest

from skyclaw.entrypoints import option_values
from skyclaw.errors import UsageWrong

NOW = datetime(2026, 11, 20, 12, 0, 0, 7_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "ms"), [("30", 30_000), ("1500ms", 1_500), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("0.5", 500), ("1.5s", 1_500)]
)
def test_a_duration_is_seconds_unless_it_names_its_unit(text: str, ms: int) -> None:
    assert option_values.duration_ms("timeout", text) == ms


@pytest.mark.parametrize("text", ["", "0", "-1", "1d", "1 s", "1e3", "s", "0.0001s", "٣", "1,5s", "9" * 20])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(UsageWrong, match="write 30"):
        option_values.duration_ms("timeout", text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2030-01-31T12:00:00Z", "2030-01-31T12:00:00.000Z"),
        ("2030-01-31T12:00:00.1234+02:00", "2030-01-31T10:00:00.123Z"),
        ("+30s", "2026-11-20T12:00:30.007Z"),
        ("+5", "2026-11-20T12:00:05.007Z"),
    ],
)
def test_a_time_is_absolute_or_counts_from_now(text: str, moment: str) -> None:
    assert option_values.moment("not-before", text, NOW) == moment


@pytest.mark.parametrize("text", ["", "tomorrow", "2030-01-31", "2030-01-31T12:00:00", "2030-13-01T00:00:00Z", "+", "+soon", "+-5"])
def test_a_time_without_its_zone_is_none(text: str) -> None:
    with pytest.raises(UsageWrong):
        option_values.moment("not-before", text, NOW)


def test_pairs_keep_what_follows_the_first_equals_sign() -> None:
    assert option_values.pairs("env", ["A=", "B=x=y"]) == {"A": "", "B": "x=y"}


@pytest.mark.parametrize("texts", [["A"], ["=x"], [""], ["A=1", "A=2"]])
def test_pairs_need_a_name_and_name_it_once(texts: list[str]) -> None:
    with pytest.raises(UsageWrong):
        option_values.pairs("env", texts)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("-5", -5), ("007", 7)])
def test_a_number_is_digits(text: str, number: int) -> None:
    assert option_values.whole("priority", text) == number


@pytest.mark.parametrize("text", ["", "1.0", "1e3", "0x10", "1_0", "+1", "٣", "9" * 16])
def test_and_nothing_else(text: str) -> None:
    with pytest.raises(UsageWrong, match="whole number"):
        option_values.whole("priority", text)


@pytest.mark.parametrize("text", ["24.1h", "1441m", "86401", "0", "0.1ms"])
def test_a_duration_beyond_its_range_names_it(text: str) -> None:
    with pytest.raises(UsageWrong, match="must be from 1ms to 24h"):
        option_values.duration_ms("timeout", text)


def test_a_time_may_be_now_but_not_after_the_year_9999() -> None:
    assert option_values.moment("not-before", "+0s", NOW) == "2026-11-20T12:00:00.007Z"
    for text in ("+999999999h", "+999999999999h"):
        with pytest.raises(UsageWrong, match="after the year 9999"):
            option_values.moment("not-before", text, NOW)


@pytest.mark.parametrize("text", ["0", "101", "-1"])
def test_a_number_beyond_its_range_names_option_and_range(text: str) -> None:
    with pytest.raises(UsageWrong, match=f"--max-attempts={text} must be a whole number from 1 to 100"):
        option_values.whole("max-attempts", text, 1, 100)


@pytest.mark.parametrize("text", ["-gpu", "a b", "x" * 65, "gpu,ü", "a/b"])
def test_a_capability_is_a_short_plain_name(text: str) -> None:
    with pytest.raises(UsageWrong, match=r"--cap=.* must be at most 64 letters"):
        option_values.capabilities("cap", [text])


def test_capabilities_have_a_highest_number() -> None:
    assert option_values.capabilities("cap", ["a:1.0,b_c-d", "x" * 64]) == ["a:1.0", "b_c-d", "x" * 64]
    with pytest.raises(UsageWrong, match="at most 64 names"):
        option_values.capabilities("cap", [f"c{number}" for number in range(65)])


@pytest.mark.parametrize(
    ("texts", "rule"),
    [(["a b=1"], "a name of at most 64"), (["a=" + "x" * 257], "a value of at most 256"), ([f"l{n}=1" for n in range(33)], "more than 32")],
)
def test_labels_are_short_and_few(texts: list[str], rule: str) -> None:
    with pytest.raises(UsageWrong, match=rule):
        option_values.labels("label", texts)


def test_names_come_from_lists_and_repetitions_alike() -> None:
    assert option_values.names(["shell", "gpu, big,,", "gpu"]) == ["shell", "gpu", "big"]

"""Durations and instants as people write them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tidegate.timeformat import Duration, format_duration, instant, parse_duration, parse_instant


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("15s", 15),
        ("15", 15),
        ("2m", 120),
        (" 2 m ", 120),
        ("1h", 3600),
        ("7d", 604800),
        ("1.5h", 5400),
        ("0.000001s", 1e-6),
        ("3650d", 3650 * 86400),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "m", "-1s", "+1s", "1 week", "1e3s", "2M", "1m30s", "٣s", "1.s", ".5s", "nan", "inf", "2m\0"]
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; write a number and a unit"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0", "0ms", "0.0001ms", "3651d", "999999999d"])
def test_nothing_and_more_than_ten_years_are_out_of_range(text: str) -> None:
    with pytest.raises(ValueError, match="out of range"):
        parse_duration(text)


@given(st.timedeltas(min_value=timedelta(microseconds=1), max_value=timedelta(days=3650)))
def test_what_is_written_is_read_back_exactly(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(("seconds", "text"), [(86400, "1d"), (90, "90s"), (120, "2m"), (5400, "90m"), (0.5, "0.5s")])
def test_the_shortest_writing_is_chosen(seconds: float, text: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == text


FIELD: TypeAdapter[timedelta] = TypeAdapter(Duration)


@pytest.mark.parametrize(("value", "seconds"), [("2m", 120), (90, 90), (0.25, 0.25), (timedelta(seconds=3), 3)])
def test_a_field_takes_texts_and_seconds(value: object, seconds: float) -> None:
    assert FIELD.validate_python(value) == timedelta(seconds=seconds)


@pytest.mark.parametrize("value", [True, False, 0, -1, None, [], "soon", float("nan"), float("inf")])
def test_a_field_refuses_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValidationError):
        FIELD.validate_python(value)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2026-12-24T18:00:00Z", "2026-12-24T18:00:00.000Z"),
        ("2026-12-24t18:00:00.123456789z", "2026-12-24T18:00:00.123Z"),
        ("2026-12-24 18:00:00+01:00", "2026-12-24T17:00:00.000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
    ],
)
def test_an_instant_is_rfc_3339(text: str, written: str) -> None:
    assert instant(parse_instant(text)) == written


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "1795435200", "1795435200.5", "2026-12-24", "2026-12-24T18:00Z", "2026-12-24T18:00:00"),
        *("2026-02-30T18:00:00Z", "2026-12-24T18:00:00 01:00", "2026-12-24T24:00:01Z", "2026-12-24T18:00:00+0100"),
        *("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "2026-12-24T18:00:00Z\n", "٢٠٢٦-12-24T18:00:00Z"),
    ],
)
def test_nothing_else_is_an_instant(text: str) -> None:
    with pytest.raises(ValueError, match="is no instant of RFC 3339 such as"):
        parse_instant(text)

"""Rates whose windows begin by the clock of a time zone: what is read, where windows lie, and that each holds."""

import bisect
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidegate.clock import to_microseconds
from tidegate.rate import Rate, read_rate
from tidegate.rate_limit import AHEAD, LATE, Allowance, Pace, common_slot, next_slot, quota_wait, take_slots

SECOND = 1_000_000
HOUR = 3600 * SECOND
ZONES = ["UTC", "Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns"]
PERIODS = ["1s", "1m", "15m", "1h", "90m", "2h", "144m", "6h", "1d"]


def at(text: str, zone: str = "UTC", *, fold: int = 0) -> int:
    return to_microseconds(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC))


def by_calendar(text: str, zone: str = "UTC") -> Rate:
    return Rate.parse(f"{text} calendar {zone}")


@pytest.mark.parametrize(
    ("rate", "instant", "begin", "end"),
    [
        (by_calendar("5/d"), at("2026-06-01T12:00"), at("2026-06-01"), at("2026-06-02")),
        (by_calendar("5/d"), at("2026-06-01"), at("2026-06-01"), at("2026-06-02")),
        (by_calendar("5/m"), at("2026-06-01T12:00:59.999999"), at("2026-06-01T12:00"), at("2026-06-01T12:01")),
        (by_calendar("5/6h"), at("2026-06-01T12:30"), at("2026-06-01T12:00"), at("2026-06-01T18:00")),
        (
            by_calendar("5/d", "Europe/Berlin"),
            at("2026-06-01T23:00"),
            at("2026-06-02", "Europe/Berlin"),
            at("2026-06-03", "Europe/Berlin"),
        ),
        (  # 23 hours
            by_calendar("5/d", "Europe/Berlin"),
            at("2026-03-29T12:00"),
            at("2026-03-28T23:00"),
            at("2026-03-29T22:00"),
        ),
        (  # 25 hours
            by_calendar("5/d", "Europe/Berlin"),
            at("2026-10-25T12:00"),
            at("2026-10-24T22:00"),
            at("2026-10-25T23:00"),
        ),
        (  # the hour that is there twice
            by_calendar("5/h", "Europe/Berlin"),
            at("2026-10-25T02:30", "Europe/Berlin", fold=1),
            at("2026-10-25T01:00"),
            at("2026-10-25T02:00"),
        ),
        (  # a quarter of an hour east of the others
            by_calendar("5/h", "Asia/Kathmandu"),
            at("2026-06-01T12:00"),
            at("2026-06-01T11:15"),
            at("2026-06-01T12:15"),
        ),
    ],
)
def test_a_window_begins_by_the_clock_of_its_zone(rate: Rate, instant: int, begin: int, end: int) -> None:
    assert rate.calendar_window(instant) == (begin, end)


@given(
    zone=st.sampled_from(ZONES),
    period=st.sampled_from(PERIODS),
    instant=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001 - given its zone below
)
@example("Europe/Berlin", "144m", datetime(2026, 10, 25, 1, 10))  # noqa: DTZ001
def test_every_instant_lies_in_its_window_and_the_windows_leave_no_gap(
    zone: str, period: str, instant: datetime
) -> None:
    rate, now = by_calendar(f"1/{period}", zone), to_microseconds(instant.replace(tzinfo=UTC))
    begin, end = rate.calendar_window(now)
    assert begin <= now < end
    assert end - begin <= rate.period + 2 * HOUR
    assert rate.calendar_window(begin - 1)[1] >= begin
    assert rate.calendar_window(end)[0] <= end


looks = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 200_000), st.integers(0, 40 * SECOND), st.integers(0, 9 * HOUR)),
        st.sampled_from([1, 3, 40]),
        st.sampled_from([0, 120_000, AHEAD]),
    ),
    max_size=40,
)


@given(
    texts=st.tuples(
        st.lists(st.sampled_from(["4/s", "30/m", "20/15m", "50/h", "40/6h", "60/d"]), min_size=1, max_size=2),
        st.lists(st.sampled_from(["3/s", "100/m"]), max_size=1),
    ),
    zone=st.sampled_from(ZONES),
    burst=st.sampled_from([1, 5, 100]),
    looks=looks,
    begin=st.sampled_from([at("2026-06-01T11:59:59.9"), at("2026-10-24T20:00"), at("2026-03-28T20:00")]),
)
def test_no_window_of_the_calendar_has_more_calls_than_the_rate(
    texts: tuple[list[str], list[str]], zone: str, burst: int, looks: list[tuple[int, int, int]], begin: int
) -> None:
    """However late each call begins, and though the partner's clock is 20 ms off."""
    rates = [*(by_calendar(text, zone) for text in texts[0]), *map(Rate.parse, texts[1])]
    allowance, now, pace, calls = Allowance(rates=tuple(rates), burst=burst), begin, Pace(), list[int]()
    for wait, wanted, horizon in looks:
        now += wait
        slots, pace = take_slots(allowance, pace, now=now, wanted=wanted, horizon=horizon)
        calls += slots
    assert calls == sorted(calls)
    for rate in rates[: len(texts[0])]:
        for slot in calls:
            first, last = rate.calendar_window(slot)
            within = bisect.bisect_right(calls, last + LATE) - bisect.bisect_left(calls, first - LATE)
            assert within <= rate.calls


@given(begin=st.integers(0, 90_000), burst=st.sampled_from([1, 50]), calls=st.integers(1, 40))
def test_a_slot_of_two_limiters_is_one_at_which_both_have_room(begin: int, burst: int, calls: int) -> None:
    """Around midnight there may be room at an instant of the old day and, a little later, none."""
    daily = Allowance(rates=(by_calendar("20/d", "Europe/Berlin"), Rate.parse("200/s")), burst=50)
    common = Allowance(rates=(Rate.parse("30/s"),), burst=burst)
    now, paces = at("2026-06-02", "Europe/Berlin") - 60_000 + begin, [Pace(), Pace()]
    _, paces[0] = take_slots(daily, paces[0], now=at("2026-06-01T12:00", "Europe/Berlin"), wanted=13, horizon=SECOND)
    for _ in range(calls):
        both = list(zip((daily, common), paces, strict=True))
        slot = common_slot(both, now=now)
        assert [next_slot(*each, now=slot) for each in both] == [slot, slot]
        taken = [take_slots(*each, now=slot, wanted=1, horizon=0) for each in both]
        assert [slots for slots, _ in taken] == [[slot], [slot]]
        paces, now = [pace for _, pace in taken], slot


def test_a_used_up_day_waits_for_midnight_and_then_all_of_it_may_go() -> None:
    allowance = Allowance(rates=(by_calendar("20/d", "Europe/Berlin"), Rate.parse("10/s")), burst=1)
    evening, midnight = at("2026-06-01T23:50", "Europe/Berlin"), at("2026-06-02", "Europe/Berlin")
    slots, pace = take_slots(allowance, Pace(), now=evening, wanted=30, horizon=60 * SECOND)

    assert len(slots) == 20
    assert midnight < next_slot(allowance, pace, now=evening) <= midnight + LATE + 1
    assert quota_wait(allowance, pace, now=evening, behind=0) <= midnight + LATE - evening
    assert quota_wait(allowance, pace, now=evening, behind=45) > 2 * 24 * HOUR
    more, _ = take_slots(allowance, pace, now=midnight + SECOND, wanted=30, horizon=60 * SECOND)
    assert len(more) == 20


def test_it_spaces_the_calls_only_where_it_is_the_only_rate() -> None:
    alone = Allowance(rates=(by_calendar("60/m"),))
    slots, _ = take_slots(alone, Pace(), now=at("2026-06-01T12:00:01"), wanted=5, horizon=20 * SECOND)
    assert {later - slot for slot, later in pairwise(slots)} == {(60 * SECOND + LATE) // 60}

    beside = Allowance(rates=(by_calendar("60/m"), Rate.parse("20/m")), burst=1)
    assert beside.pacing == Rate.parse("20/m")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("600 / m", "600/m"),
        ({"rate": "10000/d", "window": "calendar", "zone": "Europe/Berlin"}, "10000/d calendar Europe/Berlin"),
        ("10000/d calendar Europe/Berlin", "10000/d calendar Europe/Berlin"),
        ({"rate": "60/60s", "window": "calendar", "zone": "UTC"}, "60/m calendar UTC"),
    ],
)
def test_a_rate_is_read_as_a_text_or_an_object(value: object, text: str) -> None:
    assert read_rate(value) == text
    assert str(Rate.parse(text)) == text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"rate": "10/7d", "window": "calendar", "zone": "UTC"}, "goes into one"),
        ({"rate": "10/7m", "window": "calendar", "zone": "UTC"}, "goes into one"),
        ({"rate": "10/d", "window": "calendar", "zone": "Berlin"}, "no time zone"),
        ({"rate": "10/d", "window": "calendar", "zone": "../../etc/passwd"}, "no time zone"),
        ({"rate": "10/d", "window": "calendar", "zone": "Europe"}, "no time zone"),
        ({"rate": "10/d", "window": "calendar", "zone": ""}, "not a rate"),
        ({"rate": "10/d", "window": "sliding", "zone": "UTC"}, "no kind of window"),
        ({"rate": "10/d", "window": "calendar"}, "write a text"),
        ({"rate": "10/d"}, "write a text"),
        ({"rate": "10/d", "window": "calendar", "zone": "UTC", "burst": "1"}, "write a text"),
        ({"rate": 10, "window": "calendar", "zone": "UTC"}, "write a text"),
        (50, "write a text"),
        (None, "write a text"),
        (["50/s"], "write a text"),
    ],
)
def test_what_is_no_rate_says_how_one_is_written(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_rate(value)


def test_a_year_of_days_follows_one_behind_the_other() -> None:
    rate, instant = by_calendar("1/d", "Europe/Berlin"), at("2026-01-01", "Europe/Berlin")
    lengths = set()
    for _ in range(366):
        begin, end = rate.calendar_window(instant)
        assert begin == instant
        lengths.add((end - begin) // HOUR)
        instant = end
    assert lengths == {23, 24, 25}
    assert timedelta(microseconds=instant - at("2026-01-01", "Europe/Berlin")) == timedelta(days=366)

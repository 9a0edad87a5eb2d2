"""What an answer's header lines say of when to call again, and of what is left."""

from datetime import UTC, datetime, timedelta

import pytest

from tidegate.operations.quota_fields import LONGEST, Quota, QuotaFields, read_quota_fields

NOW = datetime(2026, 11, 6, 8, 49, 37, tzinfo=UTC)
EPOCH_SECONDS = int(NOW.timestamp())
HOUR = timedelta(hours=1)
MOST = LONGEST.total_seconds()


def read(*lines: tuple[str, str], now: datetime = NOW) -> QuotaFields:
    return read_quota_fields([(name.encode(), value.encode("latin-1")) for name, value in lines], now)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("30", 30),
        (" 7 ", 7),
        ("1.5", 2),
        ("0.001", 1),
        ("2.0", 2),
        ("3.", 3),
        ("007", 7),
        (str(10**30), MOST),
        ("9" * 40, MOST),
        ("99999999.5", MOST),
        *((rubbish, None) for rubbish in ("", "soon", "-5", "+5", "1e999", "1e3", "nan", "NaN", "inf", "0x10", "1,5")),
        *((rubbish, None) for rubbish in ("5, 10", "5;q=1", "\u00b2", "1 2", ".5", "9" * 5000, "\x00", "Infinity")),
    ],
)
def test_retry_after_in_seconds_is_rounded_up_bounded_or_ignored(value: str, seconds: float | None) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert read(("Retry-After", value)).retry_after == expected


@pytest.mark.parametrize(
    "written", ["Fri, 06 Nov 2026 08:50:07 GMT", "Friday, 06-Nov-26 08:50:07 GMT", "Fri Nov  6 08:50:07 2026"]
)
@pytest.mark.parametrize("ours", [NOW, NOW - HOUR, NOW + HOUR])
def test_a_date_is_read_against_the_answers_own_clock(written: str, ours: datetime) -> None:
    """In each of the three forms that HTTP has for it."""
    dated = ("Date", "Fri, 06 Nov 2026 08:49:37 GMT")
    assert read(("retry-after", written), dated, now=ours).retry_after == timedelta(seconds=30)
    assert read(("retry-after", written), now=NOW).retry_after == timedelta(seconds=30), "without Date by our clock"
    assert read(("retry-after", written), ("Date", "yesterday"), now=NOW).retry_after == timedelta(seconds=30)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Fri, 06 Nov 2026 08:49:00 GMT", timedelta(0)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", timedelta(0)),
        ("Fri, 06 Nov 2026 10:49:38 +0200", timedelta(seconds=1)),
        ("Fri, 06 Nov 2026 08:49:38 -0000", timedelta(seconds=1)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST),
        ("Fri, 06 Nov 99999 08:49:37 GMT", None),
        ("Fri, 32 Nov 2026 08:49:37 GMT", None),
        ("2026-11-06T08:50:07Z", None),
    ],
)
def test_a_date_that_is_over_or_far_off_is_bounded(written: str, expected: timedelta | None) -> None:
    assert read(("Retry-After", written)).retry_after == expected


def test_of_several_retry_afters_the_longest_that_can_be_read_holds() -> None:
    lines = [("Retry-After", value) for value in ("3", "later", "Fri, 06 Nov 2026 08:50:07 GMT")]
    assert read(*lines).retry_after == timedelta(seconds=30)


def quota(left: int, seconds: float, name: str = "default") -> Quota:
    return Quota(name=name, left=left, resets_in=timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("field", "quotas"),
    [
        ('"default";r=0;t=30', [quota(0, 30)]),
        ("default;r=5;t=30", [quota(5, 30)]),
        ('"a";r=50;t=30, "b";r=2;t=9;unknown=1', [quota(2, 9, "b"), quota(50, 30, "a")]),
        ('"a";r=1;t=5;pk=:YQ==:', [quota(1, 5, "a 61")]),
        ('"default";t=30;r=1;r=0', [quota(0, 30)]),
        ("limit=100, remaining=50, reset=5", [quota(50, 5, "")]),
        (f'"default";r={10**14};t={10**14}', [quota(10**14, MOST)]),
        *((silent, []) for silent in ('"default"', '"default";r=0', '"default";t=5', '"default";r=0;t=0', "", "100")),
        *(
            (bad, [])
            for bad in ('"default";r=-1;t=5', '"d";r=1.5;t=5', '"d";r="0";t=5', '"d";r=?0;t=5', '"d";r=0;t=-5')
        ),
        *((bad, []) for bad in ('"default;r=0;t=5', "(a b);r=0;t=5", "r=0;t=5,,", "\x00", "1;r=0;t=5", "remaining=0")),
        (f'"d";r={10**30};t=5', []),
    ],
)
def test_ratelimit_is_read_as_the_structured_field_that_it_is(field: str, quotas: list[Quota]) -> None:
    assert list(read(("RateLimit", field)).quotas) == quotas


def test_ratelimit_in_several_lines_is_one_list() -> None:
    assert [each.left for each in read(("RateLimit", '"a";r=7;t=1'), ("ratelimit", '"b";r=3;t=1')).quotas] == [3, 7]


@pytest.mark.parametrize(
    ("policy", "quotas"),
    [
        ('"default";q=100;w=60', [quota(0, 60)]),
        ('"other";q=100;w=60', []),
        ('"default";q=100', []),
        ("malformed;;", []),
        ('"default";q=9;w=60;qu="content-bytes"', [quota(0, 60)]),
        ('"default";q=9;w=60;qu="concurrent-requests"', []),
    ],
)
def test_a_quota_without_a_reset_lasts_for_the_window_of_its_policy(policy: str, quotas: list[Quota]) -> None:
    assert list(read(("RateLimit", '"default";r=0'), ("RateLimit-Policy", policy)).quotas) == quotas


def test_bytes_that_are_left_are_no_calls() -> None:
    assert read(("RateLimit", '"d";r=9;t=5'), ("RateLimit-Policy", '"d";q=9;w=5;qu="content-bytes"')).quotas == ()


@pytest.mark.parametrize("prefix", ["X-RateLimit", "RateLimit"])
@pytest.mark.parametrize(
    ("left", "reset", "quotas"),
    [
        ("0", "30", [quota(0, 30, "")]),
        ("17", "0.2", [quota(17, 1, "")]),
        ("0", str(EPOCH_SECONDS + 30), [quota(0, 30, "")]),
        ("0", f"{EPOCH_SECONDS + 30}.5", [quota(0, 31, "")]),
        ("0", str((EPOCH_SECONDS + 30) * 1000), [quota(0, 30, "")]),
        ("0", str((EPOCH_SECONDS + 30) * 1000 - 1), [quota(0, 30, "")]),
        ("0", str(10**30), [quota(0, MOST, "")]),
        *(("0", over, []) for over in (str(EPOCH_SECONDS - 5), "0", "-3", "soon", "nan", "1e999", "")),
        *((bad, "30", []) for bad in ("", "-1", "none", "1.5", "1e3", "nan")),
    ],
)
def test_remaining_and_reset_are_seconds_or_an_instant_by_their_size(
    prefix: str, left: str, reset: str, quotas: list[Quota]
) -> None:
    lines = (f"{prefix}-Remaining", left), (f"{prefix}-Reset", reset)
    assert list(read(*lines).quotas) == quotas
    ahead = read(*lines, ("Date", "Fri, 06 Nov 2026 08:49:37 GMT"), now=NOW + HOUR)
    assert list(ahead.quotas) == quotas, "an instant is by the clock of the server that answered"


def test_the_same_quota_in_several_ways_is_told_once() -> None:
    old = ("X-RateLimit-Remaining", "3"), ("X-RateLimit-Reset", "30")
    assert read(("RateLimit", '"default";r=5;t=7'), *old).quotas == (quota(5, 7),)
    assert read(("RateLimit", "malformed;;"), *old).quotas == (quota(3, 30, ""),)


def test_a_full_server_rests_as_it_asks_else_until_its_spent_quotas_reset() -> None:
    spent = ("RateLimit", '"a";r=0;t=5, "b";r=0;t=9, "c";r=1;t=60')
    assert read(spent).rest == timedelta(seconds=9)
    assert read(spent, ("Retry-After", "2")).rest == timedelta(seconds=2)
    assert read(("RateLimit", '"c";r=1;t=60')).rest is None


def test_names_and_numbers_of_quotas_are_bounded() -> None:
    many = ", ".join(f'"{"n" * 100}{number}";r={number};t=5' for number in range(100))
    quotas = read(("RateLimit", many)).quotas
    assert [each.left for each in quotas] == [*range(8)]
    assert {len(each.name) for each in quotas} == {64}

"""What the sample downstream takes and refuses, and what it asks for its goods."""

from http import HTTPStatus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.downstream import Capacity
from demo.quotes import QuoteError, quote

OK, TOO_MANY, BUSY = HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE


def test_calls_beyond_the_rate_are_refused_until_a_second_has_passed() -> None:
    capacity = Capacity(rate=3, concurrency=100)
    assert [capacity.arrive(10.0).status for _ in range(5)] == [OK] * 3 + [TOO_MANY] * 2
    assert capacity.arrive(10.999).status is TOO_MANY
    assert capacity.arrive(11.0).status is OK
    counts = capacity.counts()
    assert (counts.accepted, counts.refused_rate, counts.refused_concurrency) == (4, 3, 0)


def test_calls_beyond_the_concurrency_are_refused_until_one_has_left() -> None:
    capacity = Capacity(rate=100, concurrency=2)
    assert [capacity.arrive(0.0).status for _ in range(3)] == [OK, OK, BUSY]
    capacity.leave()
    assert capacity.arrive(0.0).open == 2
    counts = capacity.counts()
    assert (counts.accepted, counts.refused_concurrency, counts.open, counts.max_open) == (3, 1, 2, 2)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 0.3), st.floats(0, 0.4)), max_size=200))
def test_no_second_has_more_accepted_calls_than_the_rate(calls: list[tuple[float, float]]) -> None:
    """Also where threads are late to ask, and so ask out of order."""
    capacity = Capacity(rate=7, concurrency=1000)
    now, accepted = 0.0, []
    for gap, late in calls:
        now += gap
        if capacity.arrive(now - late).status is OK:
            accepted.append(now - late)
    for last in accepted:
        assert sum(0 <= last - at < 1.0 for at in accepted) <= 7


def test_what_was_accepted_counts_for_a_call_that_came_before_it() -> None:
    capacity = Capacity(rate=2, concurrency=100)
    assert [capacity.arrive(at).status for at in (10.0, 10.5)] == [OK, OK]
    assert capacity.arrive(9.6).status is TOO_MANY, "three from 9.6 to 10.5"
    assert capacity.arrive(9.4).status is OK, "10.5 is more than a second later"


@pytest.mark.parametrize("rate", [1, 7, 20, 50, 333])
def test_the_pace_of_a_rate_is_never_refused_for_starting_up_to_20_ms_late(rate: int) -> None:
    """Slots of N calls lie a second and 20 ms apart: the worst case is that some are late and the others on time."""
    capacity = Capacity(rate=rate, concurrency=10_000)
    starts = [max(0.0199, slot * 1.02 / rate) for slot in range(3 * rate)]
    assert {capacity.arrive(start).status for start in starts} == {OK}


def test_a_quote_is_the_same_for_the_same_sku_and_grows_with_the_quantity() -> None:
    one, three = quote(b'{"sku": "A-100", "quantity": 1}'), quote(b'{"sku": "A-100", "quantity": 3}')
    assert one == quote(b'{"quantity": 1, "sku": "A-100"}')
    assert three["unit_price"] == one["unit_price"] == one["total"]
    assert three["total"] == pytest.approx(3 * one["total"])
    assert three.keys() == {"sku", "quantity", "unit_price", "total", "currency"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 60_000,
        b"[]",
        b'{"quantity": 1}',
        b'{"sku": "", "quantity": 1}',
        b'{"sku": 7, "quantity": 1}',
        b'{"sku": "A", "quantity": 0}',
        b'{"sku": "A", "quantity": true}',
        b'{"sku": "A", "quantity": 1.5}',
        b'{"sku": "A", "quantity": NaN}',
    ],
)
def test_a_body_that_asks_for_nothing_is_refused(body: bytes) -> None:
    with pytest.raises(QuoteError):
        quote(body)

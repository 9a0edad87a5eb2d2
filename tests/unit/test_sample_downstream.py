"""What the sample downstream takes and refuses, and what it asks for its goods."""

from http import HTTPStatus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.downstream import Capacity, QuoteError, quote

OK, TOO_MANY, BUSY = HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE


def test_calls_beyond_the_rate_are_refused_until_a_second_has_passed() -> None:
    capacity = Capacity(rate=3, concurrency=100, burst=1)
    assert [capacity.arrive(now=10.0).status for _ in range(6)] == [OK] * 4 + [TOO_MANY] * 2
    assert capacity.arrive(now=10.999).status is TOO_MANY
    assert capacity.arrive(now=11.0).status is OK
    counts = capacity.counts()
    assert (counts.accepted, counts.refused_rate, counts.refused_concurrency) == (5, 3, 0)


def test_calls_beyond_the_concurrency_are_refused_until_one_has_left() -> None:
    capacity = Capacity(rate=100, concurrency=2, burst=1)
    assert [capacity.arrive(now=0.0).status for _ in range(3)] == [OK, OK, BUSY]
    capacity.leave()
    assert capacity.arrive(now=0.0).open == 2
    counts = capacity.counts()
    assert (counts.accepted, counts.refused_concurrency, counts.open, counts.max_open) == (3, 1, 2, 2)


@settings(deadline=None)
@given(st.lists(st.floats(0, 0.3), max_size=200))
def test_no_second_has_more_accepted_calls_than_allowed(gaps: list[float]) -> None:
    capacity = Capacity(rate=5, concurrency=1000, burst=2)
    now, accepted = 0.0, []
    for gap in gaps:
        now += gap
        if capacity.arrive(now).status is OK:
            accepted.append(now)
    for last in accepted:
        assert sum(last - 1.0 < at <= last for at in accepted) <= 7


@pytest.mark.parametrize("rate", [1, 7, 20, 50, 333])
def test_a_pace_at_the_rate_is_never_refused_for_starting_up_to_20_ms_late(rate: int) -> None:
    capacity = Capacity(rate=rate, concurrency=10_000, burst=1)
    # The worst case: the calls of the first 20 ms are all late, those after it on time.
    starts = [max(0.0199, slot / rate) for slot in range(3 * rate)]
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

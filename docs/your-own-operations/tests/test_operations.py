"""The operations as a worker runs them, without Tidegate's server."""

import pytest

from acme.operations import Line, invoice
from tidegate.errors import InvalidInput
from tidegate.testing import Failed, run


def test_the_lines_are_added_up() -> None:
    ran = run(invoice, [{"price": "9.90", "quantity": 2}, {"price": "0.20", "quantity": 1}])
    assert ran.result == {"total": "20.00", "currency": "EUR"}
    assert [report.percent for report in ran.progress] == [0, 50, 99]


def test_two_currencies_fail_for_good() -> None:
    lines = [Line(price=1, quantity=1), Line(price=1, quantity=1, currency="CHF")]
    ran = run(invoice, [line.model_dump(mode="json") for line in lines])
    assert isinstance(ran.outcome, Failed)
    assert ran.outcome.message == "one currency is wanted, not 2"


def test_a_line_without_a_quantity_is_refused_at_the_submit() -> None:
    with pytest.raises(InvalidInput):
        run(invoice, [{"price": "9.90"}])

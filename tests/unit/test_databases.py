"""Outside tests/conformance a test runs on one database, or says why it runs on both."""

import pytest

from tests.support.databases import MARK, UNEXPLAINED, on_both_without_a_reason

pytest_plugins = ["pytester"]

PLANTED = """
import pytest

both = pytest.mark.parametrize("url", ["sqlite", "postgresql"])
kind = pytest.fixture(params=["sqlite", "postgresql"])(lambda request: request.param)

@both
def test_by_a_parameter(url): ...

def test_by_a_fixture(kind): ...

@pytest.mark.{mark}
@both
def test_by_a_mark_without_a_reason(url): ...

@pytest.mark.{mark}("outages")
@both
def test_with_a_reason(url): ...

@pytest.mark.parametrize("url", ["sqlite"])
def test_on_one(url): ...
"""


def test_who_runs_on_both_databases_says_why(request: pytest.FixtureRequest) -> None:
    """Of all that this run collected, whatever it was asked to run of it."""
    assert request.config.stash[UNEXPLAINED] == []


def test_who_does_not_say_why_is_found(pytester: pytest.Pytester) -> None:
    pytester.makeini(f"[pytest]\nmarkers = {MARK}: why")
    items = pytester.getitems(PLANTED.format(mark=MARK))

    found = [name.partition("::")[2] for name in on_both_without_a_reason(items)]

    assert found == ["test_by_a_parameter", "test_by_a_fixture", "test_by_a_mark_without_a_reason"]

"""The number of workers of a queue, as it is written."""

import pytest

from tidegate.operations.worker_range import WorkerRange


@pytest.mark.parametrize(
    ("text", "lowest", "highest"), [("3", 3, 3), ("1-4", 1, 4), (" 2 - 8 ", 2, 8), ("2-2", 2, 2), ("1-1000", 1, 1000)]
)
def test_a_number_or_a_range_is_read(text: str, lowest: int, highest: int) -> None:
    read = WorkerRange.parse(text)
    assert (read.lowest, read.highest) == (lowest, highest)
    assert WorkerRange.parse(str(read)) == read


@pytest.mark.parametrize("text", ["", "0", "0-3", "4-1", "1-", "-1", "1-2-3", "many", "1.5", "1-1001"])
def test_anything_else_is_refused_and_says_what_is_right(text: str) -> None:
    with pytest.raises(ValueError, match=r"1-4|from 1 to 1,000"):
        WorkerRange.parse(text)


def test_a_wanted_number_is_brought_into_the_range() -> None:
    read = WorkerRange.parse("2-4")
    assert [read.nearest(wanted) for wanted in (0, 2, 3, 4, 99)] == [2, 2, 3, 4, 4]
    assert (str(read), read.is_fixed, WorkerRange.parse("2").is_fixed) == ("2-4", False, True)

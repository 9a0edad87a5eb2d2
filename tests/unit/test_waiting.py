"""Waiting ends with what was waited for, or with a sentence about it."""

import pytest

from tests.support.waiting import wait_until


def test_waiting_returns_the_first_truthy_answer() -> None:
    answers = iter([0, None, "there"])
    assert wait_until(lambda: next(answers), description="it is there") == "there"


def test_waiting_in_vain_says_for_what_and_what_was_last_seen() -> None:
    with pytest.raises(AssertionError, match=r"0 s in vain until the job is final; last value: 0"):
        wait_until(lambda: 0, description="the job is final", timeout_seconds=0)

"""What `Prefer` is read as."""

from pathlib import Path

import pytest

from config.settings import Settings
from webapp.http.preferences import Preferences, preferences_in


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("wait=10", Preferences(wait=10)),
        ("respond-async, wait=10", Preferences(wait=10, respond_async=True)),
        ("respond-async,wait=10", Preferences(wait=10, respond_async=True)),
        ('WAIT = "10"; level=1 , Respond-Async', Preferences(wait=10, respond_async=True)),
        ("wait=3, wait=9", Preferences(wait=3)),
        ("wait=x, wait=9", Preferences(wait=9)),
        ("wait=999999999", Preferences(wait=20)),
        ("wait=9999999999", Preferences()),
        ("wait=0", Preferences()),
        ("wait=-1", Preferences()),
        ("wait=1.5", Preferences()),
        ("wait=٣", Preferences()),  # a digit, but none of HTTP's
        ("wait", Preferences()),
        ("handling=strict; x=wait, return=minimal", Preferences()),
        ('foo="a, wait=10"', Preferences()),
        (",;=,,", Preferences()),
        ("", Preferences()),
    ],
)
def test_it_is_a_list_and_what_cannot_be_read_is_no_preference(
    tmp_path: Path, header: str, expected: Preferences
) -> None:
    longest = Settings(_env_file=None, data=tmp_path).hold_seconds
    assert preferences_in(header, longest) == expected

"""How a setting's value is written: in `tidegate settings`, and in the tables of docs/."""

from datetime import timedelta

from tidegate.timeformat import format_duration


def as_text(value: object) -> str:
    """Formats a setting's value as one would write it."""
    match value:
        case None:
            return ""
        case tuple():
            return ",".join(map(str, value))
        case timedelta():
            return format_duration(value)
        case _:
            return str(value)

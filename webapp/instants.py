"""Instants as clients read them."""

from datetime import UTC, datetime


def instant(value: datetime | None) -> str | None:
    """RFC 3339 in UTC with milliseconds."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if value else None

"""What a downstream's answer over HTTP means to the operation that called it. Pure."""

from pydantic import JsonValue

ERROR_BODY_BYTES = 4096


def detail_of(status: int, content_type: str, content: bytes) -> dict[str, JsonValue]:
    """What the downstream said, for the job's error."""
    return {
        "downstream_status": status,
        "downstream_content_type": content_type[:200],
        "downstream_body": content[:ERROR_BODY_BYTES].decode("utf-8", "replace"),
    }


class Headers:
    """Case-insensitive look-up in httpcore's headers, which are pairs of bytes."""

    def __init__(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self._values = {name.decode("ascii", "replace").lower(): value.decode("latin-1") for name, value in pairs}

    def get(self, name: str) -> str | None:
        return self._values.get(name)

"""Unpacks a downstream's answer that came compressed (Content-Encoding, RFC 9110 8.4), within a limit of its size."""

import zlib
from collections.abc import Callable

from tidegate.errors import TidegateError


class UnreadableAnswerError(TidegateError):
    """A downstream's answer can't be read: what follows "the downstream's answer …".

    `another_may_do`: it broke off on its way, and not because of what the downstream is.
    """

    def __init__(self, message: str, *, another_may_do: bool = False) -> None:
        super().__init__(message)
        self.another_may_do = another_may_do


def unpack(content: bytes, codings: str, *, largest: int) -> bytes:
    """Undoes the codings that a Content-Encoding names, the last one first; raises UnreadableAnswerError.

    We ask for none, but some servers compress all the same. An empty answer has nothing to unpack.
    """
    for coding in reversed([name.strip().lower() for name in codings.split(",")]):
        if not content or coding in {"", "identity"}:
            continue
        unpacker = _UNPACKERS.get(coding)
        if unpacker is None:
            raise UnreadableAnswerError(f"is compressed as {coding[:40]!r}, which was not asked for and can't be read")
        try:
            content = unpacker(content, largest)
        except zlib.error as error:
            raise UnreadableAnswerError(f"can't be unpacked: {error}", another_may_do=True) from None
    return content


def _ungzip(content: bytes, largest: int) -> bytes:
    unpacked = b""
    while content.rstrip(b"\0"):  # one member or several, and padding behind them
        part, content = _inflate(content, largest - len(unpacked), 16 + zlib.MAX_WBITS)
        unpacked += part
    return unpacked


def _undeflate(content: bytes, largest: int) -> bytes:
    try:
        return _inflate(content, largest, zlib.MAX_WBITS)[0]
    except zlib.error:  # some servers leave out zlib's frame
        return _inflate(content, largest, -zlib.MAX_WBITS)[0]


def _inflate(content: bytes, largest: int, window_bits: int) -> tuple[bytes, bytes]:
    """Inflates one stream; returns it and what stands behind it."""
    stream = zlib.decompressobj(window_bits)
    unpacked = stream.decompress(content, largest + 1)
    if len(unpacked) > largest:
        raise UnreadableAnswerError("is too large once it is unpacked")
    if not stream.eof:
        raise zlib.error("it ends too early")
    return unpacked, stream.unused_data


_UNPACKERS: dict[str, Callable[[bytes, int], bytes]] = {"gzip": _ungzip, "x-gzip": _ungzip, "deflate": _undeflate}

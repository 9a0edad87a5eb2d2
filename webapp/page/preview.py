"""Safe previews of clients' bytes as text: cut, and with no character in it that moves or hides text."""

import json
import re
import unicodedata
from dataclasses import dataclass
from email.message import Message

from tidegate.jobs.history import Head
from webapp.page.texts import size

HEAD_BYTES = 4096
_TEXT = re.compile(
    r"text/|application/(json|xml|csv|yaml|x-www-form-urlencoded|x-ndjson|javascript|graphql)$|[^/]+/[^/]+\+(json|xml|yaml)$"
)
_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')
_OPEN, _CLOSE = frozenset("{["), frozenset("}]")
_DEEPEST = 40
_IS_KEPT = frozenset("\n\t")


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A preview of a body. `text` None: it is not text."""

    content_type: str
    size: str
    text: str | None
    is_whole: bool


def preview_of(head: Head) -> Preview:
    """Makes a preview of a body's first bytes."""
    text = _text(head)
    return Preview(
        content_type=visible(head.content_type, keep=frozenset()),
        size=size(head.size),
        text=None if text is None else visible(text),
        is_whole=head.is_whole,
    )


def _text(head: Head) -> str | None:
    message = Message()
    message["Content-Type"] = head.content_type
    if not _TEXT.match(message.get_content_type()):
        return None
    try:
        text = head.content.decode(str(message.get_content_charset("utf-8")), "strict" if head.is_whole else "ignore")
    except (LookupError, ValueError):
        return None
    if head.is_whole and message.get_content_type().endswith("json"):
        return _laid_out(text)
    return text.replace("\r\n", "\n")


def _laid_out(text: str) -> str:
    """Pretty-prints JSON, its strings and numbers as they came; other text, or very deep JSON, is left as it is.

    Not by way of Python's values: 1.10 would become 1.1, and a long number another one.
    """
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    lines, line, depth, last = [], "", 0, ""
    for each in _PIECE.findall(text):
        opens, closes = each in _OPEN, each in _CLOSE
        depth -= closes
        if depth > _DEEPEST:
            return text
        if last == "," or (last in _OPEN and not closes) or (closes and last not in _OPEN):
            lines.append(line)
            line = "  " * depth
        line += ": " if each == ":" else each
        depth += opens
        last = each
    return "\n".join([*lines, line])


def visible(text: str, *, keep: frozenset[str] = _IS_KEPT) -> str:
    """Replaces each character that would be invisible or reverse the text's direction by a sign."""
    return "".join(
        each if each in keep or unicodedata.category(each) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} else _sign(each)
        for each in text
    )


def _sign(character: str) -> str:
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"

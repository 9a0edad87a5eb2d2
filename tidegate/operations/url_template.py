"""URLs with places for values of the input: `https://crm/v1/customers/{customer}/orders?lang={lang}`.

What comes from the input is percent-encoded and stands within one segment of the path or one value of the query; it can
neither end that nor go elsewhere. So a place is allowed only where the text of the template itself has begun the path:
never in scheme, host, port or the name of a parameter.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from urllib.parse import quote, unquote

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*", re.ASCII)
_REFERENCE = re.compile(r"\$\{|\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SEPARATOR = re.compile(r"[/\\]")
# Browsers and servers differ about more; within these all of them take an URL.
LONGEST = 8000


@dataclass(frozen=True)
class Place:
    """A place for the value of one member of the input."""

    name: str
    within: Literal["path", "query"]


@dataclass(frozen=True)
class UrlTemplate:
    """A parsed template. Its texts may have references to the environment, which are put in when it is filled."""

    parts: tuple[str | Place, ...]

    @property
    def places(self) -> tuple[Place, ...]:
        """Its places, in the order in which they stand there."""
        return tuple(part for part in self.parts if isinstance(part, Place))

    def fill(self, values: Mapping[str, str], expand: Callable[[str], str]) -> str:
        """The URL with these values, by name. Raises ValueError, which names the place, for what can't stand there."""
        text = "".join(
            expand(part) if isinstance(part, str) else _encoded(part, values[part.name]) for part in self.parts
        )
        for segment in text.partition("://")[2].partition("?")[0].split("/")[1:] if self.places else ():
            if unquote(segment) in {".", ".."}:
                raise ValueError("the values make a segment of the path that leads elsewhere: . or ..")
        if len(text) > LONGEST and self.places:
            raise ValueError(f"the URL would be longer than {LONGEST} characters")
        return text


@lru_cache(maxsize=1024)
def parse_url_template(text: str) -> UrlTemplate:
    """Parses `{name}`, a place, and `{{` and `}}`, which are braces. ValueError says what is wrong.

    What stands in `${…}` belongs to the environment and is left as it is.
    """
    parts: list[str | Place] = []
    # `shape`: what the text does to the structure of the URL; what comes from elsewhere is a plain letter.
    literal, shape, position = "", "", 0
    while position < len(text):
        character, two = text[position], text[position : position + 2]
        end, kept, as_shape = position + 1, character, character
        if two == "$$":
            end, kept, as_shape = position + 2, two, "$"
        elif two == "${":
            end = _end_of_reference(text, position)
            kept, as_shape = text[position:end], "x"
        elif two in {"{{", "}}"}:
            end, kept = position + 2, quote(character)
        elif character == "{":
            name, end = _name(text, position)
            parts += [literal, Place(name, _within(shape))]
            literal, kept, as_shape = "", "", "x"
        elif character == "}":
            raise ValueError("a closing brace by itself: write }} for the character")
        literal, shape, position = literal + kept, shape + as_shape, end
    return UrlTemplate(tuple(part for part in (*parts, literal) if part))


def _encoded(place: Place, value: str) -> str:
    """A value as it stands in its place; raises ValueError."""
    try:
        encoded = quote(value, safe="")
    except UnicodeEncodeError:
        raise ValueError(f"{place.name}: it has half of a character (a lone surrogate)") from None
    if place.within == "path":
        if not value:
            raise ValueError(f"{place.name}: it is empty, and stands in the path of the URL")
        if _CONTROL.search(value):
            raise ValueError(f"{place.name}: it has a control character, and stands in the path of the URL")
        # Some servers decode %2F before they look for these.
        if any(unquote(part) in {".", ".."} for part in _SEPARATOR.split(value)):
            raise ValueError(f"{place.name}: it leads to another path: . or .. stands for a segment")
    return encoded


def _end_of_reference(text: str, start: int) -> int:
    """Where `${…}` ends, which may have others within; the text's end where it never does: others tell that."""
    depth = 0
    for found in _REFERENCE.finditer(text, start):
        depth += 1 if found[0] == "${" else -1
        if not depth:
            return found.end()
    return len(text)


def _name(text: str, start: int) -> tuple[str, int]:
    """The name in `{name}`, and where that ends."""
    end = text.find("}", start)
    found = _NAME.fullmatch(text, start + 1, end) if end > 0 else None
    if found is None:
        raise ValueError("an opening brace without a name and }: write {name} for a member of the input, or {{")
    return found[0], end + 1


def _within(before: str) -> Literal["path", "query"]:
    """Where a place stands behind this text; raises ValueError where none may be."""
    rest = before.partition("://")[2] if "://" in before else before
    path, question_mark, query = rest.partition("?")
    if question_mark:
        if "=" not in query.rpartition("&")[2]:
            raise ValueError("the name of a parameter can't come from the input; write name={value}")
        return "query"
    if "/" not in path:
        raise ValueError("scheme, host and port can't come from the input; begin the path with / before the brace")
    return "path"

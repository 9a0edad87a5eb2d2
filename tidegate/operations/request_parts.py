"""What of an input goes where in an HTTP operation's request: into the path, into the query, into the body."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tidegate.errors import InputFault, InvalidInput, Refusal
from tidegate.operations.json_pointer import pointer_of
from tidegate.operations.json_text import JsonText
from tidegate.operations.operation import Body
from tidegate.operations.url_template import UrlTemplate, parse_url_template

WHOLE: tuple[str, ...] = ()
"""The pointer of a body that is the input itself, byte for byte."""


@dataclass(frozen=True)
class RequestParts:
    """`body`: the names of a JSON pointer to what is sent of the input; WHOLE: all of it; None: nothing."""

    url: UrlTemplate
    body: tuple[str, ...] | None

    @property
    def reads_json(self) -> bool:
        """Whether the input has to be JSON: something is taken out of it."""
        return bool(self.url.places or self.body)

    def check(self, body: Body) -> None:
        """Raises MalformedBody or InvalidInput where no request can be made of this input."""
        if self.reads_json:
            self.made_of(body, str)

    def made_of(self, body: Body, expand: Callable[[str], str]) -> tuple[str, Body | None]:
        """The URL of the call, and its body; None: it has none. Raises MalformedBody or InvalidInput."""
        whole = body if self.body == WHOLE else None
        if not self.reads_json:
            return self.url.fill({}, expand), whole
        document = JsonText.of(body.content)
        url = self._url_of(document, expand)
        return url, Body(content=document.at(self.body).text.encode()) if self.body else whole

    def _url_of(self, document: JsonText, expand: Callable[[str], str]) -> str:
        members = document.members() if self.url.places else {}
        values = {place.name: _value(members.get(place.name), place.name) for place in self.url.places}
        try:
            return self.url.fill(values, expand)
        except ValueError as error:
            name, _, reason = str(error).partition(": ")
            fault = InputFault(pointer_of([name]), reason) if name in values else InputFault("", str(error))
            raise InvalidInput([fault]) from None

    def schema(self) -> Mapping[str, Any] | None:
        """JSON Schema of what is taken out of the input; None: it is passed on as it is."""
        if not self.reads_json:
            return None
        properties: dict[str, Any] = {
            place.name: {"type": ["string", "number", "boolean"]} for place in self.url.places
        }
        for place in self.url.places:
            if place.within == "path":
                properties[place.name]["minLength"] = 1
        schema = {"type": "object", "properties": properties, "required": [*properties]}
        if self.body:
            _require(schema, self.body)
        return schema


@lru_cache(maxsize=1024)
def parts_of(url: str, body: tuple[str, ...] | None) -> RequestParts:
    """The parts of an operation's request; raises ValueError for a template that is none."""
    return RequestParts(parse_url_template(url), body)


def _value(member: JsonText | None, name: str) -> str:
    if member is None:
        raise InvalidInput([InputFault(pointer_of([name]), "it is missing, and stands in the URL")])
    value = member.scalar
    if value is None:
        raise InvalidInput([InputFault(pointer_of([name]), "it stands in the URL: a text, a number, true or false")])
    return value


def _require(schema: dict[str, Any], names: Sequence[str]) -> None:
    """Adds that there is a value at this pointer."""
    first, *rest = names
    schema["required"] = [*dict.fromkeys([*schema.get("required", []), first])]
    below = schema.setdefault("properties", {}).setdefault(first, {})
    if rest:
        below["type"] = "object"
        _require(below, rest)


def in_words(refusal: Refusal) -> str:
    """Why an input is refused, on one line: `/sku: it is missing; /lines/0: …`."""
    if isinstance(refusal, InvalidInput):
        return "; ".join(f"{fault.pointer}: {fault.detail}" for fault in refusal.faults)
    return str(refusal)

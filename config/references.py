"""Environment variables in the operations file: `${NAME}` and `${NAME:-text}`, as docker compose reads them.

The text may have references itself, `$$` is a dollar sign, and an empty value counts as none where there is a text.
What else begins with a dollar sign means something in a shell or in compose and nothing here: it is refused.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Union

from config.environment import value_of
from tidegate.errors import ConfigurationError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True)
class Reference:
    """A reference `${NAME}`, and its default's template; None: it has no default."""

    name: str
    default: Union["Template", None]


@dataclass(frozen=True)
class Template:
    """A parsed text with references."""

    parts: tuple[str | Reference, ...]

    @property
    def references(self) -> tuple[Reference, ...]:
        """The references of the text itself, not those in defaults."""
        return tuple(part for part in self.parts if isinstance(part, Reference))

    def expand(self, environment: Mapping[str, str]) -> str:
        """Puts the values in. Raises ConfigurationError that names each missing variable, and never shows a value."""
        faults: list[str] = []
        expanded = "".join(part if isinstance(part, str) else _value(part, environment, faults) for part in self.parts)
        if faults:
            raise ConfigurationError(*faults)
        return expanded


@lru_cache(maxsize=1024)
def parse_template(text: str) -> Template:
    """Parses a text with references; ValueError says what to write for a malformed one."""
    parts: list[str | Reference] = []
    position = 0
    while (dollar := text.find("$", position)) >= 0:
        parts.append(text[position:dollar])
        if text.startswith("$$", dollar):
            parts.append("$")
            position = dollar + 2
        elif text.startswith("${", dollar):
            end = _closing_brace(text, dollar)
            parts.append(_reference(text[dollar + 2 : end]))
            position = end + 1
        elif name := _NAME.match(text, dollar + 1):
            raise ValueError(f"${name[0]}: write ${{{name[0]}}} for its value, or $$ for a dollar sign")
        else:
            raise ValueError("a dollar sign by itself: write $$ for one, or ${NAME} for a value of the environment")
    parts.append(text[position:])
    return Template(tuple(part for part in parts if part))


def expander(environment: Mapping[str, str]) -> Callable[[str], str]:
    """Makes a function that expands texts from this environment. NAME_FILE may name a file with the value."""
    return lambda text: parse_template(text).expand(environment)


def _closing_brace(text: str, start: int) -> int:
    """The end of the reference that begins at `start`. Each `${` within opens another one; other braces don't."""
    open_braces = 0
    for found in re.finditer(r"\$\{|\}", text[start:]):
        open_braces += 1 if found[0] == "${" else -1
        if open_braces == 0:
            return start + found.start()
    raise ValueError("${ without a closing brace; write ${NAME}, or $${ for these two characters")


def _reference(text: str) -> Reference:
    name = _NAME.match(text)
    rest = text[name.end() :] if name else text
    if name and not rest:
        return Reference(name[0], None)
    if name and rest.startswith(":-"):
        return Reference(name[0], parse_template(rest[2:]))
    if name and rest.startswith("-"):
        raise ValueError(f"${{{name[0]}-…}}: write ${{{name[0]}:-…}} for a text that stands for no value")
    if name and re.match(r":?[?+]", rest):
        word = f"{name[0]}{rest[: 1 + rest.startswith(':')]}…"
        raise ValueError(f"${{{word}}}: write ${{{name[0]}}}, which must have a value, or ${{{name[0]}:-text}}")
    if text != text.strip() and _NAME.fullmatch(text.strip()):
        raise ValueError(f"${{{text}}}: write ${{{text.strip()}}}, without blanks")
    raise ValueError(f"${{{text}}}: write ${{NAME}} or ${{NAME:-text}}; a name has letters, digits and _ only")


def _value(reference: Reference, environment: Mapping[str, str], faults: list[str]) -> str:
    name = reference.name
    try:
        value = value_of(name, environment)
        if value:
            return value
        if reference.default is not None:
            return reference.default.expand(environment)
    except ConfigurationError as error:
        faults += error.faults
        return ""
    if value is None:
        faults.append(f"${{{name}}} is not set in the environment; set {name}, or {name}_FILE to a file with the value")
    else:
        faults.append(
            f"${{{name}}} is empty in the environment; give it a value, or write ${{{name}:-}} if none is meant"
        )
    return ""

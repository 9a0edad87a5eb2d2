"""How a CSV is written: what the content type or a first line `sep=;` says of it, and else a guess of its delimiter."""

import csv
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message

from tidegate.errors import PermanentError

# As they are preferred where the first lines do not decide: the comma last, for it stands in texts and decimals, too.
DELIMITERS = "\t;|,"
NO_DELIMITER = "\0"
"""No line has it, so that each is one cell."""

_NAMES = {"tab": "\t", "semicolon": ";", "comma": ",", "bar": "|", r"\t": "\t"}
_ORDINARY = re.compile(r'[\w"\r\n\0]')
# Spreadsheets write it so, in quotes if they read it as a cell, and fill the row up with delimiters.
_SEP_LINE = re.compile(r'("?)sep=(\\t|[^"\r\n]?)\1[;,\t|]*[\r\n]*', re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ContentType:
    """What a content type says of a CSV; None: nothing."""

    charset: str | None
    delimiter: str | None
    has_header: bool


@dataclass(frozen=True, kw_only=True)
class Delimiter:
    """The delimiter (None: one cell a line), and the other ones that the first lines would allow as well."""

    character: str | None
    also_possible: tuple[str, ...] = ()


def read_content_type(text: str) -> ContentType:
    """Reads the parameters charset, delimiter and header (RFC 4180); tab-separated values have tabs."""
    header = Message()
    header["Content-Type"] = text
    named = header.get_param("delimiter")
    delimiter = None if named is None else _delimiter_named(named)
    if delimiter is None and header.get_content_type() == "text/tab-separated-values":
        delimiter = "\t"
    return ContentType(
        charset=header.get_content_charset(),
        delimiter=delimiter,
        has_header=str(header.get_param("header")).lower() != "absent",
    )


def separator_line(first_line: str) -> str | None:
    """The delimiter that a first line `sep=;` names; None: it is no such line. Raises PermanentError."""
    found = _SEP_LINE.fullmatch(first_line)
    if found is None:
        return None
    delimiter = _character(found[2])
    if delimiter is None:
        raise PermanentError(
            f"line 1 says {first_line.strip()[:20]}, which names no delimiter; write for example sep=;"
        )
    return delimiter


def guessed_delimiter(sample: Sequence[str]) -> Delimiter:
    """The delimiter that cuts most of the first lines into as many cells as the header, and leaves no quotes in them.

    None if none cuts the header, unless cells in quotes show that the rows below it are cut.
    """
    whole = _cut(sample, NO_DELIMITER)
    cuts = {delimiter: _cut(sample, delimiter) for delimiter in DELIMITERS}
    fitting = {delimiter: cut for delimiter, cut in cuts.items() if cut.cuts_header}
    if not fitting:
        fitting = {delimiter: cut for delimiter, cut in cuts.items() if cut.cuts_any and cut.quotes < whole.quotes}
    if not fitting:
        return Delimiter(character=None, also_possible=tuple(each for each, cut in cuts.items() if cut.cuts_any))
    best = max(fitting, key=lambda delimiter: (fitting[delimiter].agreeing, -fitting[delimiter].quotes))
    others = (each for each, cut in fitting.items() if each != best and cut.rivals(fitting[best]))
    return Delimiter(character=best, also_possible=tuple(others))


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """The first lines, cut by one delimiter. `agreeing`: rows as wide as the header. `quotes`: left in cells."""

    rows: int
    agreeing: int
    quotes: int
    cuts_header: bool
    cuts_any: bool

    def rivals(self, best: "_Cut") -> bool:
        """Whether this might be the right one in place of the best."""
        return self.quotes <= best.quotes and 2 * self.agreeing > self.rows


def _cut(sample: Sequence[str], delimiter: str) -> _Cut:
    rows: list[list[str]] = []
    with suppress(csv.Error):  # a cell of several lines is longer than any may be, which the reader of the file tells
        rows.extend(row for row in csv.reader(sample, delimiter=delimiter) if row)
    widths = [len(row) for row in rows]
    return _Cut(
        rows=len(rows),
        agreeing=widths.count(widths[0]) if widths else 0,
        quotes=sum(cell.count('"') for row in rows for cell in row),
        cuts_header=bool(widths) and widths[0] > 1,
        cuts_any=any(width > 1 for width in widths),
    )


def _delimiter_named(named: object) -> str:
    delimiter = _character(named) if isinstance(named, str) else None
    if delimiter is None:
        how = 'write a character, as in delimiter=";", or tab, semicolon, comma or bar'
        raise PermanentError(f"the content type's delimiter can't be one; {how}")
    return delimiter


def _character(text: str) -> str | None:
    """The delimiter that this text stands for: one character that is no letter, digit, quote or line end."""
    text = _NAMES.get(text.lower(), text)
    return text if len(text) == 1 and not _ORDINARY.match(text) else None

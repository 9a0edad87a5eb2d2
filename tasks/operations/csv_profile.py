"""The operation that profiles a CSV: its rows and, for each column, type, missing cells, range and mean."""

import csv
from collections.abc import Iterator, Sequence
from itertools import chain

from pydantic import BaseModel

from tasks.operations._column_profile import Column, ColumnProfile
from tasks.operations._csv_dialect import (
    NO_DELIMITER,
    ContentType,
    Delimiter,
    guessed_delimiter,
    read_content_type,
    separator_line,
)
from tasks.operations._csv_text import MAX_ROW_LENGTH, CsvText
from tidegate.errors import PermanentError
from tidegate.operations import Attempt, Body, operation

# Bounds the memory, whatever the file; so does the length of a row.
MAX_COLUMNS = 1000
MAX_NAME_LENGTH = 100


class CsvProfile(BaseModel):
    """The profile of a CSV. `rows` counts neither the header nor blank lines.

    Short and long rows are narrower and wider than the header. `delimiter` null: no line was cut. `also_possible`:
    other delimiters that would cut the first lines as well; if one of them is meant, name it in the content type.
    """

    rows: int
    short_rows: int
    long_rows: int
    delimiter: str | None
    also_possible: list[str]
    columns: list[ColumnProfile]


# The last one says that no type is known, as file pickers and generated clients do.
_CONTENT_TYPES = ("text/csv", "application/csv", "text/tab-separated-values", "text/plain", "application/octet-stream")


@operation(content_types=_CONTENT_TYPES)
def csv_profile(body: Body, attempt: Attempt) -> CsvProfile:
    """Profiles a CSV of up to 20 MB whose first row names the columns.

    The text is UTF-8 unless it has a byte order mark or the content type a charset. The delimiter is what the content
    type says (text/csv; delimiter=";", or tab, semicolon, comma, bar; text/tab-separated-values has tabs), what a
    first line sep=; says, or found from the first lines (comma, semicolon, tab or bar). With header=absent in the
    content type the first row is a row like the others. A cell is missing when it is blank or one of NA, N/A, NaN,
    nan, null, NULL. Dates are ISO 8601, booleans are true, false, yes or no in any case. Decimals have a point, or a
    comma in the whole column; one in which every comma might group thousands (1,234) is text. All else is text, and so
    are digits with leading zeros or more than 18 of them. A row has at most 1,000,000 characters. A short row lacks its
    last cells; what a long row has beyond the header is left out. A column without a name becomes column_3, a second
    "price" becomes price_2.
    """
    # Of the whole process, and 131,072 characters by default; a row is bounded anyway.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_LENGTH))
    said = read_content_type(body.content_type)
    text = CsvText(body, said.charset, attempt)
    rows, delimiter = _opened(text, said)
    first = next(rows, None)
    if first is None:
        raise PermanentError("the file is empty; its first row has to name the columns")
    if len(first) > MAX_COLUMNS:
        raise PermanentError(f"row 1 names {len(first)} columns; at most {MAX_COLUMNS} can be profiled")
    columns = [Column(name) for name in _names(first if said.has_header else [""] * len(first))]
    count = short = long = 0
    for row in rows if said.has_header else chain([first], rows):
        count += 1
        short += len(row) < len(columns)
        long += len(row) > len(columns)
        for column, cell in zip(columns, row, strict=False):
            column.add(cell)
    attempt.progress(len(body.content), len(body.content), f"{count} rows")
    return CsvProfile(
        rows=count,
        short_rows=short,
        long_rows=long,
        delimiter=delimiter.character,
        also_possible=list(delimiter.also_possible),
        columns=[column.profile(count) for column in columns],
    )


def _opened(text: CsvText, said: ContentType) -> tuple[Iterator[list[str]], Delimiter]:
    """The file's rows, behind a first line `sep=;`, and the delimiter: the content type's, that line's or a guess."""
    sample = text.sample()
    named = separator_line(sample[0]) if sample else None
    skipped = 0 if named is None else 1
    known = said.delimiter or named
    delimiter = Delimiter(character=known) if known else guessed_delimiter(sample)
    return _rows(text, sample[skipped:], delimiter.character or NO_DELIMITER, skipped), delimiter


def _rows(text: CsvText, sample: Sequence[str], delimiter: str, skipped: int) -> Iterator[list[str]]:
    """Yields the rows that are not blank. Raises PermanentError naming the row; the header is row 1.

    `skipped`: lines before the sample.
    """
    number = 1
    reader = csv.reader(chain(sample, text.lines), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            number += 1
            text.start_row()
            if row:
                yield row
    except csv.Error as error:
        hint = "is a quote left open or not doubled?"
        line = reader.line_num + skipped
        reason = str(error).replace(f"'{NO_DELIMITER}'", "a line end")
        raise PermanentError(f"row {number} (up to line {line}) can't be read: {reason}; {hint}") from None


def _names(header: Sequence[str]) -> list[str]:
    """Makes the columns' names unique and not empty."""
    names: dict[str, None] = {}
    for position, cell in enumerate(header, start=1):
        wanted = cell.strip()[:MAX_NAME_LENGTH] or f"column_{position}"
        name, copy = wanted, 1
        while name in names:
            copy += 1
            name = f"{wanted}_{copy}"
        names[name] = None
    return list(names)

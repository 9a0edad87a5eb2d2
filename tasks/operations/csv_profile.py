"""The operation that profiles a CSV: its rows and, for each column, type, missing cells, range and mean."""

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from email.message import Message
from io import BytesIO, TextIOWrapper
from itertools import chain

from pydantic import BaseModel

from tasks.operations._column_profile import Column, ColumnProfile
from tidegate.errors import PermanentError
from tidegate.operations import Attempt, Body, operation

# These bound the memory, whatever the file; the length of one field is bounded by csv.field_size_limit().
MAX_COLUMNS = 1000
MAX_ROW_LENGTH = 1_000_000
MAX_NAME_LENGTH = 100

DELIMITERS = ",;\t|"
SAMPLE_LINES = 20
REPORT_EVERY = 64 * 1024
# Other encodings of Python are refused: no file is written in them, and some are quadratic in time (punycode).
CHARSETS = re.compile(
    r"ascii|utf-(8|16|32)(-\w+)?|iso8859-\d+|cp\d+|koi8-\w|mac-\w+|gb\w+|big5\w*|shift_jis\w*|euc_\w+"
)


class CsvProfile(BaseModel):
    """The profile of a CSV. `rows` counts neither the header nor blank lines.

    Short and long rows are narrower and wider than the header.
    """

    rows: int
    short_rows: int
    long_rows: int
    delimiter: str
    columns: list[ColumnProfile]


@operation(content_types=("text/csv", "application/csv", "text/tab-separated-values", "text/plain"))
def csv_profile(body: Body, attempt: Attempt) -> CsvProfile:
    """Profiles a CSV of up to 20 MB whose first row names the columns.

    The text is UTF-8 unless the content type has a charset. The delimiter (comma, semicolon, tab or bar) is found
    from the first lines. A cell is missing when it is blank or one of NA, N/A, NaN, nan, null, NULL. Dates are
    ISO 8601, decimals have a point, booleans are true, false, yes or no in any case; all else is text, and so are
    digits with leading zeros or more than 18 of them. A short row lacks its last cells; what a long row has beyond
    the header is left out. A column without a name becomes column_3, a second "price" becomes price_2.
    """
    source = _Source(body, attempt)
    sample = source.sample()
    delimiter = _delimiter_of(sample)
    rows = _rows(source, sample, delimiter)
    header = next(rows, None)
    if header is None:
        raise PermanentError("the file is empty; its first row has to name the columns")
    if len(header) > MAX_COLUMNS:
        raise PermanentError(f"row 1 names {len(header)} columns; at most {MAX_COLUMNS} can be profiled")
    columns = [Column(name) for name in _names(header)]
    count = short = long = 0
    for row in rows:
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
        delimiter=delimiter,
        columns=[column.profile(count) for column in columns],
    )


class _Source:
    """The lines of a body, decoded and checked one by one; reports progress on the way."""

    def __init__(self, body: Body, attempt: Attempt) -> None:
        self._content = body.content
        self._attempt = attempt
        self._bytes = BytesIO(body.content)
        self._charset = _charset_of(body.content_type)
        self._text = TextIOWrapper(self._bytes, self._charset, newline="")
        self._line = 0
        self._row_length = 0
        self.lines = self._read()

    def sample(self) -> list[str]:
        """Takes the first lines from `lines`; the reader of the file has to put them in front again."""
        sample: list[str] = []
        while len(sample) < SAMPLE_LINES and (line := next(self.lines, "")):
            sample.append(line)
            self.start_row()
        return sample

    def start_row(self) -> None:
        """Marks that the lines from here on belong to another row."""
        self._row_length = 0

    def _read(self) -> Iterator[str]:
        next_report = REPORT_EVERY
        while line := self._next_line():
            self._line += 1
            self._row_length += len(line)
            if self._row_length > MAX_ROW_LENGTH:
                hint = "is a quote left open, or is this not a CSV?"
                raise PermanentError(f"line {self._line}: its row is longer than {MAX_ROW_LENGTH} characters; {hint}")
            if "\0" in line:
                hint = "for UTF-16 say so in the content type: text/csv; charset=utf-16"
                raise PermanentError(
                    f"line {self._line} has a NUL character, so this is not a CSV in {self._charset}; {hint}"
                )
            if self._bytes.tell() >= next_report:
                next_report = self._bytes.tell() + REPORT_EVERY
                self._attempt.progress(self._bytes.tell(), len(self._content), f"{self._line} lines")
            yield line.removeprefix("\ufeff") if self._line == 1 else line

    def _next_line(self) -> str:
        try:
            return self._text.readline(MAX_ROW_LENGTH + 1)
        except UnicodeDecodeError as error:
            # The decoder saw a piece of the file, which ends where reading stands.
            position = self._bytes.tell() - len(error.object) + error.start
            line = self._content.count(b"\n", 0, position) + 1
            wrong = f"line {line} has byte 0x{self._content[position]:02x}, which is not {self._charset}"
        except UnicodeError as error:  # UTF-16 and UTF-32 without a byte order mark
            wrong = str(error)
        raise PermanentError(f"{wrong}; name the file's encoding in the content type: text/csv; charset=windows-1252")


def _charset_of(content_type: str) -> str:
    header = Message()
    header["Content-Type"] = content_type
    charset = header.get_content_charset() or "utf-8"
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):
        name = ""
    if not CHARSETS.fullmatch(name):
        raise PermanentError(f"charset {charset[:40]!r} is unknown; say for example utf-8, iso-8859-1 or windows-1252")
    return name


def _delimiter_of(sample: Sequence[str]) -> str:
    """The delimiter that cuts most of the first lines into as many fields as the header; the comma if none does."""

    def agreement(delimiter: str) -> tuple[int, int]:
        try:
            widths = [len(row) for row in csv.reader(sample, delimiter=delimiter) if row]
        except csv.Error:
            return 0, 0
        return (widths.count(widths[0]), widths[0]) if widths and widths[0] > 1 else (0, 0)

    return max(DELIMITERS, key=agreement)


def _rows(source: _Source, sample: Sequence[str], delimiter: str) -> Iterator[list[str]]:
    """Yields the rows that are not blank. Raises PermanentError naming the row; the header is row 1."""
    number = 1
    reader = csv.reader(chain(sample, source.lines), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            number += 1
            source.start_row()
            if row:
                yield row
    except csv.Error as error:
        hint = "is a quote left open or not doubled?"
        raise PermanentError(f"row {number} (up to line {reader.line_num}) can't be read: {error}; {hint}") from None


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

"""The text of a CSV: its encoding, and its lines one by one, decoded and checked."""

import codecs
import re
from collections.abc import Iterator
from io import BytesIO, TextIOWrapper

from tidegate.errors import PermanentError
from tidegate.operations import Attempt, Body

# Bounds the memory, whatever the file; so does the number of columns.
MAX_ROW_LENGTH = 1_000_000

_SAMPLE_LINES = 20
_REPORT_EVERY = 64 * 1024
# Other encodings of Python are refused: no file is written in them, and some are quadratic in time (punycode).
_CHARSETS = re.compile(
    r"ascii|utf-(8|16|32)(-\w+)?|iso8859-\d+|cp\d+|koi8-\w|mac-\w+|gb\w+|big5\w*|shift_jis\w*|euc_\w+"
)
# The longer marks first: that of UTF-32 begins like one of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NO_TEXT = (
    (b"PK\x03\x04", "a workbook or another zip archive; save it as CSV"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook; save it as CSV"),
    (b"\x1f\x8b", "compressed with gzip; send it unpacked"),
)


class CsvText:
    """The lines of a body, decoded and checked one by one; reports progress on the way.

    `charset`: that of the content type, if there is one. A byte order mark goes before it: it is the file's own word.
    """

    def __init__(self, body: Body, charset: str | None, attempt: Attempt) -> None:
        self._content = body.content
        self._attempt = attempt
        self._bytes = BytesIO(body.content)
        self._charset = _charset_of(body.content, charset)
        self._text = TextIOWrapper(self._bytes, self._charset, newline="")
        self._line = 0
        self._row_length = 0
        self.lines = self._read()

    def sample(self) -> list[str]:
        """Takes the first lines from `lines`; the reader of the file has to put them in front again."""
        sample: list[str] = []
        while len(sample) < _SAMPLE_LINES and (line := next(self.lines, "")):
            sample.append(line)
            self.start_row()
        return sample

    def start_row(self) -> None:
        """Marks that the lines from here on belong to another row."""
        self._row_length = 0

    def _read(self) -> Iterator[str]:
        next_report = _REPORT_EVERY
        while line := self._next_line():
            self._line += 1
            self._row_length += len(line)
            if self._row_length > MAX_ROW_LENGTH:
                hint = "is a quote left open, or is this not a CSV?"
                raise PermanentError(f"line {self._line}: its row is longer than {MAX_ROW_LENGTH} characters; {hint}")
            if "\0" in line:
                raise PermanentError(f"line {self._line} has a NUL character, {self._why_nul()}")
            if self._bytes.tell() >= next_report:
                next_report = self._bytes.tell() + _REPORT_EVERY
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
        except UnicodeError:  # UTF-16 and UTF-32 without a byte order mark
            name = self._charset
            raise PermanentError(
                f"the file has no byte order mark, so {name} does not say the order of its bytes; "
                f"name the file's encoding in the content type: text/csv; charset={name}le or {name}be"
            ) from None
        raise PermanentError(f"{wrong}; name the file's encoding in the content type: text/csv; charset=windows-1252")

    def _why_nul(self) -> str:
        """What a NUL character means: one in every two bytes is UTF-16 without a mark."""
        beginning = self._content[:1000]
        nuls = beginning[::2].count(0), beginning[1::2].count(0)
        if max(nuls) * 4 > len(beginning) and min(nuls) * 10 < max(nuls):
            named = "utf-16be" if nuls[0] > nuls[1] else "utf-16le"
            return f"so this is not {self._charset}; it looks like UTF-16: say text/csv; charset={named}"
        return f"so this is not a CSV in {self._charset}"


def _charset_of(content: bytes, named: str | None) -> str:
    """The name of the encoding in Python; raises PermanentError for an unknown one, and for what is no text at all."""
    for beginning, what in _NO_TEXT:
        if content.startswith(beginning):
            raise PermanentError(f"this is not a CSV: it is {what}")
    for mark, charset in _MARKS:
        if content.startswith(mark):
            return charset
    try:
        name = codecs.lookup(named or "utf-8").name
    except (LookupError, ValueError):
        name = ""
    if not _CHARSETS.fullmatch(name):
        shown = (named or "")[:40]
        raise PermanentError(f"charset {shown!r} is unknown; say for example utf-8, iso-8859-1 or windows-1252")
    return name

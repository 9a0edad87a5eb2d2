"""Profiles one CSV column cell by cell, in constant memory: type, missing cells, range, mean."""

import re
from datetime import UTC, datetime
from decimal import Context, Decimal
from enum import StrEnum

from pydantic import BaseModel

MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL"})
"""Cells that hold nothing, once stripped. Case counts: "na" is text."""
LONGEST_TEXT = 100
"""Characters that are kept of a text's min and max."""


class ColumnType(StrEnum):
    """The narrowest type that every cell of a column fits."""

    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"
    TEXT = "text"
    EMPTY = "empty"


class ColumnProfile(BaseModel):
    """The profile of one column. `count` and `missing` add up to the rows of the file.

    `min` and `max` are numbers for integer and number, ISO 8601 for date and datetime (in UTC as soon as one cell
    has an offset; one without is then taken as UTC), the first and last text by code point, cut to 100 characters,
    for text, and null for boolean and empty. `mean` is null for all but integer and number. `decimal_comma`: the
    numbers were written with a comma, 1,5.
    """

    name: str
    type: ColumnType
    count: int
    missing: int
    min: int | float | str | None
    max: int | float | str | None
    mean: float | None
    decimal_comma: bool


# Digits with leading zeros or more than 18 of them are identifiers (007, card numbers), hence text: as numbers they
# would lose what tells them apart. Bounded digits and exponents also keep floats finite and sums exact.
_WHOLE = r"(?:0|[1-9]\d{0,17})"
_DAY = r"\d{4}-\d\d-\d\d"
_CELL = re.compile(
    rf"(?P<integer>[+-]?{_WHOLE})"
    rf"|(?P<number>[+-]?(?:{_WHOLE}(?:[.,]\d{{0,40}})?|[.,]\d{{1,40}})(?:[eE][+-]?(?:[01]?\d)?\d)?)"
    rf"|(?P<date>{_DAY})"
    rf"|(?P<datetime>{_DAY}[T ]\d\d:\d\d(?::\d\d(?:\.\d{{1,9}})?)?(?:Z|[+-]\d\d:?\d\d)?)"
    r"|(?P<boolean>(?i:true|false|yes|no))",
    re.ASCII,
)
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)
"""Numbers whose comma may stand between thousands as well as before decimals."""
_TYPE_OF_GROUP: dict[str | None, ColumnType] = {found.value: found for found in ColumnType}
_EXACT = Context(prec=500)
"""Holds any sum of the numbers that `_CELL` lets through: 218 digits before the point, 7 for the count, 239 after."""


class Column:
    """Collects the cells of one column; the profile is the same in every order."""

    __slots__ = (
        "_earliest",
        "_first",
        "_has_comma",
        "_has_decimal_comma",
        "_has_offset",
        "_has_point",
        "_highest",
        "_last",
        "_latest",
        "_lowest",
        "_name",
        "_sum",
        "_type",
        "count",
    )

    def __init__(self, name: str) -> None:
        self.count = 0
        self._name = name
        self._type = ColumnType.EMPTY
        # Any column may turn out to be text at its last cell, so the texts are compared from the first one on.
        self._first: str | None = None
        self._last: str | None = None
        # Decimals keep 18 digits exact and their sum free of rounding, which floats do not.
        self._lowest: Decimal | None = None
        self._highest: Decimal | None = None
        self._sum = Decimal(0)
        self._has_point = False
        self._has_comma = False
        self._has_decimal_comma = False  # one that can't stand between thousands
        self._earliest: datetime | None = None
        self._latest: datetime | None = None
        self._has_offset = False

    def add(self, cell: str) -> None:
        """Adds one cell; a missing one changes nothing."""
        text = cell.strip()
        if text in MISSING:
            return
        self.count += 1
        # Cutting keeps the order of texts, so the cut minimum is the minimum cut.
        kept = text[:LONGEST_TEXT]
        if self._first is None or kept < self._first:
            self._first = kept
        if self._last is None or kept > self._last:
            self._last = kept
        if self._type is ColumnType.TEXT:
            return
        found = self._take(text)
        if found is not self._type:
            self._type = _joined(self._type, found)

    def profile(self, rows: int) -> ColumnProfile:
        """The column's profile, in a file of so many rows."""
        found = self._found()
        lowest, highest = self._range(found)
        is_numeric = found in (ColumnType.INTEGER, ColumnType.NUMBER)
        return ColumnProfile(
            name=self._name,
            type=found,
            count=self.count,
            missing=rows - self.count,
            min=lowest,
            max=highest,
            mean=_as_float(_EXACT.divide(self._sum, Decimal(self.count))) if is_numeric else None,
            decimal_comma=is_numeric and self._has_comma,
        )

    def _found(self) -> ColumnType:
        """The column's type: numbers are text where what their commas mean is not certain."""
        is_unsure = self._has_comma and (self._has_point or not self._has_decimal_comma)
        return ColumnType.TEXT if self._type is ColumnType.NUMBER and is_unsure else self._type

    def _take(self, text: str) -> ColumnType:
        match = _CELL.fullmatch(text)
        if not match:
            return ColumnType.TEXT
        found = _TYPE_OF_GROUP[match.lastgroup]
        if found is ColumnType.INTEGER or found is ColumnType.NUMBER:
            self._take_number(text)
        elif found is not ColumnType.BOOLEAN:
            try:
                self._take_instant(datetime.fromisoformat(text))
            except (ValueError, OverflowError):  # 31 February; year 1 ahead of UTC
                return ColumnType.TEXT
        return found

    def _take_number(self, text: str) -> None:
        if "," in text:
            self._has_comma = True
            self._has_decimal_comma = self._has_decimal_comma or not _GROUPED.fullmatch(text)
        elif "." in text:
            self._has_point = True
        number = Decimal(text.replace(",", "."))
        self._sum = _EXACT.add(self._sum, number)
        if self._lowest is None or number < self._lowest:
            self._lowest = number
        if self._highest is None or number > self._highest:
            self._highest = number

    def _take_instant(self, instant: datetime) -> None:
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=UTC)
        else:
            instant = instant.astimezone(UTC)
            self._has_offset = True
        if self._earliest is None or instant < self._earliest:
            self._earliest = instant
        if self._latest is None or instant > self._latest:
            self._latest = instant

    def _range(self, found: ColumnType) -> tuple[int | float | str | None, int | float | str | None]:
        match found:
            case ColumnType.TEXT:
                return self._first, self._last
            case ColumnType.INTEGER if self._lowest is not None and self._highest is not None:
                return int(self._lowest), int(self._highest)
            case ColumnType.NUMBER if self._lowest is not None and self._highest is not None:
                return _as_float(self._lowest), _as_float(self._highest)
            case ColumnType.DATE | ColumnType.DATETIME if self._earliest and self._latest:
                return self._written(self._earliest), self._written(self._latest)
        return None, None

    def _written(self, instant: datetime) -> str:
        if self._type is ColumnType.DATE:
            return instant.date().isoformat()
        return (instant if self._has_offset else instant.replace(tzinfo=None)).isoformat()


def _joined(one: ColumnType, other: ColumnType) -> ColumnType:
    """The narrowest type that holds both. It is associative and commutative, so the order of cells can't matter."""
    if one is ColumnType.EMPTY or one is other:
        return other
    if {one, other} == {ColumnType.INTEGER, ColumnType.NUMBER}:
        return ColumnType.NUMBER
    if {one, other} == {ColumnType.DATE, ColumnType.DATETIME}:
        return ColumnType.DATETIME
    return ColumnType.TEXT


def _as_float(number: Decimal) -> float:
    return float(number) + 0.0  # -0.0 becomes 0.0

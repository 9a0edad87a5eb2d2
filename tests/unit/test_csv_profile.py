"""What csv_profile says about a file, and which files it refuses with which words."""

import codecs
import csv
import io
import json
import multiprocessing
import statistics
import string
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.operations._column_profile import MISSING, Column, ColumnType
from tasks.operations.csv_profile import MAX_COLUMNS, csv_profile
from tidegate.errors import AttemptStopped, UnsupportedBody
from tidegate.operations.operation import Attempt, Body, Progress
from tidegate.operations.outcome import Failed, Succeeded

MEGABYTE = 1024 * 1024
INTEGERS = st.integers(-(10**18) + 1, 10**18 - 1).map(str)
NUMBERS = st.one_of(
    st.floats(-1e190, 1e190, allow_subnormal=False)
    .filter(lambda number: number == 0 or abs(number) > 1e-190)
    .map(repr),
    st.decimals(-1000, 1000, places=3).map(str),
)
DATES = st.dates().map(str)
DATETIMES = st.datetimes().map(datetime.isoformat)
TEXTS = st.text(string.ascii_letters + " ,;\"'\n-äé", max_size=130)
MISSING_CELLS = st.sampled_from(sorted(MISSING))
CELLS = st.one_of(INTEGERS, NUMBERS, DATES, DATETIMES, st.sampled_from(["true", "No"]), TEXTS, MISSING_CELLS)


def attempt_telling(told: list[Progress] | None = None) -> Attempt:
    """An attempt whose progress goes into the list."""
    report = told.append if told is not None else lambda _: None
    return Attempt(job_id="job", number=1, report=report, seconds_left=lambda: 60.0, take_slot=lambda: None)


def profile(content: bytes | str, content_type: str = "text/csv") -> dict[str, Any]:
    """The profile as a caller reads it."""
    raw = content.encode() if isinstance(content, str) else content
    outcome = csv_profile.run(Body(content=raw, content_type=content_type), attempt_telling())
    assert isinstance(outcome, Succeeded), outcome
    read: dict[str, Any] = json.loads(outcome.content, parse_constant=pytest.fail)
    return read


def refusal(content: bytes | str, content_type: str = "text/csv") -> str:
    """The message of the final failure."""
    raw = content.encode() if isinstance(content, str) else content
    outcome = csv_profile.run(Body(content=raw, content_type=content_type), attempt_telling())
    assert isinstance(outcome, Failed), outcome
    return outcome.message


def column(*cells: str) -> dict[str, Any]:
    """The profile of a file's only column."""
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL).writerows([["name"], *([cell] for cell in cells)])
    read: dict[str, Any] = profile(written.getvalue())["columns"][0]
    return read


def test_a_file_is_profiled_column_by_column() -> None:
    no_comma = {"decimal_comma": False}
    read = profile("sku,price,sold\nA-1,2.5,2026-01-31\nB-2,,2026-02-01\n")
    assert read == {
        "rows": 2,
        "short_rows": 0,
        "long_rows": 0,
        "delimiter": ",",
        "also_possible": [],
        "columns": [
            {"name": "sku", "type": "text", "count": 2, "missing": 0, "min": "A-1", "max": "B-2", "mean": None}
            | no_comma,
            {"name": "price", "type": "number", "count": 1, "missing": 1, "min": 2.5, "max": 2.5, "mean": 2.5}
            | no_comma,
            {
                "name": "sold",
                "type": "date",
                "count": 2,
                "missing": 0,
                "min": "2026-01-31",
                "max": "2026-02-01",
                "mean": None,
            }
            | no_comma,
        ],
    }


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "-2", "+3"], "integer"),
        (["1", "2.5"], "number"),
        (["1e3", ".5", "2."], "number"),
        (["true", "FALSE", "Yes", "no"], "boolean"),
        (["true", "1"], "text"),
        (["2026-02-28"], "date"),
        (["2026-02-30"], "text"),
        (["2026-02-28", "2026-02-28 10:00"], "datetime"),
        (["2026-02-28T10:00:00.5Z", "2026-02-28T10:00:00.123456789+01:00"], "datetime"),
        (["0001-01-01T00:00:00+02:00"], "text"),
        (["2026-02-28", "7"], "text"),
        (["20260228"], "integer"),
        (["1,5", "-,25", "2", "1,5E+03"], "number"),
        (["1,5", "1,234"], "number"),
        (["0,125"], "number"),
        (["1,234", "17"], "text"),
        (["1,5", "2.5"], "text"),
        (["1.234,5"], "text"),
        (["1,234,567"], "text"),
        (["inf", "-Infinity"], "text"),
        (["1e999"], "text"),
        (["1_000"], "text"),
        (["٣"], "text"),
        (["007", "8"], "text"),
        (["1234567890123456789"], "text"),
        (["", " ", "NA", "NaN", "null"], "empty"),
        (["na"], "text"),
        ([], "empty"),
    ],
)
def test_a_column_has_the_narrowest_type_that_holds_all_its_cells(cells: list[str], expected: str) -> None:
    assert column(*cells)["type"] == expected


@settings(deadline=None)
@given(st.lists(CELLS, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_the_cells_does_not_matter(cells: list[str], random: Any) -> None:
    shuffled = random.sample(cells, len(cells))
    assert column(*cells) == column(*shuffled)


@settings(deadline=None)
@given(st.lists(st.one_of(INTEGERS, NUMBERS, MISSING_CELLS), max_size=40))
def test_numbers_are_those_of_a_naive_reference(cells: list[str]) -> None:
    numbers = [Fraction(cell) for cell in cells if cell not in MISSING]
    read = column(*cells)
    assert (read["count"], read["missing"]) == (len(numbers), len(cells) - len(numbers))
    if numbers:
        convert = int if read["type"] == "integer" else float
        assert (read["min"], read["max"]) == (convert(min(numbers)), convert(max(numbers)))
        assert read["mean"] == pytest.approx(float(statistics.mean(numbers)), rel=1e-15, abs=0)


@settings(deadline=None)
@given(st.lists(TEXTS.filter(lambda text: text.strip() not in MISSING), min_size=1))
def test_the_range_of_texts_is_that_of_a_naive_reference(cells: list[str]) -> None:
    texts = [cell.strip() for cell in cells]
    read = column(*cells, "some text")
    assert (read["min"], read["max"]) == (min(*texts, "some text")[:100], max(*texts, "some text")[:100])


@settings(deadline=None)
@given(st.lists(DATETIMES, min_size=1))
def test_the_range_of_instants_is_that_of_a_naive_reference(cells: list[str]) -> None:
    instants = [datetime.fromisoformat(cell) for cell in cells]
    read = column(*cells)
    assert (read["min"], read["max"]) == (min(instants).isoformat(), max(instants).isoformat())


def test_integers_beyond_a_floats_precision_stay_exact() -> None:
    read = column("9007199254740993", "9007199254740995")
    assert (read["min"], read["max"], read["mean"]) == (9007199254740993, 9007199254740995, 9007199254740994.0)


def test_the_mean_of_numbers_far_apart_loses_nothing() -> None:
    assert column("1e199", "3", "-1e199")["mean"] == 1.0


def test_instants_with_an_offset_are_given_in_utc_and_those_without_taken_as_utc() -> None:
    read = column("2026-01-01T01:00:00+02:00", "2026-01-01T00:00:00")
    assert (read["min"], read["max"]) == ("2025-12-31T23:00:00+00:00", "2026-01-01T00:00:00+00:00")


def test_a_long_text_is_cut() -> None:
    assert column("x" * 1000)["max"] == "x" * 100


def test_a_boolean_column_has_no_range() -> None:
    assert (column("true", "false")["min"], column("true", "false")["max"]) == (None, None)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_from_the_first_lines(delimiter: str) -> None:
    rows = [["name", "note"], ["a", "1,5 and 2,5, or more"], ["b", "x; y"]]
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter).writerows(rows)
    read = profile(written.getvalue())
    assert read["delimiter"] == delimiter
    assert [column["name"] for column in read["columns"]] == ["name", "note"]


def test_a_file_of_one_column_needs_no_delimiter() -> None:
    read = profile("name\nAda\nGrace")
    assert (read["rows"], read["delimiter"], read["also_possible"]) == (2, None, [])


@pytest.mark.parametrize(
    "first_line",
    ["sep=;", "SEP=;", '"sep=;"', "sep=;;;", '"sep=;";;', "\ufeffsep=;"],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_first_line_that_names_the_delimiter_is_no_row(first_line: str, line_end: str) -> None:
    read = profile(line_end.join([first_line, "a,x;b", "1;2,5", "3;4,5"]))
    assert (read["delimiter"], read["also_possible"], read["rows"]) == (";", [], 2)
    assert [column["name"] for column in read["columns"]] == ["a,x", "b"]


@pytest.mark.parametrize(
    ("named", "delimiter"), [("\t", "\t"), (r"\t", "\t"), (",", ","), ("|", "|"), ("^", "^"), (" ", " ")]
)
def test_such_a_line_may_name_any_delimiter(named: str, delimiter: str) -> None:
    read = profile(f"sep={named}\na{delimiter}b\n1{delimiter}2\n")
    assert (read["delimiter"], len(read["columns"])) == (delimiter, 2)


def test_a_column_may_be_called_after_a_separator() -> None:
    assert [column["name"] for column in profile("sep=a,b\n1,2\n")["columns"]] == ["sep=a", "b"]


@pytest.mark.parametrize("charset", ["utf-8-sig", "utf-16", "utf-32"])
def test_such_a_line_is_read_behind_every_byte_order_mark(charset: str) -> None:
    assert profile("sep=;\na;b\n1,5;2\n".encode(charset))["delimiter"] == ";"


def test_decimal_commas_between_semicolons_are_numbers() -> None:
    read = profile("Preis, netto;Preis, brutto\n1,50;1,79\n-2,25;3\n")
    assert (read["delimiter"], read["also_possible"]) == (";", [","])
    assert [(each["type"], each["decimal_comma"]) for each in read["columns"]] == [("number", True)] * 2
    assert [(each["min"], each["max"], each["mean"]) for each in read["columns"]] == [
        (-2.25, 1.5, -0.375),
        (1.79, 3.0, 2.395),
    ]


def test_a_column_with_commas_that_is_typed_tab_separated_is_one_column() -> None:
    read = profile("Surname, first name\nDoe, John\nRoe, Jane\n", "text/tab-separated-values; charset=utf-8")
    assert (read["delimiter"], read["also_possible"], read["long_rows"]) == ("\t", [], 0)
    assert [(column["name"], column["max"]) for column in read["columns"]] == [("Surname, first name", "Roe, Jane")]


def test_a_column_of_decimal_commas_is_one_column_and_the_comma_is_named_as_possible() -> None:
    read = profile("price\n1,5\n2,5\n")
    assert (read["delimiter"], read["also_possible"], read["long_rows"]) == (None, [","], 0)
    assert [(column["type"], column["mean"]) for column in read["columns"]] == [("number", 2.0)]


def test_quotes_tell_the_delimiter_below_a_header_of_one_column() -> None:
    read = profile('report\n"a","b"\n"1","2"\n')
    assert (read["delimiter"], read["rows"], read["long_rows"]) == (",", 2, 2)


def test_a_delimiter_that_would_leave_quotes_in_the_cells_is_not_possible() -> None:
    read = profile('a,"b;c"\n1,"x;y"\n2,"y;z"\n')
    assert (read["delimiter"], read["also_possible"]) == (",", [])


@pytest.mark.parametrize(
    ("parameter", "delimiter"),
    [
        ('delimiter=";"', ";"),
        ("delimiter=semicolon", ";"),
        ("delimiter=Tab", "\t"),
        (r'delimiter="\t"', "\t"),
        ("delimiter=comma", ","),
        ("Delimiter=bar", "|"),
        ("delimiter=|", "|"),
        ('charset=utf-8; delimiter=":"', ":"),
    ],
)
def test_a_caller_can_name_the_delimiter(parameter: str, delimiter: str) -> None:
    rows = [["a", "b; c, d | e\tf:g"], ["1", "2; 3, 4 | 5\t6:7"]]
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter).writerows(rows)
    read = profile(written.getvalue(), f"text/csv; {parameter}")
    assert (read["delimiter"], read["also_possible"]) == (delimiter, [])
    assert [column["name"] for column in read["columns"]] == rows[0]


def test_the_content_type_goes_before_the_line_in_the_file() -> None:
    read = profile("sep=;\na,b;c\n", 'text/csv; delimiter=","')
    assert [column["name"] for column in read["columns"]] == ["a", "b;c"]


@pytest.mark.parametrize("named", ["x", '""', "semikolon", '"\\""', '";;"', "1"])
def test_a_delimiter_that_can_not_be_one_is_refused(named: str) -> None:
    assert "the content type's delimiter can't be one" in refusal("a\n", f"text/csv; delimiter={named}")


def test_a_file_without_a_header_has_numbered_columns() -> None:
    read = profile("1,2\n3,4\n", "text/csv; header=absent")
    assert (read["rows"], [column["name"] for column in read["columns"]]) == (2, ["column_1", "column_2"])
    assert [column["min"] for column in read["columns"]] == [1, 2]


@pytest.mark.parametrize("length", [131_072, 300_000, 999_000])
def test_a_long_cell_is_read(length: int) -> None:
    read = profile(f'id,text\n1,"{"x" * length}"\n')
    assert (read["rows"], read["columns"][1]["count"]) == (1, 1)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_every_line_end_ends_a_row(line_end: str) -> None:
    assert profile(line_end.join(["a,b", "1,2", "", "3,4"]))["rows"] == 2


def test_a_quoted_field_may_hold_delimiters_quotes_and_line_ends() -> None:
    read = profile('a,b\n"x, ""y""\nz",1\n')
    assert (read["rows"], read["columns"][0]["min"]) == (1, 'x, "y"\nz')


def test_short_rows_lack_their_last_cells_and_long_rows_are_cut() -> None:
    read = profile("a,b\n1\n2,3,4\n5,6\n")
    assert (read["rows"], read["short_rows"], read["long_rows"]) == (3, 1, 1)
    assert [(column["count"], column["missing"]) for column in read["columns"]] == [(3, 0), (2, 1)]


def test_every_column_gets_a_name_of_its_own() -> None:
    read = profile("a,,a, a ,a_2\n")
    assert [column["name"] for column in read["columns"]] == ["a", "column_2", "a_2", "a_3", "a_2_2"]


def test_a_header_alone_has_empty_columns() -> None:
    read = profile("a,b")
    assert (read["rows"], [column["type"] for column in read["columns"]]) == (0, ["empty", "empty"])


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (codecs.BOM_UTF8 + "größe\nweiß".encode(), "text/csv"),
        ("größe\nweiß".encode("cp1252"), "text/csv; charset=windows-1252"),
        ("größe\nweiß".encode("latin-1"), 'text/plain; header=present; charset="ISO-8859-1"'),
        ("größe\nweiß".encode("utf-16"), "text/csv;charset=utf-16"),
        (codecs.BOM_UTF16_LE + "größe\nweiß".encode("utf-16-le"), "text/csv; charset=utf-16le"),
    ],
)
def test_the_charset_of_the_content_type_is_honoured(content: bytes, content_type: str) -> None:
    read = profile(content, content_type)["columns"][0]
    assert (read["name"], read["min"]) == ("größe", "weiß")


@pytest.mark.parametrize("content_type", ["text/csv", "text/csv; charset=utf-8", "text/csv; charset=utf-16"])
@pytest.mark.parametrize("charset", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-8"])
def test_a_byte_order_mark_names_the_charset_whatever_the_content_type_says(charset: str, content_type: str) -> None:
    read = profile("\ufeffgröße;x\r\nweiß;1,5\r\n".encode(charset), content_type)
    assert [(column["name"], column["min"]) for column in read["columns"]] == [("größe", "weiß"), ("x", 1.5)]


@pytest.mark.parametrize("charset", ["utf-16", "utf-32"])
def test_a_charset_that_needs_a_mark_is_refused_without_one_with_the_names_that_need_none(charset: str) -> None:
    content = "größe;x\nweiß;1\n".encode(f"{charset}-le")
    assert f"charset={charset}le or {charset}be" in refusal(content, f"text/csv; charset={charset}")
    assert profile(content, f"text/csv; charset={charset}le")["columns"][0]["min"] == "weiß"


@pytest.mark.parametrize("charset", ["klingon", "punycode", "hex", "unicode_escape", "undefined"])
def test_an_unknown_charset_is_refused_by_name(charset: str) -> None:
    assert f"charset '{charset}' is unknown" in refusal("a\n", f"text/csv; charset={charset}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\r\n\n", "the file is empty"),
        (codecs.BOM_UTF8, "the file is empty"),
        (b"a,b\n1,2\n3,\xff\n", "line 3 has byte 0xff, which is not utf-8"),
        (b"a\n" * 50_000 + b"caf\xe9\n", "line 50001 has byte 0xe9"),
        (b"a\n1\nx\xc3", "line 3 has byte 0xc3"),
        (b"a,b\n1,\0\n", "line 2 has a NUL character"),
        (b'a,b\n1,2\n3,"4\n5,6\n', "row 3 (up to line 4) can't be read"),
        (b'a,b\n\n"1"x,2\n', "row 3 (up to line 3) can't be read"),
        (b'a\n"' + (b"x" * 900_000 + b"\n") * 3, "row 2 (up to line 3) can't be read: field larger than field limit"),
        (b"sep=;\n\n", "the file is empty"),
        (b'sep=;\na;b\n"1"x;2\n', "row 2 (up to line 3) can't be read"),
        (b'a\n"1"x\n', "row 2 (up to line 2) can't be read: a line end expected after"),
        (b"sep=\na\n", "line 1 says sep=, which names no delimiter; write for example sep=;"),
        (b"sep=x\na\n", "line 1 says sep=x, which names no delimiter"),
        ("a,b\n1,2\n".encode("utf-16-le"), "it looks like UTF-16: say text/csv; charset=utf-16le"),
        ("a,b\n1,2\n".encode("utf-16-be"), "it looks like UTF-16: say text/csv; charset=utf-16be"),
        (b"PK\x03\x04\x14\0", "this is not a CSV: it is a workbook or another zip archive; save it as CSV"),
        (bytes.fromhex("d0cf11e0a1b11ae1"), "this is not a CSV: it is an Excel workbook"),
        (b"\x1f\x8b\x08", "this is not a CSV: it is compressed with gzip"),
        (b"a\n" + b"x" * 2_000_000, "line 2: its row is longer than 1000000 characters"),
        (b"a\n" + b'"\n",' * 1_000_000, "its row is longer than 1000000 characters"),
        (b"," * MAX_COLUMNS, "row 1 names 1001 columns; at most 1000"),
    ],
)
def test_what_can_not_be_profiled_fails_for_good_and_says_where(content: bytes, message: str) -> None:
    assert message in refusal(content)


def test_the_length_of_a_row_is_not_that_of_the_rows_before_it() -> None:
    assert profile("a\n" + ("x" * 100_000 + "\n") * 50)["rows"] == 50


@pytest.mark.parametrize("charset", ["gb18030", "shift_jis", "euc_kr", "utf-16", "utf-32"])
def test_bytes_that_are_not_of_the_declared_charset_are_refused(charset: str) -> None:
    assert "name the file's encoding" in refusal(b"a\n" * 20_001 + b"\xff\xff\n", f"text/csv; charset={charset}")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_profiled_or_refused(content: bytes) -> None:
    outcome = csv_profile.run(Body(content=content, content_type="text/csv"), attempt_telling())
    assert isinstance(outcome, Succeeded | Failed)


def test_another_kind_of_bytes_is_not_taken() -> None:
    for other in ("application/zip", "application/json", ""):
        with pytest.raises(UnsupportedBody, match="text/csv"):
            csv_profile.check(Body(content=b"a\n", content_type=other))


def test_bytes_of_no_known_kind_are_read_as_a_csv() -> None:
    body = Body(content=b"a;b\n1;2\n", content_type="application/octet-stream")
    csv_profile.check(body)
    assert csv_profile.run(body, attempt_telling()) == csv_profile.run(
        replace(body, content_type="text/csv"), attempt_telling()
    )


def test_progress_is_told_in_bytes_each_64_kilobytes_and_at_the_end() -> None:
    told: list[Progress] = []
    content = b"a,b\n" + b"1,2\n" * (MEGABYTE // 4)
    csv_profile.run(Body(content=content, content_type="text/csv"), attempt_telling(told))
    assert 10 <= len(told) <= 18
    assert [progress.done for progress in told] == sorted(progress.done for progress in told)
    assert told[-1] == Progress(done=len(content), total=len(content), note=f"{MEGABYTE // 4} rows")


def test_an_attempt_that_no_longer_counts_stops_on_the_way() -> None:
    def stop(progress: Progress) -> None:
        raise AttemptStopped

    attempt = Attempt(job_id="job", number=1, report=stop, seconds_left=lambda: 60.0, take_slot=lambda: None)
    with pytest.raises(AttemptStopped):
        csv_profile.run(Body(content=b"a\n" * MEGABYTE, content_type="text/csv"), attempt)


def peak_of(rows: int) -> int:
    """The most bytes that a profile of so many rows holds."""
    body = Body(content=b"id,name\n" + b"17,some text\n" * rows, content_type="text/csv")
    tracemalloc.start()
    csv_profile.run(body, attempt_telling())
    _, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return highest


def test_memory_does_not_grow_with_the_rows() -> None:
    # In a process of its own: what threads of other tests allocate meanwhile would count, too.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
        _, few, many = alone.map(peak_of, (10, 5_000, 50_000))  # what is cached at the first call does not count
    assert many < few + 50_000


def test_a_column_that_became_text_knows_its_first_cells_too() -> None:
    tried = Column("any")
    for cell in ("5", "2026-01-01", "zebra"):
        tried.add(cell)
    told = tried.profile(rows=4)
    assert (told.type, told.min, told.max, told.missing) == (ColumnType.TEXT, "2026-01-01", "zebra", 1)

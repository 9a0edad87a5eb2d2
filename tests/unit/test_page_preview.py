"""What is shown of somebody else's bytes."""

import pytest

from tidegate.jobs.history import Head
from webapp.page.preview import HEAD_BYTES, Preview, preview_of


def shown(content: bytes, content_type: str = "application/json", size: int | None = None) -> Preview:
    return preview_of(Head(content=content, content_type=content_type, size=len(content) if size is None else size))


def test_json_has_a_line_for_each_member_and_its_numbers_as_they_came() -> None:
    text = shown(b'{"a":1.10,"b":[1,{}],"c":[],"d":{"e":12345678901234567890123,"f":"x, {y}: \\"z\\""}}').text
    assert text == (
        '{\n  "a": 1.10,\n  "b": [\n    1,\n    {}\n  ],\n  "c": [],\n  "d": {\n'
        '    "e": 12345678901234567890123,\n    "f": "x, {y}: \\"z\\""\n  }\n}'
    )


@pytest.mark.parametrize("content", [b"1", b'"a"', b"null", b"[]", b"{}"])
def test_short_json_stays_as_it_is(content: bytes) -> None:
    assert shown(content).text == content.decode()


@pytest.mark.parametrize(
    "content",
    [b"{", b"", b"[1,", b"{'a': 1}", b"[" * 2000 + b"]" * 2000, b"[" * 60 + b"]" * 60],
    ids=lambda each: str(each[:8]),
)
def test_what_is_no_json_or_very_deep_is_shown_as_it_came(content: bytes) -> None:
    assert shown(content).text == content.decode()


def test_a_character_that_was_cut_in_two_is_left_out() -> None:
    content = ("a" + "é" * HEAD_BYTES).encode()
    preview = shown(content[:HEAD_BYTES], "text/plain", len(content))
    assert preview.text == "a" + "é" * ((HEAD_BYTES - 1) // 2)
    assert not preview.is_whole


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"\xff\xfe", "text/plain"),
        (b"abc", "application/octet-stream"),
        (b"abc", "image/svg+xml; x"),
        (b"abc", "text/plain; charset=no-such"),
        (b"abc", ""),
        (b"abc", "nonsense"),
    ],
)
def test_what_is_no_text_is_not_shown(content: bytes, content_type: str) -> None:
    assert shown(content, content_type).text is None or content_type in {"image/svg+xml; x", "", "nonsense"}


def test_a_charset_is_obeyed() -> None:
    assert shown("Grüße".encode("latin-1"), "text/csv; charset=iso-8859-1").text == "Grüße"


def test_characters_that_hide_or_turn_text_around_are_signs() -> None:
    text = shown(
        "a\0b\x1b[31m\N{RIGHT-TO-LEFT OVERRIDE}\N{ZERO WIDTH SPACE}\x7f\u2028\ttab\nline".encode(), "text/plain"
    ).text
    assert text == "a␀b␛[31m⟨U+202E⟩⟨U+200B⟩␡⟨U+2028⟩\ttab\nline"


def test_a_content_type_can_not_hide_anything_either() -> None:
    assert shown(b"", "text/plain\N{RIGHT-TO-LEFT OVERRIDE}").content_type == "text/plain⟨U+202E⟩"


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (4096, "4.1 KB"), (999_600, "1.0 MB"), (20_971_520, "21 MB")],
)
def test_sizes_are_rounded(size: int, said: str) -> None:
    assert shown(b"", size=size).size == said

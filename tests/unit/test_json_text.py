"""Members of a JSON input as they are written, and what stands at a pointer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import InvalidInput, MalformedBody
from tidegate.operations.json_pointer import parse_pointer, pointer_of
from tidegate.operations.json_text import JsonText, has_something_at

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON, max_size=6), st.sampled_from([None, 1, "\t"]))
def test_each_member_is_the_text_that_stands_there(document: dict[str, object], indent: int | str | None) -> None:
    content = json.dumps(document, indent=indent).encode()
    members = JsonText.of(content).members()
    assert {name: json.loads(member.text) for name, member in members.items()} == document
    assert all(member.text in content.decode() for member in members.values())


def test_numbers_and_texts_are_as_the_caller_wrote_them() -> None:
    members = JsonText.of(
        b'{"a": 0.10, "b": 1e2, "c": 12345678901234567890.5, "d": "x\\u00e9\\n", "e": true}'
    ).members()
    assert {name: member.scalar for name, member in members.items()} == {
        "a": "0.10",
        "b": "1e2",
        "c": "12345678901234567890.5",
        "d": "xé\n",
        "e": "true",
    }


@pytest.mark.parametrize("value", ["null", "[1]", "{}"])
def test_what_is_no_scalar_is_none(value: str) -> None:
    assert JsonText.of(f'{{"a": {value}}}'.encode()).members()["a"].scalar is None


def test_a_pointer_leads_into_objects() -> None:
    document = JsonText.of(b'{"order": {"a/b": {"~": [1,  2.50]}}}')
    assert document.at(parse_pointer("/order/a~1b/~0")).text == "[1,  2.50]"
    assert document.at(()).text == '{"order": {"a/b": {"~": [1,  2.50]}}}'


@pytest.mark.parametrize(
    ("content", "pointer", "where", "why"),
    [
        (b"{}", "/a", "/a", "it is missing"),
        (b'{"a": {}}', "/a/b", "/a/b", "it is missing"),
        (b'{"a": 1}', "/a/b", "/a", "it has to be an object"),
        (b"[1]", "/0", "", "it has to be an object"),
        (b'{"a": 1, "a": 2}', "/a", "/a", "it stands there twice"),
        (b'{"a": 1, "\\u0061": 2}', "/a", "/a", "it stands there twice"),
        (b'{"a": {"b": 1, "b": 1}}', "/a/b", "/a/b", "it stands there twice"),
    ],
)
def test_what_is_not_there_or_twice_is_refused(content: bytes, pointer: str, where: str, why: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        JsonText.of(content).at(parse_pointer(pointer))
    ((fault,),) = (caught.value.faults,)
    assert fault.pointer == where
    assert why in fault.detail


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"a": NaN}', b'\xef\xbb\xbf{"a": 1}', b'{"a": "\xff"}', b'{"a": "\\ud800"}', b"[" * 5000]
)
def test_what_is_no_json_is_told_as_that(content: bytes) -> None:
    with pytest.raises(MalformedBody):
        JsonText.of(content)


def test_what_lies_deep_is_found() -> None:
    content = b'{"a": ' + b"[" * 800 + b"]" * 800 + b"}"
    assert len(JsonText.of(content).at(["a"]).text) == 1600


@given(st.lists(st.text()))
def test_a_pointer_is_read_as_it_is_written(names: list[str]) -> None:
    assert list(parse_pointer(pointer_of(names))) == names


@pytest.mark.parametrize("text", ["a", "a/b", "/a~", "/a~2"])
def test_what_is_no_pointer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no JSON pointer"):
        parse_pointer(text)


@pytest.mark.parametrize(
    ("content", "there"),
    [
        ("{}", False),
        ('{"error": null}', False),
        ('{"error": false}', False),
        ('{"error": 0}', False),
        ('{"error": ""}', False),
        ('{"error": []}', False),
        ('{"error": {}}', False),
        ("[]", False),
        ("null", False),
        ('{"error": "no"}', True),
        ('{"error": {"code": 0}}', True),
        ('{"error": [null]}', True),
        ('{"error": true}', True),
        ('{"error": -0.5}', True),
    ],
)
def test_null_false_zero_and_empty_are_nothing(content: str, there: bool) -> None:
    assert has_something_at(("error",), content.encode()) is there


def test_a_pointer_into_an_answer_leads_into_lists_too() -> None:
    assert has_something_at(("faults", "0", "text"), b'{"faults": [{"text": "no"}]}')
    assert not has_something_at(("faults", "1"), b'{"faults": [1]}')
    assert not has_something_at(("faults", "-"), b'{"faults": [1]}')

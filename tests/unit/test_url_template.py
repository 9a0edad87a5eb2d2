"""Values of an input in the URL of a call: encoded, and kept in the segment or value that they were meant for."""

from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.operations.http_url import parse_url
from tidegate.operations.url_template import LONGEST, Place, parse_url_template

TEMPLATE = "https://crm.internal:8443/v1/customers/{customer}/orders?lang={lang}&fixed=1"


def filled(template: str, **values: str) -> str:
    return parse_url_template(template).fill(values, str)


def test_places_are_found_with_what_they_stand_in() -> None:
    assert parse_url_template(TEMPLATE).places == (Place("customer", "path"), Place("lang", "query"))
    assert filled(TEMPLATE, customer="a b", lang="de") == (
        "https://crm.internal:8443/v1/customers/a%20b/orders?lang=de&fixed=1"
    )


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{base}/v1", "scheme, host and port"),
        ("https://{host}/v1", "scheme, host and port"),
        ("https://crm{suffix}/v1", "scheme, host and port"),
        ("https://crm:{port}/v1", "scheme, host and port"),
        ("https://crm{path}", "scheme, host and port"),
        ("${CRM}{path}", "scheme, host and port"),
        ("${CRM:-https://crm/v1/}{path}", "scheme, host and port"),
        ("$${path}", "scheme, host and port"),
        ("https://crm?{name}=1", "the name of a parameter"),
        ("https://crm/?a=1&{name}", "the name of a parameter"),
        ("https://crm/{", "opening brace"),
        ("https://crm/{}", "opening brace"),
        ("https://crm/{a b}", "opening brace"),
        ("https://crm/{a", "opening brace"),
        ("https://crm/{{a}", "closing brace"),
        ("https://crm/a}", "closing brace"),
    ],
)
def test_a_place_where_none_may_be_is_refused(template: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_url_template(template)


def test_a_double_brace_is_a_brace_and_one_of_the_environment_is_left_alone() -> None:
    template = parse_url_template("${CRM:-https://${HOST}/}x/{{{a}}}?q={b}")
    assert template.parts == ("${CRM:-https://${HOST}/}x/%7B", Place("a", "path"), "%7D?q=", Place("b", "query"))
    assert parse_url_template("https://crm/$${a}").fill({"a": "1"}, lambda text: text.replace("$$", "$")) == (
        "https://crm/$1"
    )


def test_what_the_environment_puts_in_is_no_place() -> None:
    template = parse_url_template("${CRM}/v1/{a}")
    assert template.fill({"a": "1"}, lambda text: text.replace("${CRM}", "https://crm/{b}")) == "https://crm/{b}/v1/1"


TRICKS = [
    "/etc/passwd",
    "a/b",
    "a\\b",
    "a?admin=1",
    "a#fragment",
    "a&b=c",
    "a=b",
    "a;b",
    "//evil.example",
    "@evil.example",
    "https://evil.example/",
    "%2F",
    "%252e%252e",
    "...",
    ".a",
    "a..b",
    "\u2024\u2024",  # one-dot leaders
    "\uff0e\uff0e",  # full-width dots
    "\u2215x",  # a division slash
    "ß€😀",
    "a+b c",
    "{lang}",
    "${HOME}",
    "[::1]",
]


@pytest.mark.parametrize("value", TRICKS)
def test_a_value_stays_in_its_segment_and_in_its_parameter(value: str) -> None:
    url = parse_url(filled(TEMPLATE, customer=value, lang=value))
    path, _, query = url.target.partition("?")
    assert (url.scheme, url.host, url.port) == ("https", "crm.internal", 8443)
    assert [unquote(segment) for segment in path.split("/")] == ["", "v1", "customers", value, "orders"]
    assert parse_qsl(query, keep_blank_values=True) == [("lang", value), ("fixed", "1")]


@pytest.mark.parametrize(
    "value",
    ["", ".", "..", "../admin", "a/../b", "a/..", "..\\admin", "a\\..", "%2e", "%2E%2e", "a/%2e%2e/b", "a/./b"],
)
def test_a_value_that_leads_to_another_path_is_refused_there_and_taken_in_the_query(value: str) -> None:
    with pytest.raises(ValueError, match="customer: it"):
        filled(TEMPLATE, customer=value, lang="x")
    assert parse_qsl(urlsplit(filled(TEMPLATE, customer="x", lang=value)).query, keep_blank_values=True)[0][1] == value


@pytest.mark.parametrize("value", ["\0", "a\nb", "a\r\nHost: evil", "\t", "\x7f", "\x85"])
def test_a_control_character_is_refused_in_the_path(value: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        filled(TEMPLATE, customer=value, lang="x")


@pytest.mark.parametrize(
    ("template", "values"),
    [
        ("https://crm/v1/{a}{b}/x", {"a": ".", "b": "."}),
        ("https://crm/v1/.{a}/x", {"a": "%2e"}),
        ("https://crm/v1/%2e{a}/x", {"a": "."}),
        ("https://crm/v1/{a}{b}", {"a": ".", "b": "."}),
    ],
)
def test_values_that_make_such_a_segment_together_are_refused(template: str, values: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"(leads elsewhere|another path)"):
        filled(template, **values)


def test_half_a_character_and_too_much_are_refused() -> None:
    with pytest.raises(ValueError, match="lang: it has half of a character"):
        filled(TEMPLATE, customer="x", lang="\ud83d")
    with pytest.raises(ValueError, match="longer than 8000"):
        filled(TEMPLATE, customer="x", lang="y" * LONGEST)


@given(st.text(), st.text())
def test_whatever_it_is_it_comes_out_as_it_went_in_or_is_refused(customer: str, lang: str) -> None:
    try:
        url = parse_url(filled(TEMPLATE, customer=customer, lang=lang))
    except ValueError:
        return
    path, _, query = url.target.partition("?")
    assert url.host_field == "crm.internal:8443"
    assert [unquote(segment) for segment in path.split("/")] == ["", "v1", "customers", customer, "orders"]
    assert parse_qsl(query, keep_blank_values=True) == [("lang", lang), ("fixed", "1")]

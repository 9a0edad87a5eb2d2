"""The URLs that requests go to: read in parts as RFC 3986 has them, or refused with what to write."""

import pytest

from tidegate.operations.http_url import parse_url


@pytest.mark.parametrize(
    ("text", "host", "port", "target", "host_field"),
    [
        ("http://host", "host", 80, "/", "host"),
        ("HTTPS://Host.Example:8443/A?b", "host.example", 8443, "/A?b", "host.example:8443"),
        ("http://[::1]:9100/quote", "::1", 9100, "/quote", "[::1]:9100"),
        ("http://[2001:DB8:0::1]/", "2001:db8::1", 80, "/", "[2001:db8::1]"),
        ("https://host:443/", "host", 443, "/", "host"),
        ("https://host:80/", "host", 80, "/", "host:80"),
        ("http://host?x=1", "host", 80, "/?x=1", "host"),
        ("http://host/a;v=1/b;w?", "host", 80, "/a;v=1/b;w?", "host"),
        ("http://host//a/../b", "host", 80, "//a/../b", "host"),
        ("http://svc.ns.svc.cluster.local.:22/", "svc.ns.svc.cluster.local.", 22, "/", "svc.ns.svc.cluster.local.:22"),
        ("http://worker_io:1/stra%C3%9Fe?q=a@b", "worker_io", 1, "/stra%C3%9Fe?q=a@b", "worker_io:1"),
        ("http://xn--strae-oqa.example/", "xn--strae-oqa.example", 80, "/", "xn--strae-oqa.example"),
    ],
)
def test_a_url_is_sent_as_it_was_written(text: str, host: str, port: int, target: str, host_field: str) -> None:
    url = parse_url(text)

    assert (url.host, url.port, url.target, url.host_field) == (host, port, target, host_field)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("http://user:hidden@host/", "a secret goes into a header"),
        ("http://@host/", "no user or password"),
        ("http://host/hidden#part", "write %23"),
        ("http://host#hidden", "write %23"),
        ("http://straße.example/", "xn--"),
        ("http://host/straße", "%C3%9F"),
        ("http://host/a b", "%20"),
        ("http://host/\x7f", "percent-encoded"),
        ("http://host/a\nb", "percent-encoded"),
        ("http://host\\@hidden/", "a character that no URL has"),
        ("http://host/{customer}", "a character that no URL has"),
        ("http://host/100%", "write %25"),
        ("http://host/%zz", "write %25"),
        ("http://host:0/", "from 1 to 65535"),
        ("http://host:70000/", "from 1 to 65535"),
        ("http://host:/", "from 1 to 65535"),
        ("http://host:http/", "from 1 to 65535"),
        ("http://host:080/", "from 1 to 65535"),
        ("http:///x", "there is no host"),
        ("http://", "there is no host"),
        ("http://:80/", "there is no host"),
        ("http://a..b/", "the host is no name"),
        ("http://-a/", "the host is no name"),
        ("http://a%20b/", "the host is no name"),
        ("http://127.1/", "four decimal numbers"),
        ("http://0x7f.0.0.1/", "four decimal numbers"),
        ("http://[::1/", "absolute http:// or https:// URL"),
        ("http://[::g]/", "no IPv6 address"),
        ("http://[fe80::1%25eth0]/", "a single machine"),
        ("ftp://host/", "absolute http:// or https:// URL"),
        ("http:host/", "absolute http:// or https:// URL"),
        ("//host/", "absolute http:// or https:// URL"),
        ("/relative", "absolute http:// or https:// URL"),
        ("host:80", "absolute http:// or https:// URL"),
        ("", "absolute http:// or https:// URL"),
    ],
)
def test_what_could_not_be_sent_as_it_stands_is_refused_with_the_reason(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as error:
        parse_url(text)

    assert told in str(error.value)
    assert "hidden" not in str(error.value), "there may be a secret in it"

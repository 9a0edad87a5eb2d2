"""What a caller may name as a webhook: the tricks of those who want to reach through us what only we can reach."""

from ipaddress import ip_address, ip_network

import pytest

from tidegate.webhooks.egress import Egress
from tidegate.webhooks.url import check, parse

PUBLIC = Egress()
LOOPBACK = Egress([ip_network("127.0.0.0/8"), ip_network("::1/128")])

TRICKS = {
    "loopback": "http://127.0.0.1/",
    "loopback elsewhere": "http://127.8.9.1/",
    "short loopback": "http://127.1/",
    "decimal": "http://2130706433/",
    "decimal beyond 32 bits": "http://42949672960/",
    "octal": "http://017700000001/",
    "octal parts": "http://0177.0.0.1/",
    "padded parts": "http://127.000.000.001/",
    "hexadecimal": "http://0x7f000001/",
    "hexadecimal parts": "http://0x7f.0x0.0x0.0x1/",
    "hexadecimal last part": "http://127.0.0.0x1/",
    "nothing but 0x": "http://0x/",
    "zero": "http://0/",
    "all zeros": "http://0.0.0.0/",
    "this network": "http://0.1.2.3/",
    "trailing dot": "http://127.0.0.1./",
    "trailing dot of a name": "http://localhost./",
    "localhost": "http://localhost/",
    "capitals": "http://LOCALHOST/",
    "below localhost": "http://a.localhost:8080/",
    "private 10": "https://10.0.0.1/",
    "private 172": "https://172.31.255.254/",
    "private 192": "https://192.168.1.1/",
    "carriers' NAT": "https://100.64.0.1/",
    "metadata": "http://169.254.169.254/latest/meta-data/",
    "metadata in decimal": "http://2852039166/",
    "metadata of a container": "http://169.254.170.2/v2/credentials",
    "metadata behind carriers' NAT": "http://100.100.100.200/",
    "metadata in protocol assignments": "http://192.0.0.192/",
    "a cloud's host agent": "http://168.63.129.16/",
    "benchmarks": "http://198.18.0.1/",
    "documentation": "http://192.0.2.1/",
    "multicast": "http://224.0.0.1/",
    "reserved": "http://240.0.0.1/",
    "broadcast": "http://255.255.255.255/",
    "IPv6 loopback": "http://[::1]/",
    "IPv6 loopback in full": "http://[0000:0000:0000:0000:0000:0000:0000:0001]/",
    "IPv6 unspecified": "http://[::]/",
    "mapped loopback": "http://[::ffff:127.0.0.1]/",
    "mapped loopback in hexadecimal": "http://[::ffff:7f00:1]/",
    "mapped metadata": "http://[::ffff:169.254.169.254]/",
    "compatible loopback": "http://[::127.0.0.1]/",
    "translated loopback": "http://[::ffff:0:127.0.0.1]/",
    "NAT64 loopback": "http://[64:ff9b::7f00:1]/",
    "NAT64 metadata": "http://[64:ff9b::169.254.169.254]/",
    "local NAT64": "http://[64:ff9b:1::1]/",
    "6to4 loopback": "http://[2002:7f00:1::]/",
    "Teredo": "http://[2001:0:53aa:64c::1]/",
    "IPv6 link-local": "http://[fe80::1]/",
    "zone": "http://[fe80::1%25eth0]/",
    "zone on a public address": "http://[2606:4700::1111%25lo]/",
    "IPv6 private": "http://[fc00::1]/",
    "IPv6 metadata": "http://[fd00:ec2::254]/",
    "IPv6 site-local": "http://[fec0::1]/",
    "IPv6 multicast": "http://[ff02::1]/",
    "IPv6 documentation": "http://[2001:db8::1]/",
    "a user that looks like the host": "http://example.com@127.0.0.1/",
    "user and password": "http://user:secret@example.com/",
    "an empty user": "http://@example.com/",
    "a backslash before the at sign": "http://example.com\\@127.0.0.1/",
    "a fragment before the at sign": "http://127.0.0.1#@example.com/",
    "a query before the at sign": "http://127.0.0.1?@example.com/",
    "two at signs": "http://a@example.com@127.0.0.1/",
    "a tab within": "http://127.0.0.1\t.example.com/",
    "a line's end": "http://example.com/\r\nX-Evil: 1",
    "a space": "http://example.com /",
    "leading space": " http://example.com/",
    "full width digits": "http://１２７.0.0.1/",  # noqa: RUF001 - they are the trick
    "circled digits": "http://①②⑦.⓪.⓪.①/",
    "an ideographic dot": "http://127。0。0。1/",
    "percent in the host": "http://%31%32%37.0.0.1/",
    "a NUL": "http://127.0.0.1\0.example.com/",
    "no host": "http:///etc/passwd",
    "one slash": "http:/127.0.0.1/",
    "no scheme": "//127.0.0.1/",
    "file": "file:///etc/passwd",
    "gopher": "gopher://127.0.0.1:6379/_INFO",
    "unix socket": "unix:///var/run/docker.sock",
    "port of SSH": "http://example.com:22/",
    "port of SMTP": "http://example.com:25/",
    "port of IRC": "http://example.com:6667/",
    "port zero": "http://example.com:0/",
    "port beyond": "http://example.com:65536/",
    "port wraps to 80": "http://example.com:65616/",
    "port is empty": "http://example.com:/",
    "port in words": "http://example.com:http/",
    "two ports": "http://127.0.0.1:80:8080/",
    "bracket and more": "http://[::1].example.com/",
    "IPv6 without brackets": "http://::1/",
    "address in name's brackets": "http://[127.0.0.1]/",
    "empty label": "http://example..com/",
    "too long": f"http://example.com/{'a' * 2000}",
}


@pytest.mark.parametrize("url", TRICKS.values(), ids=TRICKS.keys())
def test_a_trick_is_refused_at_the_door(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        check(parse(url), PUBLIC)


@pytest.mark.parametrize(
    ("url", "host", "port", "target"),
    [
        ("https://example.com", "example.com", 443, "/"),
        ("http://Example.COM:8080/a/b?c=d&e=%20", "example.com", 8080, "/a/b?c=d&e=%20"),
        ("HTTPS://hooks.example.com/x", "hooks.example.com", 443, "/x"),
        ("https://example.com?token=a@b", "example.com", 443, "/?token=a@b"),
        ("https://example.com/@me/a:b", "example.com", 443, "/@me/a:b"),
        ("http://93.184.216.34:3000/", "93.184.216.34", 3000, "/"),
        ("http://[2606:4700:4700:0::1111]:8443/", "2606:4700:4700::1111", 8443, "/"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", 443, "/"),
        ("https://my_service.example.com/", "my_service.example.com", 443, "/"),
        ("https://1password.com.1e100.net/", "1password.com.1e100.net", 443, "/"),
    ],
)
def test_a_plain_url_is_taken_and_read_as_everybody_reads_it(url: str, host: str, port: int, target: str) -> None:
    read = parse(url)
    check(read, PUBLIC)
    assert (read.host, read.port, read.target) == (host, port, target)
    assert read.text == url


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_open(address: str) -> None:
    assert PUBLIC.allows(ip_address(address))


def test_a_setting_opens_a_network_and_no_other() -> None:
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "1.1.1.1"):
        assert LOOPBACK.allows(ip_address(address))
    for address in ("10.0.0.1", "169.254.169.254", "fe80::1", "0.0.0.0", "::"):  # noqa: S104 - not to bind to
        assert not LOOPBACK.allows(ip_address(address))


@pytest.mark.parametrize("address", ["0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "::", "ff02::1"])  # noqa: S104 - not to bind to
def test_no_setting_opens_what_is_no_host(address: str) -> None:
    assert not Egress([ip_network("0.0.0.0/0"), ip_network("::/0")]).allows(ip_address(address))

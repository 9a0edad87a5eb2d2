"""The operations file: what it means, and how each mistake in it is told."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from config.operations_file import read_operations_file
from tests.support.tls import Certificates
from tidegate.errors import ConfigurationError
from tidegate.operations.http_operation import HttpOperation
from tidegate.operations.limits import Limits
from tidegate.operations.oauth import OAuth
from tidegate.operations.sharing import Sharing

OAUTH = 'token_url = "http://h/token", client_id = "a"'
MINIMAL = '[operations.quote]\nurl = "http://127.0.0.1/quote"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "operations.toml"


def read(file: Path, text: str) -> tuple[Sequence[HttpOperation], Sequence[Limits]]:
    """What is in a file without a fault; raises ConfigurationError with all of them."""
    file.write_text(text)
    found = read_operations_file(file, max_result=1000)
    if found.faults:
        raise ConfigurationError(*found.faults)
    return found.operations, found.limits


def test_an_operation_needs_only_a_url(file: Path) -> None:
    ((quote,), limits) = read(file, MINIMAL)

    assert (quote.name, quote.downstream, quote.method, quote.headers) == ("quote", "quote", "POST", {})
    assert (quote.timeout, quote.attempt_timeout) == (timedelta(minutes=2), timedelta(seconds=10))
    assert (quote.retry.attempts, quote.retry.delay, quote.retry.max_delay) == (
        5,
        timedelta(seconds=1),
        timedelta(seconds=30),
    )
    assert quote.retry.on == {408, 425, 429, 500, 502, 503, 504}
    assert quote.max_result == 1000
    assert limits == ()


def test_the_example_of_the_contract_is_read(file: Path) -> None:
    ((geocode,), (limits,)) = read(
        file,
        """
        [downstreams.geocoder]
        rate = ["10/s", "10000/d"]
        burst = 2
        concurrency = 8

        [operations.geocode]
        downstream = "geocoder"
        url = "http://geocoder.internal/v1/lookup"
        method = "PUT"
        headers = { Authorization = "Bearer ${GEOCODER_KEY}" }
        timeout = "2m"
        attempt_timeout = "10s"
        retry = { attempts = 5, delay = "1s", max_delay = "30s", on = [408, 500] }
        admission = true
        """,
    )

    assert (limits.name, limits.rates, limits.burst, limits.concurrency) == ("geocoder", ("10/s", "10000/d"), 2, 8)
    assert geocode.downstream == "geocoder"
    assert geocode.headers == {"Authorization": "Bearer ${GEOCODER_KEY}"}, "a secret is put in by workers only"
    assert geocode.retry.on == {408, 500}


@pytest.mark.parametrize(
    ("line", "key", "told"),
    [
        ('url = "ftp://host/"', "url", "http:// or https://"),
        ('url = "/relative"', "url", "http:// or https://"),
        ('url = "http:///x"', "url", "there is no host"),
        ('url = "http://host/a b"', "url", "%20 for a blank"),
        ('url = "http://straße.example/"', "url", "as it stands in the DNS (xn--…)"),
        ('url = "http://host/straße"', "url", "percent-encoded"),
        ('url = "http://user:pw@host/"', "url", "no user or password"),
        ('url = "http://host/#part"', "url", "no fragment"),
        ('url = "http://host:70000/"', "url", "from 1 to 65535"),
        ('url = "http://host/$x"', "url", "$x: write ${x} for its value, or $$ for a dollar sign"),
        ('url = "http://host/${A-b}"', "url", "write ${A:-…}"),
        ("url = 5", "url", "write a text, in quotes"),
        ('method = "FETCH"', "method", "GET"),
        ('timeout = "soon"', "timeout", "is not a duration"),
        ("timeout = 0", "timeout", "out of range"),
        ("timeout = true", "timeout", "duration"),
        ('attempt_timeout = "-1s"', "attempt_timeout", "is not a duration"),
        ('attempt_timeout = "3m"', "attempt_timeout", "longer than the timeout of the whole, 2m"),
        ("timeout = 2026-01-01", "timeout", "is not a duration"),
        ('timeout = ["2m"]', "timeout", "is not a duration"),
        ('retry = { delay = "1m", max_delay = "30s" }', "retry.delay", "longer than max_delay, 30s"),
        ("retry = { attempts = true }", "retry.attempts", "write a whole number"),
        ("retry = 3", "retry", "write a table"),
        ('headers = ["A: b"]', "headers", "write a table"),
        ("retry = { attempts = 0 }", "retry", "greater than or equal to 1"),
        ("retry = { on = [99] }", "retry", "100"),
        ("retry = { on = 500 }", "retry.on", "write a list"),
        ("retry = { tries = 1 }", "retry.tries", "no such key; there are attempts, delay, max_delay, on"),
        ("retry = { attempt = 1 }", "retry.attempt", "no such key (did you mean 'attempts'?)"),
        ('downstream = "Not A Name"', "downstream", "can't be a name"),
        ('downstream = ""', "downstream", "can't be a name"),
        ('downstream = "${LANE}"', "downstream", "can't be a name"),
        ('method = "get"', "method", "GET"),
        ('admission = "yes"', "admission", "write true or false"),
        ("admission = 1", "admission", "write true or false"),
        ('max_body = "20"', "max_body", "write a whole number"),
        ("max_body = -1", "max_body", "greater than or equal to 0"),
        ('colour = "red"', "colour", "no such key; there are url, downstream, queue"),
        ('tiemout = "1m"', "tiemout", "no such key (did you mean 'timeout'?)"),
        ('headers = { "X Y" = "z" }', "headers", "can't be set here"),
        ('headers = { Host = "z" }', "headers", "can't be set here"),
        ('headers = { content-LENGTH = "1" }', "headers", "can't be set here"),
        ('headers = { Idempotency-Key = "1" }', "headers", "can't be set here"),
        ('headers = { Transfer-Encoding = "chunked" }', "headers.Transfer-Encoding", "can't be set here"),
        ('headers = { TE = "trailers" }', "headers.TE", "can't be set here"),
        ('headers = { Expect = "100-continue" }', "headers.Expect", "can't be set here"),
        ('headers = { "" = "z" }', "headers.", "no name of a header"),
        ('headers = { X-A = "1", x-a = "2" }', "headers.x-a", "stands there twice, as X-A, too"),
        ('headers = { X-A = "Bearer $B" }', "headers.X-A", "$B: write ${B}"),
        ('headers = { X-A = "Bearer ${ B }" }', "headers.X-A", "without blanks"),
        ('headers = { X-A = "${B:?no}" }', "headers.X-A", "write ${B}, which must have a value"),
        ('headers = { X-A = "5 $" }', "headers.X-A", "write $$ for one"),
        ('headers = { X-A = "a\\r\\nX-B: b" }', "headers", "one line of ASCII"),
        ('headers = { X-A = "\\u0001" }', "headers", "one line of ASCII"),
        ('headers = { X-A = " a" }', "headers", "without spaces around it"),
        ('headers = { X-A = "é" }', "headers", "one line of ASCII"),
        ("headers = { X-A = 1 }", "headers", "write a text, in quotes"),
        ('url = "http://host{path}"', "url", "scheme, host and port can't come from the input"),
        ('url = "http://host/?{name}=1"', "url", "the name of a parameter can't come from the input"),
        ('url = "http://host/{a"', "url", "write {name} for a member of the input"),
        ('url = "http://host/../{a}"', "url", ". or .."),
        ('url = "http://host/a}"', "url", "write }} for the character"),
        ('body = "payload"', "body", "write json:/name"),
        ('body = "json:payload"', "body", "body: write true or false; or it is no JSON pointer"),
        ("body = 1", "body", "write true or false"),
        ('fail_when = "error"', "fail_when", "write json:/name"),
        ('oauth = "x"', "oauth", "write a table"),
        ('oauth = { client_id = "a", client_secret = "b" }', "oauth.token_url", "it is missing"),
        ('oauth = { token_url = "http://h/", client_id = "a" }', "oauth.client_secret", "it is missing"),
        ('oauth = { token_url = "ftp://h/", client_id = "a", client_secret = "b" }', "oauth.token_url", "http://"),
        (
            'oauth = { token_url = "http://h/#a", client_id = "a", client_secret = "b" }',
            "oauth.token_url",
            "no fragment",
        ),
        ('oauth = { token_url = "http://h/", client_id = "", client_secret = "b" }', "oauth.client_id", "not empty"),
        (
            'oauth = { token_url = "http://h/", client_id = "a", client_secret = "" }',
            "oauth.client_secret",
            "not empty",
        ),
        (f'oauth = {{ {OAUTH}, client_secret = "b\\n" }}', "oauth.client_secret", "one line"),
        (f'oauth = {{ {OAUTH}, client_secret = "$B" }}', "oauth.client_secret", "$B: write ${B}"),
        (f'oauth = {{ {OAUTH}, client_secret = "b", scope = "a  b" }}', "oauth.scope", "one blank between"),
        (f'oauth = {{ {OAUTH}, client_secret = "b", scope = "ä" }}', "oauth.scope", "one blank between"),
        (f'oauth = {{ {OAUTH}, client_secret = "b", auth = "jwt" }}', "oauth.auth", "'basic' or 'body'"),
        (f'oauth = {{ {OAUTH}, client_secret = "b", scopes = "a" }}', "oauth.scopes", "(did you mean 'scope'?)"),
        (
            f'headers = {{ authorization = "Bearer x" }}\noauth = {{ {OAUTH}, client_secret = "b" }}',
            "headers.authorization",
            "oauth sets it already",
        ),
        ("fail_when = true", "fail_when", "write a text, in quotes"),
        ("poll = 1", "poll", "write true or false"),
        ('poll = true\nmethod = "HEAD"', "poll", "the answer to HEAD has no body"),
        ("poll = true\nretry = { on = [500, 303, 202] }", "poll", "retry.on has 202"),
        ('pass_headers = ["X Y"]', "pass_headers", "X Y: it can't be set here: it is no name"),
        ('pass_headers = ["Authorization"]', "pass_headers", "Authorization: it can't be passed on"),
        ('pass_headers = ["cookie"]', "pass_headers", "cookie: it can't be passed on"),
        ('pass_headers = ["Proxy-Authorization"]', "pass_headers", "it can't be passed on"),
        ('pass_headers = ["Forwarded"]', "pass_headers", "it can't be passed on"),
        ('pass_headers = ["X-Forwarded-For"]', "pass_headers", "it can't be passed on"),
        ('pass_headers = ["Tidegate-Job-State"]', "pass_headers", "it can't be passed on"),
        ('pass_headers = ["Job-Timeout"]', "pass_headers", "it can't be passed on"),
        ('pass_headers = ["Host"]', "pass_headers", "Host: it can't be set here"),
        ('pass_headers = ["Idempotency-Key"]', "pass_headers", "it can't be set here"),
        ('pass_headers = ["Connection"]', "pass_headers", "it can't be set here"),
        ('pass_headers = ["X-A", "x-a"]', "pass_headers", "x-a: it stands there twice"),
        ('pass_headers = "X-A"', "pass_headers", "list"),
        ('pass_headers = ["X-A"]\nheaders = { x-a = "1" }', "pass_headers", "X-A: headers sets it already"),
        ('proxy = "proxy:3128"', "proxy", "write http://host:port"),
        ('proxy = "http://$x:1"', "proxy", "$x: write ${x}"),
        ('client_key = "a.key"', "client_key", "it is the key of client_certificate, which is missing"),
        ('input_schema = "none.json"', "input_schema", "none.json: it can't be read: No such file"),
        ('input_schema = "text.json"', "input_schema", "text.json: it is not JSON"),
        ('input_schema = "bad.json"', "input_schema", "bad.json: /$ref: only places within the schema itself"),
    ],
)
def test_each_bad_value_is_told_with_file_and_line(file: Path, line: str, key: str, told: str) -> None:
    (file.parent / "text.json").write_text("text")
    (file.parent / "bad.json").write_text('{"$ref": "other.json"}')
    url = [] if line.startswith("url") else ['url = "http://127.0.0.1/"']
    lines = ["# a comment", "", "[operations.other]", 'url = "http://127.0.0.1/"', "[operations.quote]", *url, line]

    with pytest.raises(ConfigurationError) as error:
        read(file, "\n".join(lines))

    assert str(error.value).startswith(f"{file}:{len(lines)}: operations.quote.{key}")
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('rate = "50/w"', "is not a rate"),
        ('rate = ["50/s", "0/d"]', "is not a rate"),
        ('rate = ""', "is not a rate"),
        ('rate = "-1/s"', "is not a rate"),
        ("rate = 50", 'write a text such as "50/s", or {'),
        ("rate = [50]", 'write a text such as "50/s", or {'),
        ("burst = true", "write a whole number"),
        ("burst = 2.0", "write a whole number"),
        ("breaker = -1", "greater than or equal to 0"),
        ("burst = 0", "greater than or equal to 1"),
        ("concurrency = 0", "greater than or equal to 1"),
        ('concurrency = "many"', "write a whole number"),
        ('rate = { rate = "5/7d", window = "calendar", zone = "UTC" }', "goes into one"),
        ('rate = ["5/s", { rate = "5/d", window = "calendar", zone = "Berlin" }]', "no time zone"),
        ('jitter = "0s"', "longer than nothing"),
        ('jitter = "11s"', "it is longer than 10s, the most"),
        ("limit = 5", "no such key; there are partition, each, partitions"),
        ("rates = 5", "no such key (did you mean 'rate'?)"),
    ],
)
def test_each_bad_limit_is_told_with_file_and_line(file: Path, line: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        read(file, f"[downstreams.slow]\n{line}\n")

    assert str(error.value).startswith(f"{file}:2: downstreams.slow.")
    assert told in str(error.value)


def test_a_rate_by_the_calendar_and_a_jitter_are_read(file: Path) -> None:
    day = '{ rate = "10000/d", window = "calendar", zone = "Europe/Berlin" }'
    _, limits = read(
        file, f'[downstreams.crm]\nrate = ["10/s", {day}]\njitter = "30ms"\n[downstreams.other]\nrate = {day}'
    )

    crm, other = limits
    assert crm.rates == ("10/s", "10000/d calendar Europe/Berlin")
    assert (crm.jitter, other.jitter) == (30_000, 0)
    assert other.rates == ("10000/d calendar Europe/Berlin",)


def test_every_bad_value_is_told_at_once(file: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        read(file, '[downstreams.a]\nburst = 0\n[operations.b]\nurl = "x"\n[operations.c]\n')

    assert [line.partition(": ")[0] for line in error.value.faults] == [f"{file}:2", f"{file}:4", f"{file}:5"]


def test_what_is_good_of_a_bad_table_is_looked_at_further(file: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        read(
            file,
            """[operations.a]
speed = 3
url = "ftp://host/"
downstream = "geocodr"
headers = { Host = "x", X-A = "$B" }
[downstreams.geocoder]
burst = 0
[operations.b]
downstream = "geocoder"
""",
        )

    assert [line.removeprefix(f"{file}:").split(": ")[:2] for line in error.value.faults] == [
        ["2", "operations.a.speed"],
        ["3", "operations.a.url"],
        ["4", "operations.a.downstream"],
        ["5", "operations.a.headers.Host"],
        ["5", "operations.a.headers.X-A"],
        ["7", "downstreams.geocoder.burst"],
        ["8", "operations.b.url"],
    ]
    assert "'geocodr' is declared nowhere (did you mean 'geocoder'?); write [downstreams.geocodr]" in str(error.value)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('operations.a.url = "http://h/"\noperations.a.speed = 3\n', "2: operations.a.speed"),
        ('[operations]\n\na = { url = "http://h/", speed = 3 }\n', "3: operations.a.speed"),
        ('[operations.a]\nurl = "http://h/"\n\n[operations.a.retry]\nattempts = 0\n', "5: operations.a.retry.attempts"),
        ('[operations.a]\nurl = """\nhttp://h/"""\nspeed = """\n\n"""\n', "4: operations.a.speed"),
        ('[downstreams.a]\n# rate = "0/s"\nrate = [\n  "1/s",\n  "0/s",\n]\n', "3: downstreams.a.rate"),
        ('["operations" . "a"]\r\n"url" = "http://h/"\r\n"speed" = 3\r\n', "3: operations.a.speed"),
        (
            '[operations.b]\nurl = "http://h/"\n[operations.a]\n[operations.ab]\nurl = "http://h/"\n',
            "3: operations.a.url",
        ),
    ],
    ids=["dotted keys", "inline table", "table within", "several lines", "array", "quoted, CRLF", "missing"],
)
def test_the_line_is_that_of_the_value_however_it_is_written(file: Path, text: str, place: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        read(file, text)

    assert [line.startswith(f"{file}:{place}: ") for line in error.value.faults] == [True], error.value.faults


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[operations.quote", "end of document"),
        ("[operation.quote]\n", ":1: operation: there is no such table (did you mean 'operations'?)"),
        ("\n[speed]\n", ":2: speed: there is no such table"),
        ("operations = 5\n", ":1: operations: write [operations.name] for each operation"),
        ("[operations]\nquote = 5\n", ":2: operations.quote: write a table"),
        ('["operations"."Bad Name"]\nurl = "http://h/"', "can't be a name"),
        ('[operations.""]\nurl = "http://h/"', "can't be a name"),
        ('[operations."größe"]\nurl = "http://h/"', "can't be a name"),
        (f"[operations.{'a' * 64}]\nurl = 'http://h/'", "can't be a name"),
        ("[operations.a]\nurl = 'http://h/'\n[operations.a]\n", ":3: [operations.a] stands there twice"),
        ("[operations.a]\nurl = http://h/\n", ":2: Invalid value; a text stands in quotes"),
    ],
)
def test_a_file_of_another_shape_is_refused_by_name(file: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=str(file)) as error:
        read(file, text)

    assert told in str(error.value)


def test_a_file_that_is_not_text_is_refused_by_name(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")

    (fault,) = read_operations_file(file, max_result=1).faults
    assert fault.startswith(f"{file}: it is not UTF-8")


def test_a_byte_order_mark_is_passed_over(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode() + b"speed = 1\n")

    (fault,) = read_operations_file(file, max_result=1).faults
    assert fault.startswith(f"{file}:3: operations.quote.speed")


def test_a_timeout_below_the_default_of_one_attempt_bounds_it(file: Path) -> None:
    ((quote,), _) = read(file, f'{MINIMAL}timeout = "5s"\nretry = {{ delay = "1m" }}\n')

    assert (quote.timeout, quote.attempt_timeout) == (timedelta(seconds=5), timedelta(seconds=5))
    assert (quote.retry.delay, quote.retry.max_delay) == (timedelta(minutes=1), timedelta(minutes=1))


def test_the_statuses_that_mean_full_are_those_of_the_operations_downstream(file: Path) -> None:
    full_on = "full_on = [403, 509]\n"
    (by_name, of_another, of_its_own), _ = read(
        file,
        f"[downstreams.crm]\n{full_on}[downstreams.own]\nfull_on = [420]\n"
        '[operations.a]\nurl = "http://127.0.0.1"\ndownstream = "crm"\n'
        '[operations.b]\nurl = "http://127.0.0.1"\n[operations.own]\nurl = "http://127.0.0.1"\n',
    )
    assert [set(each.full_on) for each in (by_name, of_another, of_its_own)] == [{403, 509}, set(), {420}]
    for bad in ("200", "600", '"403"', "true"):
        with pytest.raises(ConfigurationError, match=r"operations.toml:2: downstreams\.crm\.full_on"):
            read(file, f"[downstreams.crm]\nfull_on = [{bad}]\n{MINIMAL}")


def test_a_file_that_is_not_there_is_told_with_its_setting(tmp_path: Path) -> None:
    for missing in (tmp_path / "nowhere.toml", tmp_path):
        (fault,) = read_operations_file(missing, max_result=1).faults
        assert fault.startswith(f"TIDEGATE_OPERATIONS_FILE: {missing} can't be read")


AUTHORIZATION = "3: operations.quote.headers.Authorization"
SECRET = """\
[operations.quote]
url = "http://${SITE:-h}/"
headers = { Authorization = "Bearer ${QUOTE_KEY}" }
"""


def faults_with(file: Path, environment: Mapping[str, str], text: str = SECRET) -> Sequence[str]:
    file.write_text(text)
    return read_operations_file(file, max_result=1000, environment=environment).faults


def test_without_an_environment_references_stay_open(file: Path) -> None:
    file.write_text(SECRET)
    found = read_operations_file(file, max_result=1000)

    assert (found.faults, found.needs) == ((), ("QUOTE_KEY",))
    (quote,) = found.operations
    assert quote.headers == {"Authorization": "Bearer ${QUOTE_KEY}"}


def test_with_an_environment_its_values_are_put_in(file: Path) -> None:
    file.write_text(SECRET)
    (quote,) = read_operations_file(file, max_result=1000, environment={"QUOTE_KEY": "k", "SITE": "s"}).operations

    assert (quote.expand(quote.url), quote.expand("Bearer ${QUOTE_KEY}$$")) == ("http://s/", "Bearer k$")


@pytest.mark.parametrize(
    ("environment", "place", "told"),
    [
        ({}, AUTHORIZATION, "${QUOTE_KEY} is not set in the environment; set QUOTE_KEY"),
        ({"QUOTE_KEY": ""}, AUTHORIZATION, "${QUOTE_KEY} is empty"),
        (
            {"QUOTE_KEY_FILE": "/nowhere/at/all"},
            "3: operations.quote.headers.Authorization",
            "/nowhere/at/all can't be",
        ),
        (
            {"QUOTE_KEY": "hidden\r\nX: 1"},
            "3: operations.quote.headers.Authorization",
            "with the value of ${QUOTE_KEY}",
        ),
        ({"QUOTE_KEY": "hidden\n"}, AUTHORIZATION, "one line of ASCII"),
        ({"QUOTE_KEY": "hiddén"}, AUTHORIZATION, "one line of ASCII"),
        ({"QUOTE_KEY": "hid\ufeffden"}, AUTHORIZATION, "one line of ASCII"),
        ({"QUOTE_KEY": "hid\0den"}, AUTHORIZATION, "one line of ASCII"),
        ({"QUOTE_KEY": "hidden "}, AUTHORIZATION, "without spaces around it"),
        ({"QUOTE_KEY": "k", "SITE": "hidden b"}, "2: operations.quote.url", "with the value of ${SITE} in it"),
        ({"QUOTE_KEY": "k", "SITE": "u:hidden@h"}, "2: operations.quote.url", "no user or password"),
        ({"QUOTE_KEY": "k", "SITE": "u:p#hidden"}, "2: operations.quote.url", "no fragment"),
        ({"QUOTE_KEY": "k", "SITE": "h:hidden"}, "2: operations.quote.url", "from 1 to 65535"),
        ({"QUOTE_KEY": "k", "SITE": "hiddenß"}, "2: operations.quote.url", "xn--"),
    ],
)
def test_a_value_that_is_missing_or_cannot_be_sent_is_told_with_file_and_line_and_is_not_shown(
    file: Path, environment: dict[str, str], place: str, told: str
) -> None:
    (fault,) = faults_with(file, environment)

    assert fault.startswith(f"{file}:{place}: ")
    assert told in fault
    assert "hidden" not in fault
    assert "hiddé" not in fault
    assert "\n" not in fault


def test_every_value_that_is_missing_is_told(file: Path) -> None:
    text = SECRET.replace("Bearer ${QUOTE_KEY}", "${A} ${B:-${C}}")

    assert [fault.partition("${")[2].partition("}")[0] for fault in faults_with(file, {}, text)] == ["A", "C"]


def test_a_secret_with_a_byte_order_mark_is_what_stands_behind_it(file: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xef\xbb\xbfsecret\r\n")
    file.write_text(SECRET)
    for environment in ({"QUOTE_KEY_FILE": str(tmp_path / "key")}, {"QUOTE_KEY": "\ufeffsecret"}):
        found = read_operations_file(file, max_result=1000, environment=environment)

        assert found.faults == ()
        assert found.operations[0].expand("Bearer ${QUOTE_KEY}") == "Bearer secret"


def test_what_the_input_gives_to_the_request_is_read(file: Path) -> None:
    (file.parent / "order.schema.json").write_text('{"type": "object"}')
    ((orders,), _) = read(
        file,
        """
        [operations.orders]
        url = "${CRM:-https://crm}/v1/customers/{customer}/orders?lang={lang}"
        body = "json:/order/a~1b"
        pass_headers = ["X-Customer"]
        input_schema = "order.schema.json"
        fail_when = "json:/error"
        poll = true
        """,
    )
    assert [place.name for place in orders.parts.url.places] == ["customer", "lang"]
    assert orders.parts.body == ("order", "a/b")
    assert orders.pass_headers == ("X-Customer",)
    assert orders.input_schema() == {"type": "object"}
    assert orders.fail_when == ("error",)
    assert orders.poll


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("https:/", "the host would come from the input"),
        ("https://crm?x=", None),
        ("https://crm", None),
        ("https:", "http:// or https://"),
    ],
)
def test_values_of_the_environment_do_not_open_the_host_to_the_input(file: Path, host: str, told: str | None) -> None:
    text = '[operations.o]\nurl = "${CRM}/{customer}/x"\n'
    faults = faults_with(file, {"CRM": host}, text)
    assert (told is None) == (not faults), faults
    assert told is None or told in faults[0]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('ca_file = "none.pem"', "ca_file: none.pem: it can't be read: No such file"),
        ('ca_file = "client.key"', "ca_file: client.key: it has no certificate in PEM"),
        ('client_certificate = "none.pem"', "client_certificate: none.pem: it can't be read"),
        ('client_certificate = "client.pem"', "client_certificate: client.pem: no certificate and its key"),
        (
            'client_certificate = "client.pem"\nclient_key = "server.key"',
            "client_certificate: client.pem: no certificate",
        ),
        ('client_certificate = "client.pem"\nclient_key = "secret.key"', "client_key: its key is encrypted"),
        ('client_certificate = "client.pem"\nclient_key = "client.key"\nca_file = "ca.pem"', None),
    ],
)
def test_files_for_tls_are_read_by_those_who_call(file: Path, lines: str, told: str | None) -> None:
    """The web server has no use for them, and may not have the secret one."""
    Certificates(file.parent)
    (file.parent / "secret.key").write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    faults = faults_with(file, {}, f"{MINIMAL}{lines}\n")
    assert ([told in fault for fault in faults] == [True]) if told else not faults, faults
    file.write_text(f"{MINIMAL}{lines}\n")
    assert not read_operations_file(file, max_result=1000).faults


def test_credentials_are_templates_that_only_workers_fill_in(file: Path) -> None:
    ((quote,), _) = read(
        file,
        f'{MINIMAL}oauth = {{ token_url = "${{IDP}}/token", client_id = "${{ID}}", client_secret = "${{SECRET}}", '
        'scope = "a b" }',
    )
    assert quote.oauth == OAuth(
        token_url="${IDP}/token", client_id="${ID}", client_secret="${SECRET}", scope="a b", auth="basic"
    )

    found = read_operations_file(file, max_result=1000, environment={"IDP": "http://idp", "ID": "", "SECRET": "s3cret"})
    assert found.needs == ("ID", "IDP", "SECRET")
    (fault,) = found.faults
    assert "operations.quote.oauth.client_id: ${ID} is empty in the environment" in fault
    found = read_operations_file(file, max_result=1000, environment={"IDP": "idp", "ID": "a", "SECRET": "s3cret\n"})
    assert all(word in " ".join(found.faults) for word in ("oauth.token_url", "oauth.client_secret"))
    assert "s3cret" not in " ".join(found.faults)


@pytest.mark.parametrize(
    ("shared", "key"),
    [
        ('partition = "none"\neach = { rate = "1/s" }', "each"),
        ('partition = "none"\npartitions = { a = { weight = 4 } }', "partitions"),
    ],
)
def test_limits_of_partitions_that_there_are_not_are_a_fault(file: Path, shared: str, key: str) -> None:
    file.write_text(f"[downstreams.slow]\n{shared}\n")
    (fault,) = read_operations_file(file, max_result=1).faults
    assert f"downstreams.slow.{key}: all wait in one line here, so it would limit nobody" in fault

    file.write_text(f"[downstreams.slow]\n{shared.partition(chr(10))[2]}\n")
    assert not read_operations_file(file, max_result=1).faults, "left out, it is as the settings say"


def test_who_rests_alone_needs_partitions_and_a_word_that_there_is(file: Path) -> None:
    file.write_text('[downstreams.slow]\npartition = "header"\nthrottle = "partition"\n')
    (limits,) = read_operations_file(file, max_result=1).limits
    assert limits.sharing
    assert limits.sharing.throttle == "partition"
    assert Sharing.from_json(limits.sharing.as_json()) == limits.sharing
    for shared, words in (
        ('partition = "none"\nthrottle = "partition"', "downstreams.slow.throttle: all wait in one line here"),
        ('throttle = "lane"', "downstreams.slow.throttle: "),
    ):
        file.write_text(f"[downstreams.slow]\n{shared}\n")
        (fault,) = read_operations_file(file, max_result=1).faults
        assert words in fault
    file.write_text('[downstreams.slow]\nthrottle = "partition"\n')
    assert not read_operations_file(file, max_result=1).faults, "left open, it is as the settings say"


def test_a_sharing_without_a_throttle_of_its_own_is_stored_as_before() -> None:
    """An earlier version that runs beside this one knows no such word."""
    assert "throttle" not in Sharing().as_json()
    assert Sharing.from_json(Sharing().as_json()) == Sharing()

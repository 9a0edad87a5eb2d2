"""The running stack behind a real nginx that has the settings of docs/behind-a-proxy.md."""

import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import trustme

from tests.support.gateway import Gateway
from tests.support.nginx import PAGE, TRUSTED, Nginx, serving_nginx, towards_the_internet, why_not
from tests.support.processes import free_port
from tests.support.waiting import wait_until

if reason := why_not():
    pytest.skip(reason, allow_module_level=True)

FORGED = {
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-For": "6.6.6.6",
}


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A stack that trusts one proxy's address."""
    stack = Gateway(tmp_path_factory.mktemp("gateway"), settings={"TRUSTED_PROXIES": f"{TRUSTED}/32"})
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def nginx(behind: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """The proxy before it."""
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o755)  # its workers are another user
    proxy = Nginx(folder, int(behind.url.rpartition(":")[2]))
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture
def client() -> Iterator[httpx2.Client]:
    """Somebody outside."""
    with httpx2.Client(timeout=10, trust_env=False) as outside:
        yield outside


def submit(client: httpx2.Client, base: str, operation: str = "echo", **headers: str) -> httpx2.Response:
    """Submits a job."""
    answer = client.post(f"{base}/v1/operations/{operation}/jobs", json={"seconds": 3}, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer


def test_links_lead_through_a_trusted_proxy_with_its_host_port_and_prefix(nginx: Nginx, client: httpx2.Client) -> None:
    answer = submit(client, nginx.trusted)
    location = answer.headers["Location"]
    assert location.startswith(f"{nginx.trusted}/v1/jobs/")
    assert {link.startswith(nginx.trusted) for link in answer.json()["links"].values()} == {True}
    assert client.get(location).json()["id"] == answer.json()["id"]


def test_what_a_client_forges_does_not_get_through_the_proxy(nginx: Nginx, client: httpx2.Client) -> None:
    location = submit(client, nginx.trusted, **FORGED).headers["Location"]
    assert location.startswith(f"{nginx.trusted}/v1/jobs/")


def test_the_host_name_that_was_asked_for_stands_in_the_links(nginx: Nginx, client: httpx2.Client) -> None:
    location = submit(client, nginx.trusted, Host="api.localhost").headers["Location"]
    assert location.startswith("http://api.localhost/jobs/v1/jobs/")


def test_without_keys_a_host_name_that_is_not_ours_is_refused_through_the_proxy_too(
    nginx: Nginx, client: httpx2.Client
) -> None:
    answer = client.get(f"{nginx.trusted}/v1/jobs", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()["type"]) == (421, "urn:tidegate:problem:misdirected-request")


def test_forwarded_headers_of_another_proxy_are_ignored(nginx: Nginx, client: httpx2.Client) -> None:
    location = submit(client, nginx.other).headers["Location"]
    assert location.startswith(f"{nginx.other.removesuffix('/jobs')}/v1/jobs/")


def test_forwarded_headers_of_a_client_that_comes_directly_are_ignored(behind: Gateway, client: httpx2.Client) -> None:
    location = submit(client, behind.url, **FORGED).headers["Location"]
    assert location.startswith(f"{behind.url}/v1/jobs/")


@pytest.mark.parametrize(
    "end",
    [("permanent", "60", 502, "failed"), ("ignores_stop_io", "1", 504, "expired")],
    ids=["502", "504"],
)
def test_a_jobs_502_and_504_pass_unchanged_and_are_asked_for_once(
    nginx: Nginx, behind: Gateway, client: httpx2.Client, end: tuple[str, str, int, str]
) -> None:
    operation, timeout, status, state = end
    location = submit(client, nginx.trusted, operation, **{"Job-Timeout": timeout}).headers["Location"]
    path = location.removeprefix(nginx.trusted)
    direct = behind.wait_final(path)
    assert direct.status_code == status

    through = client.get(location)

    assert through.status_code == status
    assert through.headers["Content-Type"] == "application/problem+json"
    assert through.headers["Tidegate-Job-State"] == state
    assert through.json() == {**direct.json(), "links": through.json()["links"]}
    # nginx writes its log after the answer.
    assert wait_until(lambda: nginx.upstreams(path), description="the request is in nginx's log") == [str(status)]


def test_the_docs_page_and_its_style_work_under_the_prefix(nginx: Nginx, client: httpx2.Client) -> None:
    page = client.get(f"{nginx.trusted}/docs")
    assert page.status_code == 200
    assert nginx.trusted in page.text
    assert 'href="static/docs.css"' in page.text
    style = client.get(f"{nginx.trusted}/static/docs.css")
    assert (style.status_code, style.headers["Content-Type"].partition(";")[0]) == (200, "text/css")
    assert client.get(f"{nginx.trusted}/openapi.json").json()["servers"] == [{"url": nginx.trusted}]


def test_the_live_page_its_files_forms_and_stream_work_under_the_prefix(
    nginx: Nginx, behind: Gateway, client: httpx2.Client
) -> None:
    page = client.get(f"{nginx.trusted}/")
    assert page.status_code == 200
    for file in ("page.css", "page.js", "icon.svg"):
        assert f'"./static/{file}"' in page.text
        assert client.get(f"{nginx.trusted}/static/{file}").status_code == 200
    with client.stream("GET", f"{nginx.trusted}/live") as stream:
        assert any(line == "event: parts" for line in stream.iter_lines())
    origin = {"Origin": nginx.trusted.removesuffix("/jobs")}
    answer = client.post(f"{nginx.trusted}/downstreams/echo/pause", headers=origin)
    assert answer.status_code == 303
    assert answer.url.join(answer.headers["Location"]) == f"{nginx.trusted}/#downstream-echo"
    assert client.post(f"{nginx.trusted}/downstreams/echo/resume", headers=origin).status_code == 303
    assert client.post(f"{nginx.trusted}/downstreams/echo/pause", headers={"Origin": behind.url}).status_code == 403


def test_a_chunked_upload_comes_through_whole_for_the_proxy_buffers_it(
    nginx: Nginx, behind: Gateway, client: httpx2.Client
) -> None:
    url = "/v1/operations/raw_echo/jobs"
    content = bytes(range(256)) * 32  # fits into its memory: the files of this nginx lie where its workers can't write
    pieces = [content[start : start + 1000] for start in range(0, len(content), 1000)]
    for base, status in ((behind.url, 411), (nginx.trusted, 202)):
        answer = client.post(base + url, content=iter(pieces), headers={"Content-Type": "application/x-odd"})
        assert answer.status_code == status, answer.text
    result = behind.wait_final(answer.json()["links"]["self"].replace(nginx.trusted, behind.url)).json()["links"][
        "result"
    ]
    assert client.get(result.replace(nginx.trusted, behind.url)).content == content


def test_events_come_through_the_proxy_as_they_happen(nginx: Nginx, client: httpx2.Client) -> None:
    links = submit(client, nginx.trusted, "sleepy_io").json()["links"]
    assert links["events"].startswith(nginx.trusted)
    with client.stream("GET", links["events"]) as stream:
        lines = stream.iter_lines()
        assert any("data: " in line for line in lines)
        assert client.get(links["self"]).status_code == 202, "told while it goes on, not when it is over"
        assert '"state":"succeeded"' in [line for line in lines if line.startswith("data: ")][-1]


def test_a_chunked_upload_comes_whole_for_the_proxy_gives_it_a_length(nginx: Nginx, client: httpx2.Client) -> None:
    pieces = [b'{"pieces": [', *(b"%d, " % number for number in range(1_000)), b"1]}"]
    answer = client.post(
        f"{nginx.trusted}/v1/operations/echo/jobs",
        content=iter(pieces),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 202, answer.text
    assert "Transfer-Encoding" in answer.request.headers
    final = wait_until(
        lambda: [found] if (found := client.get(answer.headers["Location"])).status_code != 202 else [],
        description="it is done",
    )[0]
    assert len(final.json()["result"]["pieces"]) == 1_001


def test_the_settings_towards_the_open_internet_hold_what_they_say(
    behind: Gateway, tmp_path: Path, client: httpx2.Client
) -> None:
    """The page's second block, on a port of its own, with a certificate and a log in a folder of the test."""
    tmp_path.chmod(0o755)
    authority = trustme.CA()
    certificate = authority.issue_cert("api.example.com")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "api.crt")
    certificate.private_key_pem.write_to_path(tmp_path / "api.key")
    port = free_port()
    block = towards_the_internet(PAGE.read_text())
    for said, here in (
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("/etc/nginx/", f"{tmp_path}/"),
        ("/var/log/nginx/", f"{tmp_path}/"),
        ("http://127.0.0.1:8000/", f"{behind.url}/"),
        ("rate=50r/s", "rate=1r/s"),  # no test is that quick
        ("burst=100", "burst=10"),
    ):
        assert said in block
        block = block.replace(said, here)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    with serving_nginx(tmp_path, block, port):
        outside = Outside(trusted, port)
        assert outside.get("/jobs/health/live?ticket=secret").startswith("HTTP/1.1 200")
        assert outside.get("/jobs/health/live", "X-Large: " + "x" * 9_000).startswith("HTTP/1.1 400")
        statuses = Counter(outside.get("/jobs/health/live").split()[1] for _ in range(30))
        with pytest.raises(ssl.SSLError):
            Outside(trusted, port, name="evil.example").get("/")
    assert statuses.keys() == {"200", "429"}
    logged = (tmp_path / "api.log").read_text()
    assert '"GET /jobs/health/live" 200' in logged
    assert "secret" not in logged


class Outside:
    """Somebody who asks by HTTPS, each time on a connection of its own."""

    def __init__(self, context: ssl.SSLContext, port: int, name: str = "api.example.com") -> None:
        self._context, self._port, self._name = context, port, name

    def get(self, path: str, *fields: str) -> str:
        """The whole answer."""
        lines = [f"GET {path} HTTP/1.1", f"Host: {self._name}", "Connection: close", *fields, "", ""]
        with (
            socket.create_connection(("127.0.0.1", self._port), timeout=10) as plain,
            self._context.wrap_socket(plain, server_hostname=self._name) as connection,
        ):
            connection.sendall("\r\n".join(lines).encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

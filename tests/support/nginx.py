"""A real nginx with the settings of docs/behind-a-proxy.md, or with those of the stack."""

import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import REPOSITORY, ChildProcess, free_port, is_listening
from tests.support.waiting import wait_until

PAGE = REPOSITORY / "docs" / "behind-a-proxy.md"
STACK = REPOSITORY / "config" / "stack" / "nginx.conf"
TRUSTED = "127.0.0.2"
"""From here the trusted nginx calls; everybody else on this machine is 127.0.0.1."""

# Its workers as ourselves: somebody else could not write bodies to a folder of pytest's.
_USER = "user root;" if os.geteuid() == 0 else ""
_AROUND = """\
{user}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    log_format upstreams '$request_uri $upstream_status';
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {page}
}}
"""


def why_not() -> str | None:
    """Why there can be no nginx here; None: there can."""
    if sys.platform != "linux":
        return "only Linux has 127.0.0.2 without being told"
    if find() is None:
        return "there is no nginx (apt-get install nginx-light)"
    return None


def find() -> str | None:
    """Where the program is."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


class Nginx:
    """Two servers with the page's settings before one gateway: one that calls from `TRUSTED`, and one that does not.

    `upstreams` are the statuses of every call that it made to the gateway for one request.
    """

    def __init__(self, folder: Path, gateway_port: int) -> None:
        trusted_port, other_port = free_port(), free_port()
        self.trusted = f"http://127.0.0.1:{trusted_port}/jobs"
        self.other = f"http://127.0.0.1:{other_port}/jobs"
        self._ports = (trusted_port, other_port)
        self._log = folder / "upstreams.log"
        upstream, server = _page(gateway_port)
        server = server.replace("server_name", f"access_log {self._log} upstreams;\n    server_name")
        trusted = server.replace("proxy_pass", f"proxy_bind {TRUSTED};\n        proxy_pass")
        # Each with an upstream of its own: connections are kept by upstream, and with them the address they are from.
        servers = [
            re.sub("(upstream |http://)tidegate", rf"\1tidegate_{port}", text).replace(
                "listen 80;", f"listen 127.0.0.1:{port};"
            )
            for text, port in ((upstream + trusted, trusted_port), (upstream + server, other_port))
        ]
        configuration = folder / "nginx.conf"
        configuration.write_text(_AROUND.format(user=_USER, folder=folder, page="\n".join(servers)))
        self._process = ChildProcess(
            [find() or "", "-p", str(folder), "-c", str(configuration)], log=folder / "nginx.log"
        )

    def start(self) -> None:
        """Starts it and waits until it listens."""
        self._process.start()
        wait_until(lambda: all(map(is_listening, self._ports)), description="nginx listens")

    def stop(self) -> None:
        """Ends it."""
        self._process.stop()

    def upstreams(self, path: str) -> list[str]:
        """For each request of this path, the status of each call that was made for it: "502" or "502, 502"."""
        lines = [line.partition(" ") for line in self._log.read_text().splitlines()]
        return [statuses for request, _, statuses in lines if request.endswith(path)]


def towards_the_internet(page: str) -> str:
    """The page's settings for what one address may do, which stand beside the others."""
    found = re.search(r"```nginx\n(limit_req_zone .+?)```", page, re.DOTALL)
    assert found, "docs/behind-a-proxy.md says nothing of limits"
    return found[1]


@contextmanager
def serving_nginx(folder: Path, settings: str, port: int) -> Iterator[None]:
    """An nginx with these lines in its http block, which listens on this port."""
    configuration = folder / "nginx.conf"
    configuration.write_text(_AROUND.format(user=_USER, folder=folder, page=settings))
    with ChildProcess([find() or "", "-p", str(folder), "-c", str(configuration)], log=folder / "nginx.log"):
        wait_until(lambda: is_listening(port), description="nginx listens")
        yield


def _page(gateway_port: int) -> tuple[str, str]:
    """The page's upstream with this gateway in it, twice, so that there is a next one to try; and its server."""
    found = re.search(r"```nginx\n(upstream .+?\n}\n)\n(server .+?\n}\n)```", PAGE.read_text(), re.DOTALL)
    assert found, "docs/behind-a-proxy.md has no nginx settings"
    line = "server 127.0.0.1:8000 max_fails=0;"
    assert line in found[1]
    assert "listen 80;" in found[2]
    address = f"server 127.0.0.1:{gateway_port} max_fails=0;"
    return found[1].replace(line, f"{address}\n    {address}"), found[2]


class StackProxy:
    """The proxy of the compose stack, config/stack/nginx.conf, before a web server on this machine.

    Only where it listens and finds things is another; `faster` divides its times of patience, and `by_address` is how
    many requests an address may have at once, if that is to be another. `dead_before`: the name has another address,
    where nobody listens.
    """

    def __init__(
        self,
        folder: Path,
        web_port: int,
        *,
        faster: int = 1,
        by_address: int | None = None,
        dead_before: bool = False,
    ) -> None:
        port, health_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        text = STACK.read_text()
        for written, here in {
            "listen 8000;": f"listen 127.0.0.1:{port};",
            "listen 127.0.0.1:8001;": f"listen 127.0.0.1:{health_port};",
            "set $web web;": "set $web 127.0.0.1;",
            "http://$web:8000": f"http://$web:{web_port}",
            "/dev/stderr": f"{folder}/error.log",
        }.items():
            assert written in text, f"{STACK.name} has no {written}"
            text = text.replace(written, here)
        for file in ("nginx.pid", "body", "proxy", "fastcgi", "uwsgi", "scgi"):
            text = text.replace(f"/tmp/{file}", f"{folder}/{file}")  # noqa: S108 - a name of the container's
        text = re.sub(
            r"((?:client|keepalive)_\w*timeout) (\d+)s;",
            lambda found: f"{found[1]} {int(found[2]) * 1000 // faster}ms;",
            text,
        )
        if dead_before:
            servers = "".join(f"server 127.0.0.{last}:{web_port} max_fails=0;" for last in (3, 1))
            text = text.replace(f"http://$web:{web_port}", "http://both")
            text = text.replace("http {", f"http {{\n    upstream both {{ {servers} }}", 1)
        if by_address is not None:
            text = re.sub(r"limit_conn by_address \d+;", f"limit_conn by_address {by_address};", text)
        if os.geteuid() == 0:
            text = f"user root;\n{text}"  # else its workers are somebody who may not write bodies into this folder
        configuration = folder / "nginx.conf"
        configuration.write_text(text)
        self._process = ChildProcess([find() or "", "-p", str(folder), "-c", str(configuration)], log=folder / "log")

    def start(self) -> None:
        """Starts it and waits until it listens."""
        self._process.start()
        wait_until(lambda: is_listening(self.port), description="nginx listens")

    def stop(self) -> None:
        """Ends it."""
        self._process.stop()

    def connect(self) -> socket.socket:
        """A connection on which nothing was sent."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

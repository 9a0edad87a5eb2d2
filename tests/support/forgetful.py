"""An HTTP proxy that loses answers: the request reaches the gateway, the client is told 504."""

import http.client
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class ForgetfulProxy:
    """Forwards to `target`. In place of the answers to its first `losses` POSTs it says 504, with a proxy's page."""

    def __init__(self, target: str, *, losses: int) -> None:
        self.posts: list[Mapping[str, str]] = []
        self._losses = losses
        self._lock = threading.Lock()
        address = urlsplit(target)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._forward()

            def do_POST(self) -> None:
                self._forward()

            def _forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                upstream = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
                try:
                    # The target's own Host: the links in its answers lead past this proxy.
                    headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                    upstream.request(self.command, self.path, body or None, headers)
                    response = upstream.getresponse()
                    content = response.read()
                finally:
                    upstream.close()
                if self.command == "POST" and proxy._loses(dict(self.headers)):
                    self._answer(504, [("Content-Type", "text/html")], b"<h1>504 Gateway Time-out</h1>")
                else:
                    self._answer(response.status, response.getheaders(), content)

            def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _loses(self, headers: Mapping[str, str]) -> bool:
        with self._lock:
            self.posts.append(headers)
            return len(self.posts) <= self._losses

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

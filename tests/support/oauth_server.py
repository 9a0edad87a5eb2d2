"""A real OAuth 2 token server and, behind it, a real downstream that takes its tokens, in threads of a test."""

import base64
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus

CLIENT_ID = "gate"
CLIENT_SECRET = "s3cret & more:%"
_JSON = "application/json"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the token server says in place of a token."""

    status: int
    body: bytes
    content_type: str = _JSON
    headers: Mapping[str, str] = field(default_factory=dict)


class OAuthServer:
    """`/token` hands out tokens that are good for `life` seconds; `/api` answers 200 to who has one, else 401.

    `asked`: the forms of the requests for tokens that were good; `calls`: the status of each call of `/api`.
    """

    def __init__(self) -> None:
        self.life: float | None = 3600
        self.token_type = "Bearer"
        self.instead: Answer | None = None
        self.delay_seconds = 0.0
        self.takes: frozenset[str] = frozenset({"basic", "body"})
        self.refuses_all = False
        self.asked: list[dict[str, str]] = []
        self.refused = 0
        self.calls: list[int] = []
        self.tokens: dict[str, float] = {}
        self.all_tokens: list[str] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.oauth = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Of its root, without a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def revoke(self) -> None:
        """Takes all tokens back: none of them opens `/api` any more."""
        with self._lock:
            self.tokens.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer_token(self, authorization: str, form: dict[str, str]) -> Answer:
        """What a request for a token gets."""
        if self.delay_seconds:
            time.sleep(self.delay_seconds)
        if self.instead:
            with self._lock:
                self.refused += 1
            return self.instead
        if not self._is_known(authorization, form) or form.get("grant_type") != "client_credentials":
            with self._lock:
                self.refused += 1
            return Answer(status=401, body=b'{"error": "invalid_client"}')
        token = f"tok-{secrets.token_urlsafe(24)}"
        with self._lock:
            self.asked.append(form)
            self.all_tokens.append(token)
            self.tokens[token] = time.monotonic() + (3600 if self.life is None else self.life)
        body: dict[str, Any] = {"access_token": token, "token_type": self.token_type}
        if self.life is not None:
            body["expires_in"] = self.life
        return Answer(status=200, body=json.dumps(body).encode())

    def answer_call(self, authorization: str) -> Answer:
        """What a call of the downstream gets; a refusal repeats what came, as some servers do."""
        kind, _, token = authorization.partition(" ")
        with self._lock:
            is_good = kind == "Bearer" and time.monotonic() < self.tokens.get(token, 0) and not self.refuses_all
            self.calls.append(200 if is_good else 401)
        if is_good:
            return Answer(status=200, body=b'"done"')
        return Answer(status=401, body=f"not good: {authorization}".encode(), content_type="text/plain")

    def _is_known(self, authorization: str, form: dict[str, str]) -> bool:
        kind, _, encoded = authorization.partition(" ")
        if kind == "Basic" and "basic" in self.takes:
            client_id, _, secret = base64.b64decode(encoded).decode().partition(":")
            return (unquote_plus(client_id), unquote_plus(secret)) == (CLIENT_ID, CLIENT_SECRET)
        given = form.get("client_id"), form.get("client_secret")
        return not authorization and "body" in self.takes and given == (CLIENT_ID, CLIENT_SECRET)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100
    oauth: OAuthServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: a caller may hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        authorization = self.headers.get("Authorization", "")
        oauth = self.server.oauth
        if self.path.startswith("/token"):
            form = {name: values[0] for name, values in parse_qs(sent.decode()).items()}
            answer = oauth.answer_token(authorization, form)
        else:
            answer = oauth.answer_call(authorization)
        self.send_response(answer.status)
        for name, value in {"Content-Type": answer.content_type, **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST  # noqa: N815 - the name of the base class

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """Logs nothing."""


@contextmanager
def serving_oauth() -> Iterator[OAuthServer]:
    """A token server and its downstream for the time of a test."""
    server = OAuthServer()
    try:
        yield server
    finally:
        server.close()

"""A sample partner to play with: a token server (OAuth 2 client credentials), and orders for who has a token.

Run it with `python sample_partner.py --port 9000`; CLIENT_SECRET_FILE names the file with the secret that it expects.
It goes when you have a partner.
"""

import argparse
import base64
import json
import os
import secrets
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, unquote_plus, urlsplit

TOKENS: set[str] = set()


class Partner(BaseHTTPRequestHandler):
    """`POST /token`, `POST /v1/customers/{customer}/orders?lang=`, `GET /health`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(200 if self.path == "/health" else 404, {})

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        where = urlsplit(self.path)
        if where.path == "/token":
            self.hand_out_token()
        elif self.headers.get("Authorization", "").removeprefix("Bearer ") not in TOKENS:
            self.answer(401, {"error": "a token is wanted"})
        else:
            customer = unquote(where.path.split("/")[3])
            (lang,) = parse_qs(where.query)["lang"]
            self.answer(200, {"customer": customer, "lang": lang, "total": json.loads(sent)["total"]})

    def hand_out_token(self) -> None:
        given = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        _, _, secret = given.partition(":")
        if unquote_plus(secret) != Path(os.environ["CLIENT_SECRET_FILE"]).read_text().strip():
            self.answer(401, {"error": "invalid_client"})
            return
        token = secrets.token_urlsafe(24)
        TOKENS.add(token)
        self.answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": 3600})

    def answer(self, status: int, document: dict[str, object]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000)
    given = parser.parse_args()
    ThreadingHTTPServer((given.host, given.port), Partner).serve_forever()

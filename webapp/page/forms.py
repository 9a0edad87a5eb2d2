"""Parses the HTML forms of the live page."""

from collections.abc import Mapping
from urllib.parse import parse_qsl

from flask import request

from webapp.http.bodies import read_body


def read_form(client_id: str) -> Mapping[str, str]:
    """The fields of this request's form; of one that comes twice the first.

    `client_id`: as `read_body` has it.
    Not Flask's `request.form`, which would block a turn (see `concurrency`) while a slow client sends.
    """
    content = read_body(client_id)
    if request.mimetype != "application/x-www-form-urlencoded":
        return {}
    pairs = parse_qsl(content.decode(errors="replace"), keep_blank_values=True)
    return dict(reversed(pairs))

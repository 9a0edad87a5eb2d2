"""The live page as a browser without scripts sees it: what it shows, its forms, and the events of its streams."""

import html
import json
import re
from collections.abc import Iterator
from typing import Any

from werkzeug.test import TestResponse

from tests.support.web import Web

OWN = {"Origin": "http://localhost"}
"""What a browser says of a form that one of our own pages sent."""


def text_of(answer: TestResponse) -> str:
    """What can be read on a page, without its markup."""
    page = answer.get_data(as_text=True)
    main = page[page.index("<main") :]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", main)).split())


def read(web: Web, path: str = "/") -> str:
    """What can be read on a page that there is."""
    answer = web.client.get(path)
    assert answer.status_code == 200, answer.get_data(as_text=True)[:500]
    assert answer.mimetype == "text/html"
    return text_of(answer)


def part_of(answer: TestResponse, name: str) -> str:
    """The HTML of one of the page's parts."""
    page = answer.get_data(as_text=True)
    begin = page.index(f'id="part-{name}"')
    end = page.find('id="part-', begin + 10)
    return page[begin : end if end > 0 else len(page)]


def send(web: Web, path: str, **fields: str) -> TestResponse:
    """Sends a form as the page's own script-less HTML does."""
    return web.client.post(path, data=fields, headers=OWN)


class PageStream:
    """One who is shown the page live, and takes what is sent as it comes."""

    def __init__(self, web: Web, path: str = "/live", cookie: str | None = None) -> None:
        client = web.app.test_client()
        if cookie:
            client.set_cookie("tidegate_session", cookie)
        self.answer = client.get(path)
        assert self.answer.content_type == "text/event-stream", self.answer.get_data(as_text=True)
        self._chunks: Iterator[bytes] = self.answer.iter_encoded()

    def next(self, name: str) -> Any:
        """The data of the next event of this name: of `parts`, the HTML by name."""
        for chunk in self._chunks:
            fields = dict(line.split(": ", 1) for line in chunk.decode().strip().split("\n"))
            if fields.get("event") == name:
                return json.loads(fields["data"]) if name == "parts" else fields["data"]
        raise AssertionError(f"the stream ended without {name}")

    def is_over(self) -> bool:
        """Whether nothing comes any more."""
        return next(self._chunks, None) is None

    def close(self) -> None:
        """Goes away."""
        self.answer.close()

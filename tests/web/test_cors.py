"""Which pages of other origins a browser lets read answers: those that the settings name, to the letter."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.web import Web

ALLOWED = ("https://app.example.com", "http://[::1]:3000")


@pytest.fixture
def settings() -> dict[str, Any]:
    """Two origins, one of them with characters that an expression would have."""
    return {"cors_origins": ALLOWED}


@pytest.fixture
def web(tmp_path: Path, sqlite_url: str, settings: dict[str, Any]) -> Iterator[Web]:
    """With CORS."""
    face = Web(tmp_path, sqlite_url, **settings)
    yield face
    face.close()


@pytest.mark.parametrize("origin", ALLOWED)
def test_an_origin_that_is_named_may_read_and_ask_beforehand(web: Web, origin: str) -> None:
    for path in ("/v1/jobs", "/openapi.json", f"/v1/jobs/{web.accepted()}"):
        answer = web.client.get(path, headers={"Origin": origin})
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert "Tidegate-Job-State" in answer.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in answer.headers
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    assert (
        web.client.options("/v1/operations/echo/jobs", headers=asked).headers["Access-Control-Allow-Origin"] == origin
    )


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com.evil.org",
        "https://appXexample.com",
        "https://evil.app.example.com",
        "https://app.example.com:8443",
        "https://app.example.co",
        "http://app.example.com",
        "http://1:3000",
        "http://:",
        "http://::1:3000",
        "null",
        "*",
    ],
)
def test_no_other_is_taken_for_one_of_them(web: Web, origin: str) -> None:
    answer = web.client.get("/v1/jobs", headers={"Origin": origin})
    assert "Access-Control-Allow-Origin" not in answer.headers
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    asked_beforehand = web.client.options("/v1/operations/echo/jobs", headers=asked)
    assert "Access-Control-Allow-Origin" not in asked_beforehand.headers


@pytest.mark.parametrize("settings", [{"cors_origins": ("*",), "auth": "keys"}])
def test_with_keys_all_may(web: Web) -> None:
    answer = web.client.get("/openapi.json", headers={"Origin": "https://anybody.example"})
    assert answer.headers["Access-Control-Allow-Origin"] in {"*", "https://anybody.example"}

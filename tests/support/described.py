"""The file docs/openapi.json: the API as it is shipped. `python -m tests.support.described` writes it anew."""

import json
import tempfile
from pathlib import Path
from typing import Any

from config.settings import Settings
from tests.support.processes import REPOSITORY
from webapp.app import create_app

FILE = REPOSITORY / "docs" / "openapi.json"


def shipped() -> dict[str, Any]:
    """The document of the default settings and the operations that are shipped."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(_env_file=None, data=Path(folder), public_url="http://127.0.0.1:8000")
        document: dict[str, Any] = create_app(settings).test_client().get("/openapi.json").get_json()
    return document


def as_text(document: dict[str, Any]) -> str:
    """As the file has it."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(as_text(shipped()), encoding="utf-8")

"""What docs/ says of the code, made from the code. `python -m tests.support.described` writes it anew.

These are openapi.json, the API as it is shipped, and the tables of settings.md, operations-file.md and api.md.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from config.settings import Settings
from tests.support import reference
from webapp.app import create_app
from webapp.openapi.problem_types import PROBLEM_TYPES

FILE = reference.DOCS / "openapi.json"


def shipped() -> dict[str, Any]:
    """The document of the default settings and the operations that are shipped."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(_env_file=None, data=Path(folder), public_url="http://127.0.0.1:8000")
        document: dict[str, Any] = create_app(settings).test_client().get("/openapi.json").get_json()
    return document


def as_text(document: dict[str, Any]) -> str:
    """As the file has it."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def problems_table() -> str:
    """Every type of problem, by status."""
    rows = [(str(problem.status), f"`{problem.uri}`", problem.meaning) for problem in PROBLEM_TYPES]
    return reference.table(("status", "type", "meaning"), rows)


PAGES = {**reference.PAGES, "api.md": {"problems": problems_table}}
"""What is made in each page, by the name in its comments."""


if __name__ == "__main__":
    FILE.write_text(as_text(shipped()), encoding="utf-8")
    reference.write(PAGES)

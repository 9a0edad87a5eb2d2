"""A headless Chromium, Debian's or whichever is on PATH."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

# Without the last ones it asks for its maker's hosts, many at a time.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find() -> str | None:
    """Where the program is."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def require() -> str:
    """Where the program is. Skips the test without it; REQUIRE_CHROMIUM=1: fails."""
    program = find()
    if not program:
        if os.environ.get("REQUIRE_CHROMIUM") == "1":
            pytest.fail("REQUIRE_CHROMIUM=1, but there is no chromium on PATH")
        pytest.skip("there is no chromium on PATH (Debian: apt-get install chromium)")
    return program


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser, whose contexts and pages are for the test to make. Skips or fails as `require` does."""
    program = require()
    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=_FLAGS)
        yield browser
        browser.close()

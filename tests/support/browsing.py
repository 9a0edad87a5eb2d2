"""Somebody who looks at the live page in a browser, and what every view of it has to be for everybody."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize

DESK: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
_AXE = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],
}
_TOO_SMALL = """() => [...document.querySelectorAll('a, button, input, select, summary')]
    .filter(each => each.checkVisibility() && !each.closest('.unseen, .skip, .empty, .crumb, .fold, .fault, .docs'))
    .filter(each => !each.closest('#part-bodies, dd'))
    .filter(each => { const box = each.getBoundingClientRect(); return box.height > 0 && box.height < 43.5; })
    .map(each => each.outerHTML.slice(0, 100))"""


@contextmanager
def looking(browser: Browser, url: str, *, complains: bool = False, **options: Any) -> Iterator[Page]:
    """Somebody who has a page of this gateway open. It asks no other host and, unless it `complains`, has no error in
    its console."""
    context = browser.new_context(base_url=url, locale="en-GB", timezone_id="Europe/Berlin", **options)
    page = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: errors.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    hosts = {urlsplit(each).netloc for each in asked}
    context.close()
    assert hosts == {urlsplit(url).netloc}
    assert complains or not errors, errors


def assert_nothing_is_in_the_way(page: Page) -> None:
    """axe finds nothing that is in the way of people with a screen reader, a keyboard or weak eyes."""
    found = Axe().run(page, options=_AXE)
    assert found.violations_count == 0, found.generate_report()


def assert_it_fits(page: Page) -> None:
    """Nothing lies beside the window, and on a phone everything is large enough for a finger."""
    size = page.viewport_size or DESK
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= size["width"], (width, page.url)
    if size["width"] == PHONE["width"]:
        too_small = page.evaluate(_TOO_SMALL)
        assert not too_small, (too_small, page.url)


def focused(page: Page) -> str:
    """What has the focus, as one reads it; of what has no text its id or name."""
    found: str = page.evaluate(
        """() => {
            const has = document.activeElement;
            if (has === document.body) return 'body';
            return (has.innerText || has.id || has.nodeName).replace(/\\s+/g, ' ').trim();
        }"""
    )
    return found

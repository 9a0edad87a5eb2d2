"""A downstream's table of partitions in a headless Chromium: by keyboard, on a phone, in the dark, with any name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.support import chromium, sqlite
from tests.support.browsing import DESK, PHONE, assert_it_fits, assert_nothing_is_in_the_way, focused, looking
from tests.support.jobs import submit_to_partitions
from tests.support.web import Web
from tests.support.web_server import WebServer

pytestmark = pytest.mark.long  # a browser and its checks

OPERATIONS = """\
[downstreams.crm]
rate = "20/s"
partition = "header"
each = { rate = ["5/s", "10000/d"], concurrency = 2 }

[operations.order]
url = "http://127.0.0.1:1/order"
downstream = "crm"
timeout = "2h"
"""
URL = "/downstreams/crm/partitions"
NAMES = ('"><script>alert(1)</script>', "W" * 64, "", "a&b=%2F?#+", "{{7*7}}")


class Site:
    """One web process over a downstream whose partitions have all kinds of names."""

    def __init__(self, folder: Path) -> None:
        url = sqlite.fresh_database(folder)
        self.web = Web(folder, url, operations_toml=OPERATIONS)
        self.web.declare()
        self.submit(*NAMES, each=3)
        self.submit(*(f"customer-{number:03}" for number in range(60)))
        self.web.store.samples.sample()
        self.server = WebServer(folder, url, OPERATIONS_FILE=str(folder / "operations.toml"))
        self.server.start()
        self.url = self.server.url

    def submit(self, *names: str, each: int = 1) -> None:
        submit_to_partitions(self.web.store, names, lane="crm", operation="order", each=each)

    def close(self) -> None:
        self.server.close()
        self.web.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.launched() as launched:
        yield launched


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    opened = Site(tmp_path_factory.mktemp("site"))
    yield opened
    opened.close()


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_is_in_anybodys_way(site: Site, browser: Browser, scheme: Any, viewport: Any) -> None:
    with looking(browser, site.url, complains=True, color_scheme=scheme, viewport=viewport) as page:
        for path in ("/", URL, URL + "?q=customer-05&sort=name", URL + "?q=nobody", URL + "?sort=size"):
            page.goto(path)
            for summary in page.locator("main details > summary:visible").all()[:4]:
                summary.press("Enter")
            assert_nothing_is_in_the_way(page)
            assert_it_fits(page)


def test_by_keyboard_one_pauses_weighs_and_resumes_and_the_focus_stays_beside_it(site: Site, browser: Browser) -> None:
    with looking(browser, site.url) as page:
        page.goto(URL + "?q=%26b&sort=name")
        expect(page.locator("#link-text")).to_have_text("Live")
        page.evaluate("window.isSame = true")
        page.locator("details", has_text="Pause").first.locator("summary").press("Enter")
        page.keyboard.press("Tab")
        assert focused(page) == "Pause it"
        page.keyboard.press("Enter")
        expect(page.locator(".why")).to_contain_text("paused")
        assert focused(page) == "Resume a&b=%2F?#+"
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.type("2.5")
        page.keyboard.press("Enter")
        expect(page.locator("tbody .number").last).to_contain_text("2.5")
        assert focused(page) == "Weight of a&b=%2F?#+"
        page.locator("details summary").first.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator(".why")).not_to_contain_text("paused")
        assert page.evaluate("isSame"), "the page was never loaded again"


def test_what_is_refused_is_said_beside_its_form(site: Site, browser: Browser) -> None:
    with looking(browser, site.url, complains=True) as page:
        page.goto(URL + "?q=customer-001")
        page.locator("details summary").last.press("Enter")
        weight = page.locator("tbody input[name=weight]")
        weight.fill("much")
        weight.press("Enter")
        expect(page.locator(".refusal").last).to_contain_text("number")
        expect(weight).to_be_focused()
        expect(weight).to_have_value("much")


def test_the_rows_follow_what_happens_and_stay_in_their_order(site: Site, browser: Browser) -> None:
    with looking(browser, site.url) as page:
        page.goto(URL + "?q=customer-00")
        last = page.locator("tbody tr").last
        name = str(last.locator("th").text_content()).strip()
        site.submit(name, each=5)
        expect(last.locator("td").first).to_contain_text("6")
        assert str(last.locator("th").text_content()).strip() == name


def test_without_a_script_one_searches_sorts_turns_pages_and_acts(site: Site, browser: Browser) -> None:
    with looking(browser, site.url, java_script_enabled=False) as page:
        page.goto("/")
        page.get_by_role("link", name="Partitions of crm").click()
        page.get_by_role("link", name="Partition", exact=True).click()
        page.get_by_role("link", name="Next page").click()
        expect(page.locator("tbody tr").last.locator("th")).to_contain_text("{{7*7}}")
        page.get_by_role("searchbox").fill("customer-059")
        page.get_by_role("button", name="Find").click()
        page.locator("details summary").first.click()
        page.get_by_role("button", name="Pause customer-059").click()
        expect(page.locator("tbody tr")).to_have_count(1)
        expect(page.locator(".why")).to_contain_text("paused")

"""The live page in a headless Chromium over the web process alone: the test itself moves the jobs."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import update

from tests.support import chromium, sqlite
from tests.support.browsing import (
    DESK,
    PHONE,
    assert_it_fits,
    assert_nothing_is_in_the_way,
    focused,
    looking,
)
from tests.support.jobs import submit_many
from tests.support.web import Web
from tests.support.web_server import WebServer
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role
from tidegate.database.schema import jobs
from tidegate.states import State

pytestmark = pytest.mark.long  # a browser and its checks take two minutes

MANY = 24
"""So many downstreams beside the samples."""
OPERATIONS = '[downstreams.sample]\nrate = ["20/s", "10000/d"]\nconcurrency = 4\n' + "".join(
    f"""
[downstreams.partner{number:02}]
rate = "{number + 1}/s"
concurrency = 4
[operations.call{number:02}]
downstream = "partner{number:02}"
url = "http://127.0.0.1:1/"
timeout = "1h"
"""
    for number in range(MANY)
)
UNKNOWN = "0199c5a0-0000-7000-8000-000000000000"
# What a keyboard's next step leads to, and whether one sees that it is there.
_STEP = """() => {
    const has = document.activeElement, style = getComputedStyle(has), box = has.getBoundingClientRect();
    return {isBody: has === document.body, text: has.outerHTML.slice(0, 120),
            isSeen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2
                && box.width > 0 && box.top < innerHeight && box.bottom > 0};
}"""


class Site:
    """One web process, and a hand for its jobs."""

    def __init__(self, folder: Path, **settings: str) -> None:
        url = sqlite.fresh_database(folder)
        self.web = Web(folder, url, operations_toml=OPERATIONS)
        self.web.declare()
        self.server = WebServer(folder, url, OPERATIONS_FILE=str(folder / "operations.toml"), **settings)
        self.server.start()
        self.url = self.server.url

    def fail(self, job_id: str, message: str) -> None:
        """Ends the job with this error of its downstream."""
        error = {"code": "downstream_error", "message": message, "downstream_status": 400, "downstream_body": "{}"}
        assert self.web.store.workers.fail(self.web.claim(job_id), error, call_seconds=None)

    def close(self) -> None:
        """Ends the process."""
        self.server.close()
        self.web.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser; each test opens pages of its own in it."""
    with chromium.launched() as launched:
        yield launched


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site of its own for each test."""
    opened = Site(tmp_path)
    yield opened
    opened.close()


def live(page: Page, path: str = "/") -> None:
    """Opens the page and waits until it is told what happens."""
    page.goto(path)
    expect(page.locator("#link-text")).to_have_text("Live")


def test_focus_stays_where_it_is_while_jobs_come_and_go_around_it(site: Site, browser: Browser) -> None:
    claims = [site.web.claim(site.web.accepted("echo")) for _ in range(3)]
    newest, middle, oldest = (claim.job_id for claim in reversed(claims))
    with looking(browser, site.url) as page:
        live(page)
        page.locator(f"#running-{middle} a").focus()
        for ends in (claims[2], claims[0]):
            site.web.store.workers.fail(ends, {"code": "operation_error", "message": "no"}, call_seconds=None)
            expect(page.locator(f"#running-{ends.job_id}")).to_have_count(0)
            assert focused(page) == middle
        another = site.web.accepted("echo")
        expect(page.locator(f"#row-{another}")).to_have_count(1)
        assert focused(page) == middle
        page.locator(f"#row-{newest} a").focus()
        site.web.accepted("echo")
        expect(page.locator("#part-recent tbody tr")).to_have_count(5)
        assert focused(page) == newest
        assert page.locator(f"#row-{oldest}").count() == 1


def test_when_what_has_the_focus_goes_it_goes_to_what_is_beside_it_and_at_last_to_the_heading(
    site: Site, browser: Browser
) -> None:
    first, second = (site.web.claim(site.web.accepted("echo")) for _ in range(2))
    with looking(browser, site.url) as page:
        live(page)
        page.locator(f"#running-{second.job_id} a").focus()
        error = {"code": "operation_error", "message": "no"}
        site.web.store.workers.fail(second, error, call_seconds=None)
        expect(page.locator(f"#running-{second.job_id}")).to_have_count(0)
        assert focused(page) == first.job_id
        site.web.store.workers.fail(first, error, call_seconds=None)
        expect(page.locator("#part-running")).to_contain_text("Nothing runs just now.")
        assert focused(page) == "Running"


def test_after_each_act_the_focus_is_on_what_can_be_done_next_and_nothing_else_has_moved(
    site: Site, browser: Browser
) -> None:
    with looking(browser, site.url) as page:
        live(page)
        page.locator("#change-partner20 summary").click()
        page.locator("#rate-partner20").fill("7/s")
        page.evaluate("window.isSame = true")
        pause = page.locator("#pause-partner20 summary")
        pause.focus()
        scrolled = page.evaluate("scrollY")
        assert scrolled > 0
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert focused(page) == "Pause it"
        page.keyboard.press("Space")
        expect(page.locator("#mood-partner20")).to_have_text("Paused")
        assert focused(page) == "Resume partner20"
        expect(page.locator("#rate-partner20")).to_have_value("7/s")
        expect(page.locator("#rate-partner20")).to_be_visible()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("#mood-partner20")).not_to_have_text("Paused")
        assert focused(page) == "Pause partner20"
        page.locator("#rate-partner20").press("Enter")
        expect(page.locator("#downstream-partner20 .rate")).to_contain_text("used of 7/s")
        assert focused(page) == "Change rate of partner20"
        expect(page.locator("#rate-partner20")).to_be_hidden()
        assert page.evaluate("scrollY") == scrolled
        assert page.evaluate("isSame"), "the page was never loaded again"


def test_after_a_cancel_and_a_new_try_the_focus_is_on_the_job(site: Site, browser: Browser) -> None:
    job_id = site.web.accepted("echo")
    with looking(browser, site.url) as page:
        live(page, f"/jobs/{job_id}")
        page.locator("#cancel summary").press("Enter")
        page.get_by_role("button", name="Cancel this job").press("Enter")
        expect(page.locator("#job-state")).to_contain_text("Cancelled")
        assert focused(page) == "Submit again…"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("#job-state")).to_contain_text("Queued")
        expect(page.locator("#job-state")).to_be_focused()
        new = page.url
        assert job_id not in new
        site.web.succeed(re.findall(r"[0-9a-f-]{36}", new)[0], b"1", is_json=True)
        expect(page.locator("#job-state")).to_contain_text("Succeeded")
        expect(page.locator("#job-state")).to_be_focused()


def test_a_button_that_goes_with_the_end_of_its_job_leaves_the_focus_on_the_page(site: Site, browser: Browser) -> None:
    claim = site.web.claim(site.web.accepted("echo"))
    with looking(browser, site.url) as page:
        live(page, f"/jobs/{claim.job_id}")
        page.locator("#cancel summary").press("Enter")
        page.get_by_role("button", name="Cancel this job").focus()
        site.web.store.workers.fail(claim, {"code": "operation_error", "message": "no"}, call_seconds=None)
        expect(page.locator("#job-state")).to_contain_text("Failed")
        assert focused(page) == "Submit again…"


def test_what_is_refused_is_said_beside_its_form_a_line_for_each_fault(site: Site, browser: Browser) -> None:
    with looking(browser, site.url, complains=True) as page:
        live(page)
        page.locator("#change-sample summary").press("Enter")
        rate = page.locator("#rate-sample")
        rate.fill("fast, 0/s")
        rate.press("Enter")
        said = page.locator("#change-sample .refusal")
        expect(said).to_contain_text("0/s")
        assert len(str(said.text_content()).split("\n")) >= 3
        site.web.accepted("echo")
        expect(page.locator("#part-recent tbody tr")).to_have_count(1)
        expect(said).to_contain_text("0/s")
        expect(rate).to_be_focused()
        expect(rate).to_have_value("fast, 0/s")
        site.server.process.kill()
        rate.fill("5/s")
        rate.press("Enter")
        expect(said).to_have_text("The server does not answer. It may be done, or not: look before you ask again.")


def test_escape_closes_what_asks_and_gives_the_focus_back(site: Site, browser: Browser) -> None:
    job_id = site.web.accepted("echo")
    with looking(browser, site.url) as page:
        for path, which, inside in (
            ("/", "#pause-sample", "button"),
            ("/", "#change-sample", "input"),
            (f"/jobs/{job_id}", "#cancel", "button"),
        ):
            live(page, path)
            page.locator(f"{which} summary").press("Space")
            page.locator(f"{which} {inside}").first.focus()
            page.keyboard.press("Escape")
            expect(page.locator(f"{which} form")).to_be_hidden()
            expect(page.locator(f"{which} summary")).to_be_focused()
    assert site.web.row(job_id).state == State.QUEUED


def test_by_keyboard_one_gets_everywhere_and_sees_where_one_is(site: Site, browser: Browser) -> None:
    job_id = site.web.accepted("echo")
    site.fail(job_id, "no " * 300)
    with looking(browser, site.url, complains=True) as page:
        for path in ("/", f"/jobs/{job_id}", f"/jobs/{UNKNOWN}", "/docs"):
            page.goto(path)
            page.keyboard.press("Tab")
            assert "Skip to the content" in focused(page)
            for steps in range(400):
                page.keyboard.press("Tab")
                step = page.evaluate(_STEP)
                if step["isBody"] or steps == 150:
                    break
                assert step["isSeen"], (path, step["text"])
            assert steps > 2, path


def test_without_a_script_an_act_leads_back_to_its_downstream(site: Site, browser: Browser) -> None:
    with looking(browser, site.url, java_script_enabled=False) as page:
        page.goto("/")
        page.locator("#pause-partner20 summary").click()
        page.get_by_role("button", name="Pause partner20").click()
        expect(page.locator("#mood-partner20")).to_have_text("Paused")
        expect(page.locator("#downstream-partner20")).to_be_focused()
        expect(page.locator("#zone")).to_have_text("UTC")


def created(site: Site, job_id: str, at: datetime) -> None:
    """Moves the job to another time."""
    moved = {"created_at": at, "run_at": at, "deadline": at + timedelta(days=900)}
    site.web.database.execute(update(jobs).where(jobs.c.id == job_id).values(**moved))


def shown(page: Page, job_id: str) -> str:
    """When the job was created, as its row shows it."""
    return str(page.locator(f"#row-{job_id} td:last-child time").text_content())


def test_times_are_of_the_readers_zone_with_their_day_and_told_apart_when_the_clock_is_set_back(
    site: Site, browser: Browser
) -> None:
    """In Berlin, whose clocks went from 03:00 UTC+2 to 02:00 UTC+1 on 25 October 2026."""
    before, after, summer, last_year, today = (site.web.accepted("echo") for _ in range(5))
    created(site, before, datetime(2026, 10, 25, 0, 30, tzinfo=UTC))
    created(site, after, datetime(2026, 10, 25, 1, 30, tzinfo=UTC))
    created(site, summer, datetime(2026, 7, 1, 10, 0, tzinfo=UTC))
    created(site, last_year, datetime(2025, 12, 24, 23, 30, tzinfo=UTC))
    created(site, today, datetime(2026, 12, 1, 9, 15, tzinfo=UTC))
    with looking(browser, site.url) as page:
        page.clock.set_fixed_time(datetime(2026, 12, 1, 12, tzinfo=UTC))
        page.goto("/")
        expect(page.locator("#zone")).to_have_text("UTC+1 (Europe/Berlin)")
        assert shown(page, before) == "25 Oct, 02:30:00 UTC+2"
        assert shown(page, after) == "25 Oct, 02:30:00 UTC+1"
        assert shown(page, summer) == "1 Jul, 12:00:00 UTC+2"
        assert shown(page, last_year) == "25 Dec 2025, 00:30:00"
        assert shown(page, today) == "10:15:00"
        title = page.locator(f"#row-{before} td:last-child time").get_attribute("title")
        assert str(title).endswith("2026-10-25 00:30:00.000 UTC")
        page.clock.set_fixed_time(datetime(2026, 12, 2, 12, tzinfo=UTC))
        expect(page.locator(f"#row-{today} td:last-child time")).to_have_text("1 Dec, 10:15:00")


def test_on_a_phone_ten_thousand_jobs_and_many_downstreams_are_folded(site: Site, browser: Browser) -> None:
    for number in range(MANY):
        submit_many(site.web.store, 420, lane=f"partner{number:02}", operation=f"call{number:02}")
    site.web.claim(site.web.accepted("echo"))
    site.web.store.samples.sample()
    assert site.server.client.patch("/v1/downstreams/partner23", json={"paused": True}).status_code == 200
    with looking(browser, site.url, viewport=PHONE) as page:
        live(page)
        expect(page.locator("#part-recent tbody tr")).to_have_count(50)
        expect(page.locator("#part-counts")).to_contain_text(re.compile(r"10,0[78]\d"))
        assert page.evaluate("document.documentElement.scrollHeight") < 5000
        assert_it_fits(page)
        assert page.locator("#part-recent tbody tr:visible").count() == 10
        expect(page.locator("#downstream-partner23")).to_be_visible()  # it is paused
        expect(page.locator("#downstream-partner22")).to_be_hidden()
        assert_nothing_is_in_the_way(page)
        page.get_by_label("Show all downstreams").check()
        expect(page.locator("#downstream-partner22")).to_be_visible()
        page.get_by_label("Show all jobs of this list").check()
        expect(page.locator("#part-recent tbody tr:visible")).to_have_count(50)
        assert_it_fits(page)
        page.goto("/docs")
        page.goto("/#downstream-partner22")
        expect(page.locator("#downstream-partner22")).to_be_in_viewport()


def test_a_day_is_searched_for_by_the_readers_clocks(site: Site, browser: Browser) -> None:
    today = site.web.accepted("echo")
    with looking(browser, site.url) as page:
        page.goto("/")
        page.get_by_text("More filters").click()
        page.get_by_label("Created since").fill(f"{datetime.now(ZoneInfo('Europe/Berlin')):%Y-%m-%d}")
        page.get_by_role("button", name="Find").click()
        expect(page.locator(f"#jobs #row-{today}")).to_be_visible()
        expect(page).to_have_url(re.compile("zone=Europe%2FBerlin"))
        expect(page.get_by_label("Created since")).to_be_visible()


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_is_in_anybodys_way(site: Site, browser: Browser, scheme: Any, viewport: Any) -> None:
    ids = [site.web.job_in(state) for state in State]
    long = site.web.accepted("echo")
    site.fail(long, "see https://partner.example/" + "a" * 300 + "\nfield is missing\n" * 9)
    site.web.store.samples.sample()
    paths = [
        "/",
        "/?state=failed",
        "/?error_code=downstream_error",
        f"/?q={UNKNOWN}",
        *(f"/jobs/{each}" for each in (*ids, long, UNKNOWN)),
    ]
    with looking(browser, site.url, complains=True, color_scheme=scheme, viewport=viewport) as page:
        for path in paths:
            page.goto(path)
            for summary in page.locator("main details > summary:visible").all()[:4]:
                summary.press("Enter")
            assert_nothing_is_in_the_way(page)
            assert_it_fits(page)


def test_an_empty_gateway_is_in_nobodys_way(tmp_path: Path, browser: Browser) -> None:
    server = WebServer(tmp_path, sqlite.fresh_database(tmp_path), AUTH="keys")
    server.start()
    try:
        database = Web(tmp_path, f"sqlite:///{tmp_path / 'tidegate.db'}").database
        _, secret = KeyStore(database).create("ops", name="", role=Role.OPERATOR)
        database.close()
        for scheme, viewport in (("light", DESK), ("dark", PHONE)):
            with looking(browser, server.url, complains=True, color_scheme=scheme, viewport=viewport) as page:
                page.goto("/")
                page.get_by_label("API key").fill(secret)
                page.keyboard.press("Enter")
                expect(page.locator("#link-text")).to_have_text("Live")
                for path in ("/", "/docs"):
                    page.goto(path)
                    assert_nothing_is_in_the_way(page)
                    assert_it_fits(page)
    finally:
        server.close()

"""The live page in a headless Chromium over the running stack."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy.engine import make_url

from tests.support import chromium
from tests.support.browsing import DESK, PHONE, assert_it_fits, assert_nothing_is_in_the_way, looking
from tests.support.gateway import Gateway
from tests.support.http_server import respond, serving
from tests.support.jobs import submit_many
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until
from tests.support.web_server import WebServer
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role
from tidegate.database.connection import Database
from tidegate.stores import Store

_FOLLOW_BAR = """() => {
    window.isSame = true;
    window.percents = [];
    const part = document.getElementById('part-now');
    const look = () => {
        const bar = part.querySelector('progress');
        percents.push(bar.position < 0 ? 0 : bar.value);
    };
    new MutationObserver(look).observe(part, {subtree: true, childList: true, attributes: true});
}"""
_FORM = """<!doctype html><form method=post action="{}"></form><script>document.forms[0].submit()</script>"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The stack, with its lanes."""
    stack = Gateway(tmp_path_factory.mktemp("gateway"))
    try:
        stack.start()
        wait_until(
            lambda: stack.client.get("/v1/downstreams/sample").status_code == 200,
            description="the scheduler has declared the lanes",
            timeout_seconds=60,
        )
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser; each test opens pages of its own in it."""
    with chromium.launched() as launched:
        yield launched


def submit(gateway: Gateway, operation: str, json: Any) -> str:
    """A job; its id."""
    answer = gateway.submit(operation, json=json)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def pause(gateway: Gateway, lane: str, *, paused: bool = True) -> None:
    """Holds a lane back, or lets it go."""
    merge = {"Content-Type": "application/merge-patch+json"}
    assert gateway.client.patch(f"/v1/downstreams/{lane}", json={"paused": paused}, headers=merge).status_code == 200


def test_one_watches_a_job_from_its_submit_to_its_end(gateway: Gateway, browser: Browser) -> None:
    pause(gateway, "sleepy_io")
    with looking(browser, gateway.url) as page:
        page.goto("/")
        expect(page.locator("#link-text")).to_have_text("Live")
        job_id = submit(gateway, "sleepy_io", {"seconds": 3})
        expect(page.locator(f"#row-{job_id} .ticks")).to_have_class("ticks queued")
        page.locator(f"#row-{job_id} a").click()
        expect(page.locator("#part-now")).to_contain_text("Waits for its downstream, which is paused")
        page.evaluate(_FOLLOW_BAR)
        pause(gateway, "sleepy_io", paused=False)
        expect(page.locator("#job-state")).to_contain_text("Succeeded")
        percents = page.evaluate("percents")
        assert percents == sorted(percents), "it never goes back"
        assert percents[-1] == 100
        assert len(set(percents)) > 2, "it moved"
        assert page.evaluate("isSame"), "and the page was never loaded again"
        expect(page.locator("#job-state .ticks")).to_have_class("ticks succeeded")
        expect(page.locator("#news")).to_have_text("sleepy_io: Succeeded")
        expect(page.locator("#link-text")).to_have_text("Final")
        expect(page.locator("#part-timeline")).to_contain_text("Attempt 1 succeeded")
        page.get_by_role("link", name="Overview").first.click()
        expect(page.locator(f"#row-{job_id}")).to_contain_text("Succeeded")
        expect(page.locator(f"#running-{job_id}")).to_have_count(0)


@pytest.mark.parametrize(("size", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["desk", "phone"])
def test_a_limit_that_is_more_than_the_downstream_takes_is_seen_on_its_card(
    gateway: Gateway, browser: Browser, size: Any, scheme: Any
) -> None:
    """The sample takes 20 in any second and 4 at once."""
    patch = {"rate": "60/s", "concurrency": "unlimited"}
    assert gateway.client.patch("/v1/downstreams/sample", json=patch).status_code == 200
    try:
        with looking(browser, gateway.url, viewport=size, color_scheme=scheme) as page:
            page.goto("/")
            for number in range(90):
                submit(gateway, "quote", {"sku": f"A-{number}", "quantity": 1})
            doubt = page.locator("#doubt-sample")
            expect(doubt).to_contain_text(re.compile(r"Refused \d+ of \d+ calls in the last minute"), timeout=20_000)
            expect(doubt).to_contain_text("the limit is lower than set")
            assert_nothing_is_in_the_way(page)
            assert_it_fits(page)
    finally:
        gateway.client.patch("/v1/downstreams/sample", json={"rate": None, "concurrency": None})


def test_a_lane_is_paused_and_resumed_and_slowed_by_keyboard(gateway: Gateway, browser: Browser) -> None:
    def lane() -> dict[str, Any]:
        found: dict[str, Any] = gateway.client.get("/v1/downstreams/sample").json()
        return found

    with looking(browser, gateway.url) as page:
        page.goto("/")
        expect(page.locator("#downstream-sample")).to_contain_text("Waiting0")  # what other tests left has gone
        page.locator("#pause-sample summary").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#mood-sample")).not_to_have_text("Paused")
        page.get_by_role("button", name="Pause sample").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#mood-sample")).to_have_text("Paused")
        assert lane()["paused"]
        job_id = submit(gateway, "quote", {"sku": "A", "quantity": 1})
        expect(page.locator("#downstream-sample")).to_contain_text("Waiting1")
        assert gateway.client.get(f"/v1/jobs/{job_id}").json()["state"] == "queued"
        page.locator("#resume-sample summary").press("Enter")
        page.get_by_role("button", name="Resume sample").press("Enter")
        expect(page.locator(f"#row-{job_id}")).to_contain_text("Succeeded")
        assert not lane()["paused"]

        page.get_by_text("Change rate of sample").press("Enter")
        rate = page.locator("#rate-sample")
        rate.fill("7/s")
        submit(gateway, "echo", 1)
        expect(page.locator("#part-recent tr").nth(1)).to_contain_text("echo")
        expect(rate).to_have_value("7/s")  # what is typed stays while the lane lives on
        rate.press("Enter")
        expect(page.locator("#downstream-sample")).to_contain_text("used of 7/s")
        assert lane()["rate"] == ["7/s"]
        page.get_by_text("Change rate of sample").click()
        page.get_by_role("button", name="Back to 20/s").click()
        expect(page.locator("#downstream-sample")).to_contain_text("used of 20/s")


def test_a_job_is_cancelled_and_submitted_again(gateway: Gateway, browser: Browser) -> None:
    job_id = submit(gateway, "sleepy_io", {"seconds": 600})
    with looking(browser, gateway.url) as page:
        page.goto("/")
        expect(page.locator(f"#running-{job_id} progress")).to_have_accessible_name(re.compile("Progress of sleepy_io"))
        page.locator(f"#running-{job_id} a").click()
        expect(page.locator("#job-state")).to_contain_text("Running")
        page.get_by_text("Cancel…").click()
        page.get_by_role("button", name="Cancel this job").click()
        expect(page.locator("#job-state")).to_contain_text("Cancelled")
        expect(page.locator("#job-state .ticks")).to_have_class("ticks cancelled")
        assert gateway.client.get(f"/v1/jobs/{job_id}").status_code == 410
        page.get_by_text("Submit again…").click()
        page.get_by_role("button", name="Submit a new try").click()
        expect(page.locator("#part-timeline")).to_contain_text(f"A new try of {job_id}")
        page.get_by_text("Cancel…").click()
        page.get_by_role("button", name="Cancel this job").click()
        expect(page.locator("#job-state")).to_contain_text("Cancelled")


def test_a_job_is_found_by_its_id(gateway: Gateway, browser: Browser) -> None:
    job_id = submit(gateway, "echo", 1)
    with looking(browser, gateway.url) as page:
        page.goto("/")
        page.get_by_label("Id").fill(job_id)
        page.get_by_label("Id").press("Enter")
        expect(page).to_have_url(f"{gateway.url}/jobs/{job_id}#jobs")


def test_what_jobs_bring_never_runs(gateway: Gateway, browser: Browser) -> None:
    hostile = "</pre><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
    job_id = submit(gateway, "echo", {"x": hostile})
    gateway.wait_final(f"/v1/jobs/{job_id}")
    with looking(browser, gateway.url) as page:
        page.goto(f"/jobs/{job_id}")
        expect(page.locator("#part-bodies pre").first).to_contain_text("window.hacked = 1</script>")
        assert page.evaluate("window.hacked") is None


def test_a_hidden_page_holds_nothing_open(gateway: Gateway, browser: Browser) -> None:
    with looking(browser, gateway.url) as page:
        page.goto("/")
        expect(page.locator("#link-text")).to_have_text("Live")
        page.evaluate("Object.defineProperty(document, 'visibilityState', {value: 'hidden', configurable: true})")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.locator("#link-text")).to_have_text("")
        page.evaluate("Object.defineProperty(document, 'visibilityState', {value: 'visible', configurable: true})")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.locator("#link-text")).to_have_text("Live")


def test_without_scripts_it_is_read_and_its_forms_work(gateway: Gateway, browser: Browser) -> None:
    with looking(browser, gateway.url, java_script_enabled=False) as page:
        page.goto("/")
        page.locator("#pause-sample summary").click()
        page.get_by_role("button", name="Pause sample").click()
        expect(page.locator("#mood-sample")).to_have_text("Paused")
        page.locator("#resume-sample summary").click()
        page.get_by_role("button", name="Resume sample").click()
        expect(page.locator("#mood-sample")).not_to_have_text("Paused")


def test_no_other_sites_form_does_anything(gateway: Gateway, browser: Browser) -> None:
    with serving() as site:
        url = f"{gateway.url}/downstreams/sample/pause"
        site.answer = respond(200, _FORM.format(url).encode(), content_type="text/html")
        context = browser.new_context()
        page = context.new_page()
        page.goto(site.url.replace("127.0.0.1", "localhost"))
        expect(page).to_have_url(url)
        expect(page.locator("body")).to_contain_text("urn:tidegate:problem:forbidden")
        context.close()
    assert not gateway.client.get("/v1/downstreams/sample").json()["paused"]


@pytest.mark.parametrize(("scheme", "viewport"), [("light", DESK), ("dark", PHONE)], ids=["desk", "phone"])
def test_nothing_on_it_is_in_anybodys_way(gateway: Gateway, browser: Browser, scheme: Any, viewport: Any) -> None:
    running = submit(gateway, "sleepy_io", {"seconds": 600})
    failed = submit(gateway, "permanent", {"x": [1, {"y": None}]})
    gateway.wait_final(f"/v1/jobs/{failed}", timeout_seconds=60)
    unknown = f"{failed[:-4]}0000"
    with looking(browser, gateway.url, complains=True, color_scheme=scheme, viewport=viewport) as page:
        for path in ("/", f"/jobs/{running}", f"/jobs/{failed}", f"/?q={unknown}", f"/jobs/{unknown}"):
            page.goto(path)
            if path == "/":
                expect(page.locator(".plot svg").first).to_be_attached()
                if viewport is PHONE:
                    page.get_by_label("Show all downstreams").check()
                page.get_by_text("Change rate of sample").click()
            if path.endswith(running):
                page.get_by_text("Cancel…").click()
            assert_nothing_is_in_the_way(page)
            assert_it_fits(page)
    gateway.client.post(f"/v1/jobs/{running}/cancel")


def test_with_keys_one_signs_in_and_is_still_when_one_comes_from_another_site(
    tmp_path: Path, sqlite_url: str, browser: Browser
) -> None:
    database = Database(sqlite_url)
    _, secret = KeyStore(database).create("shop", name="", role=Role.CLIENT)
    database.close()
    server = WebServer(tmp_path, sqlite_url, AUTH="keys")
    server.client.headers["Authorization"] = f"Bearer {secret}"
    server.start()
    try:
        job_id = server.submit()
        with looking(browser, server.url, complains=True) as page:
            page.goto(f"/jobs/{job_id}")
            expect(page).to_have_title("Sign in · Tidegate")
            assert_nothing_is_in_the_way(page)
            page.get_by_label("API key").fill("wrong")
            page.keyboard.press("Enter")
            expect(page.get_by_text("This key is unknown, expired or revoked.")).to_be_visible()
            assert_nothing_is_in_the_way(page)
            page.get_by_label("API key").fill(secret)
            page.keyboard.press("Enter")
            expect(page).to_have_url(f"{server.url}/jobs/{job_id}")
            expect(page.locator("#link-text")).to_have_text("Live")
            assert page.evaluate("document.cookie") == ""
            assert_coming_from_elsewhere_works(page, f"{server.url}/jobs/{job_id}")
            server.client.post(f"/v1/jobs/{job_id}/cancel")
            expect(page.locator("#job-state")).to_contain_text("Cancelled")
            page.get_by_role("button", name="Sign out").click()
            expect(page).to_have_url(f"{server.url}/sign-in")
    finally:
        server.close()


def assert_coming_from_elsewhere_works(page: Page, url: str) -> None:
    """A link on another site leads to the job, though the browser keeps the cookie to itself at first."""
    with serving() as site:
        link = f'<!doctype html><a href="{url}">the job</a>'.encode()
        site.answer = respond(200, link, content_type="text/html")
        elsewhere = page.context.new_page()
        elsewhere.goto(site.url.replace("127.0.0.1", "localhost"))
        elsewhere.get_by_text("the job").click()
        expect(elsewhere).to_have_url(url)
        expect(elsewhere.locator("#job-state")).to_contain_text("Queued")
        elsewhere.close()


def test_an_error_page_comes_back_by_itself(tmp_path: Path, postgresql_url: str, browser: Browser) -> None:
    with Proxy(make_url(postgresql_url).port or 5432) as proxy:
        url = make_url(postgresql_url).set(host="127.0.0.1", port=proxy.port)
        server = WebServer(tmp_path, url.render_as_string(hide_password=False))
        server.start()
        try:
            proxy.refuse()
            with looking(browser, server.url, complains=True) as page:
                page.goto("/")
                expect(page.get_by_role("heading")).to_have_text("The database does not answer")
                assert_nothing_is_in_the_way(page)
                proxy.forward()
                expect(page).to_have_title("Overview · Tidegate")
                expect(page.locator("#link-text")).to_have_text("Live")
                proxy.refuse()
                expect(page.get_by_role("alert")).to_contain_text("The database does not answer.")
                proxy.forward()
                expect(page.get_by_role("alert")).to_have_count(0)
        finally:
            server.close()


def test_it_comes_back_when_its_server_was_killed(gateway: Gateway, browser: Browser) -> None:
    with looking(browser, gateway.url, complains=True) as page:
        page.goto("/")
        expect(page.locator("#link-text")).to_have_text("Live")
        page.evaluate("window.isSame = true")
        leader = psutil.Process(gateway.pid("web"))
        for process in [*leader.children(recursive=True), leader]:
            process.send_signal(signal.SIGKILL)
        expect(page.locator("#link-text")).to_have_text("Reconnecting…")
        expect(page.locator("#link-text")).to_have_text("Live")
        job_id = submit(gateway, "sleepy_io", {"seconds": 0})
        expect(page.locator(f"#row-{job_id}")).to_have_count(1)
        assert page.evaluate("isSame")


def test_ten_thousand_jobs_do_not_weigh_on_it(gateway: Gateway, browser: Browser) -> None:
    pause(gateway, "raw_echo")
    database = Database(f"sqlite:///{gateway.data / 'tidegate.db'}")
    store = Store(database)
    with looking(browser, gateway.url) as page:
        page.goto("/")
        expect(page.locator("#mood-raw_echo")).to_have_text("Paused")
        for _ in range(10):
            submit_many(store, 1000, lane="raw_echo", operation="raw_echo")
        expect(page.locator("#downstream-raw_echo")).to_contain_text("Waiting10,000")
        expect(page.locator("#part-recent tbody tr")).to_have_count(50)
        assert page.evaluate("document.querySelectorAll('*').length") < 2500
        page.get_by_role("link", name="Older").click()
        expect(page.get_by_role("heading", name="Jobs found")).to_be_visible()
        expect(page.locator("table.jobs tbody tr")).to_have_count(50)
        page.get_by_role("link", name="Newest, live").click()
        expect(page.locator("#part-recent tbody tr")).to_have_count(50)
    database.close()

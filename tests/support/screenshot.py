"""The picture of the live page in docs/. `python -m tests.support.screenshot` makes it anew; it needs Chromium."""

import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import ViewportSize, expect

from tests.support import chromium, run
from tests.support.gateway import Gateway
from tests.support.processes import REPOSITORY

FILE = REPOSITORY / "docs" / "live-page.png"
_SIZE: ViewportSize = {"width": 1280, "height": 1010}
_OPERATIONS = """\
[downstreams.sample]
rate = "4/s"
concurrency = 4

[downstreams.geocoder]
rate = ["2/s", "10000/d"]
concurrency = 8

[operations.quote]
downstream = "sample"
url = "http://127.0.0.1:${TIDEGATE_SAMPLE_PORT:-8001}/quote"
timeout = "10m"

[operations.geocode]
downstream = "geocoder"
url = "http://127.0.0.1:${TIDEGATE_SAMPLE_PORT:-8001}/quote"
timeout = "10m"
"""
_QUOTE = {"sku": "A-100", "quantity": 3}


def main() -> None:
    """Runs a stack under some load and takes the picture."""
    run.begin()
    try:
        with tempfile.TemporaryDirectory() as folder:
            # Without the tests' own operations, whose lanes nobody has.
            gateway = Gateway(Path(folder), operations=_OPERATIONS, settings={"OPERATIONS": ""})
            gateway.start()
            try:
                FILE.write_bytes(_small(_picture(gateway)))
            finally:
                gateway.stop()
    finally:
        run.end()


def _picture(gateway: Gateway) -> bytes:
    with chromium.launched() as browser:
        page = browser.new_page(base_url=gateway.url, viewport=_SIZE, color_scheme="light", locale="en-GB")
        page.goto("/")
        _submit(gateway, "quote", 400)
        page.wait_for_timeout(25_000)  # so that there is something in the plots
        _submit(gateway, "geocode", 60)
        page.wait_for_timeout(6_000)
        gateway.client.patch("/v1/downstreams/geocoder", json={"paused": True})
        rows = "".join(f"{number},Ahrensburg,{number * 7 % 90 / 10}\n" for number in range(800_000))
        for _ in range(2):
            gateway.submit(
                "csv_profile", content=("id,place,value\n" + rows).encode(), headers={"Content-Type": "text/csv"}
            )
        expect(page.locator(".bars progress[value]").nth(1)).to_be_visible()
        return page.screenshot()


def _submit(gateway: Gateway, operation: str, count: int) -> None:
    inputs = [{"input": _QUOTE}] * count
    assert gateway.client.post(f"/v1/operations/{operation}/jobs/bulk", json=inputs).status_code < 300


def _small(picture: bytes) -> bytes:
    """The same in 256 colours."""
    small = io.BytesIO()
    Image.open(io.BytesIO(picture)).quantize(256).save(small, "PNG", optimize=True)
    return small.getvalue()


if __name__ == "__main__":
    main()

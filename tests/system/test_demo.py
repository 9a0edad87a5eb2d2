"""`make demo`: most of a burst is refused by the API itself, none of it through the gateway."""

import os
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.support.gateway import Gateway
from tests.support.processes import REPOSITORY, free_port


def demo(png: Path, *arguments: str, **environment: str) -> str:
    """What it writes, in a terminal of 80 columns."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--png", str(png), *arguments],
        cwd=REPOSITORY,
        env={**kept, "COLUMNS": "80", "PYTHONPATH": str(REPOSITORY / "client"), **environment},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with Image.open(png) as picture:
        assert picture.size[0] > 1000
        assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 50, "something is drawn"
    return done.stdout


def figures(written: str, name: str) -> tuple[int, int]:
    """Of both bursts, from the table."""
    straight, through = re.findall(rf"^{name} +(\d+) +(\d+)$", written, re.MULTILINE)[0]
    return int(straight), int(through)


def test_on_a_gateway_that_runs_none_is_refused(gateway: Gateway, tmp_path: Path) -> None:
    written = demo(tmp_path / "demo.png", "--requests", "80", "--url", gateway.url, "--sample", gateway.sample_url)
    assert f"Found Tidegate at {gateway.url}" in written
    assert figures(written, "requests in one burst") == (80, 80)
    straight, through = figures(written, "refused by the API")
    assert straight >= 30
    assert through == 0
    assert figures(written, "got their quote") == (80 - straight, 80)
    assert re.search("─ straight at the API ─+╮ *╭─+ through Tidegate ─", written), "side by side"


def test_where_none_runs_it_starts_one_of_its_own_and_stops_it(tmp_path: Path) -> None:
    ports = {"TIDEGATE_PORT": str(free_port()), "TIDEGATE_SAMPLE_PORT": str(free_port())}
    written = demo(tmp_path / "demo.png", "--requests", "40", **ports)
    assert "Started Tidegate at" in written
    assert figures(written, "refused by the API")[1] == 0

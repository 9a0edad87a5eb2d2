"""promtool, Prometheus' own judge of metrics, configurations and rules."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NOT_FOUND = "there is no promtool (apt-get install prometheus)"


def promtool(*arguments: str | Path, text: str = "") -> str:
    """What it says; fails the test when it has an objection. Skips where there is none; REQUIRE_PROMTOOL=1: fails."""
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("REQUIRE_PROMTOOL") == "1":
            pytest.fail(f"REQUIRE_PROMTOOL=1, but {NOT_FOUND}")
        pytest.skip(NOT_FOUND)
    ended = subprocess.run(
        [found, *map(str, arguments)], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    return said

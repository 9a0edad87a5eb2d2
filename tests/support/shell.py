"""Typing a command line as a user does."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path


def sh(command: str, *, cwd: Path, environment: Mapping[str, str] | None = None, minutes: float = 5) -> str:
    """Runs it and returns its standard output; raises AssertionError with what it wrote when it fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    done = subprocess.run(
        ["sh", "-e", "-c", command],
        cwd=cwd,
        env=kept if environment is None else dict(environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=minutes * 60,
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout

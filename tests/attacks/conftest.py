"""Whom the attacks are made on: a stack of their own, or a running one that the environment names.

ATTACK_URL=http://127.0.0.1:8000 is a running gateway with keys off, or with ATTACK_KEY and ATTACK_OTHER_KEY, which are
keys of two clients. ATTACK_OPERATION is an operation of it that takes `{}`; attacks are ATTACK_SIZE times as large.
"""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.attack import Target
from tests.support.gateway import Gateway
from tests.support.processes import REPOSITORY


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A gateway with keys, unless the environment names another."""
    size = int(os.environ.get("ATTACK_SIZE", "1"))
    if url := os.environ.get("ATTACK_URL"):
        yield Target(
            url=url.rstrip("/"),
            operation=os.environ.get("ATTACK_OPERATION", "quote"),
            key=os.environ.get("ATTACK_KEY", ""),
            attacker_key=os.environ.get("ATTACK_OTHER_KEY", os.environ.get("ATTACK_KEY", "")),
            size=size,
        )
        return
    stack = Gateway(tmp_path_factory.mktemp("gateway"), settings={"AUTH": "keys", "IDLE_SECONDS": "3"})
    try:
        stack.start()
        yield Target(
            url=stack.url,
            operation="echo",
            key=_key(stack, "bystander"),
            attacker_key=_key(stack, "attacker"),
            size=size,
        )
    finally:
        stack.stop()


def _key(stack: Gateway, client: str) -> str:
    """A new key of this client."""
    made = subprocess.run(
        [sys.executable, "-m", "webapp.keys", "create", client],
        cwd=REPOSITORY,
        env={**os.environ, "TIDEGATE_DATA": str(stack.data)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return made.stdout.strip()

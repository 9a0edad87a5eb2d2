"""One running stack for a whole module of tests."""

from collections.abc import Iterator

import pytest

from tests.support.gateway import Gateway


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The stack of `python -m embedded`, shared by the tests of a module; stopped and looked after at the end."""
    stack = Gateway(tmp_path_factory.mktemp("gateway"))
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()

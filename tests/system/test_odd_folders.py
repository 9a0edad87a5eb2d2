"""The stack of `make run` from a data folder whose name means something in URLs and files of settings."""

from pathlib import Path

import pytest

from tests.support.gateway import OPERATIONS, Gateway


@pytest.mark.parametrize("name", ["a%20b what?now #1 größe ☂", "%(here)s;[x]"])
def test_everything_lies_in_the_folder_that_was_named(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    stack = Gateway(folder, operations="\ufeff" + OPERATIONS)  # and a byte order mark, as some editors write it
    try:
        stack.start()
        answer = stack.submit("quote", json={"sku": "A-100", "quantity": 1})
        assert stack.wait_final(answer.headers["Location"]).status_code == 200
    finally:
        stack.stop()

    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert {path.name for path in folder.iterdir()} == {"data", "operations.toml", "embedded.log"}
    assert {"tidegate.db", "broker", "run"} <= {path.name for path in stack.data.iterdir()}

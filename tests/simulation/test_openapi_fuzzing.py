"""What the API takes and answers is what /openapi.json says, whatever it is sent: schemathesis over all of it.

Positive and negative data for every route, its boundaries, and walks along the links from submit to read, cancel,
retry and delete.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fuzzing import faults_of
from tests.support.web import Web
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role

EVERY_STATUS = {200, 202, 204, 400, 404, 405, 409, 410, 415, 422, 502, 504}
"""What must have been seen for the run to mean anything."""

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore:Generating overly large repr")]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where schemathesis may write what it likes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        yield tmp_path


def test_without_keys_every_answer_is_as_described(folder: Path, sqlite_url: str) -> None:
    web = Web(folder, sqlite_url, operations=("tests.support.typed_operations",))
    faults, statuses = faults_of(web, examples=25)
    web.close()
    assert not faults, "\n\n".join(faults)
    assert statuses >= EVERY_STATUS


def test_with_keys_and_limits_every_answer_is_as_described(folder: Path, sqlite_url: str) -> None:
    web = Web(
        folder,
        sqlite_url,
        operations=("tests.support.typed_operations",),
        auth="keys",
        submit_limit="100000/s",
        poll_limit="100000/s",
    )
    _, secret = KeyStore(web.database).create("fuzzer", name="", role=Role.OPERATOR)
    faults, statuses = faults_of(web, examples=12, secret=secret)
    web.close()
    assert not faults, "\n\n".join(faults)
    assert statuses >= {200, 202, 404, 422}

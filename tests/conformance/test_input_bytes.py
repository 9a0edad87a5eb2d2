"""How many bytes of input wait for each client, as the table of bodies tells it."""

import pytest

from tests.support.web import Web
from tidegate.intake import input_bytes
from tidegate.intake.input_bytes import InputByteStore


def test_inputs_are_summed_by_client_and_a_part_of_very_many_stands_for_all(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        web.accepted("raw_echo", b"x" * 1000)
    ended = web.accepted("raw_echo", b"x" * 1000)
    web.client.post(f"/v1/jobs/{ended}/cancel")
    inputs = InputByteStore(web.database)
    assert inputs.by_client(0) == {"local": 4000}
    monkeypatch.setattr(input_bytes, "MOST_LOOKED_AT", 2)
    assert inputs.by_client(10) == {"local": 10_000}

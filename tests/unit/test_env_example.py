"""The file .env.example against the settings that there are."""

import re
from pathlib import Path

import pytest

from config.settings import PREFIX, Settings
from tests.support.processes import REPOSITORY

EXAMPLE = (REPOSITORY / ".env.example").read_text()


def test_each_setting_stands_there_in_order_behind_its_meaning() -> None:
    shown = re.findall(rf"^# (.+)\n# ({PREFIX}[A-Z_]+)=.*$", EXAMPLE, re.MULTILINE)

    assert shown == [(field.description, PREFIX + name.upper()) for name, field in Settings.model_fields.items()]


def test_the_values_shown_are_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)
    shown = tmp_path / "env"
    shown.write_text(re.sub(rf"^# ({PREFIX})", r"\1", EXAMPLE, flags=re.MULTILINE))

    assert Settings(_env_file=shown) == Settings(_env_file=None)

"""The file that shows that a process does its work."""

import logging
from pathlib import Path

import pytest

from tasks.health_file import HealthFile
from tidegate import clock


def test_each_beat_touches_the_file_but_not_more_than_once_a_second(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = 100.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    pulse, file = HealthFile(tmp_path / "run" / "scheduler.alive"), tmp_path / "run" / "scheduler.alive"

    pulse.beat()
    file.unlink()
    now += 0.5
    pulse.beat()
    assert not file.exists()
    now += 0.6
    pulse.beat()
    assert file.exists()


def test_a_disk_that_refuses_is_told_once_and_harms_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = 100.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    (tmp_path / "run").write_text("a file where the folder would be")
    pulse = HealthFile(tmp_path / "run" / "io.alive")

    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            pulse.beat()
            now += 2

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "io.alive can't be written" in caplog.text

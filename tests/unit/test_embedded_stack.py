"""When the parts of the embedded stack count as ready."""

import os
import time
from pathlib import Path

from config.settings import Settings
from embedded.processes import Program
from embedded.stack import programs


def test_the_scheduler_is_ready_when_it_has_made_a_turn_since_this_start(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, broker_url="redis://127.0.0.1:1")
    pulse = settings.run_folder / "scheduler.alive"
    pulse.parent.mkdir(parents=True)
    pulse.touch()
    os.utime(pulse, (1, 1))
    programs_alone = [each for group in programs(settings) for each in group if isinstance(each, Program)]
    (scheduler,) = [program for program in programs_alone if program.name == "scheduler"]
    assert not scheduler.is_ready(), "that is what an earlier one left"
    os.utime(pulse, (time.time() + 1, time.time() + 1))
    assert scheduler.is_ready()
    pulse.unlink()
    assert not scheduler.is_ready()

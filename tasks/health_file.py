"""A health file for containers: a process touches it as long as it does its work; the health check reads its age."""

import logging
import os
from pathlib import Path

from tidegate import clock

log = logging.getLogger(__name__)

_APART_SECONDS = 1.0


def health_file_path(folder: Path, name: str) -> Path:
    """The path of the health file of the process of this name."""
    return folder / f"{name}.alive"


class HealthFile:
    """The health file `<folder>/<name>.alive`.

    `find <folder> -name '*.alive' -newermt '-20 seconds'` finds it while the process lives.
    A look at a file costs nothing; asking a worker over the broker costs a second of CPU for importing Celery.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._file = health_file_path(folder, name)
        self._due = 0.0
        self._has_complained = False

    def beat(self) -> None:
        """Touches the file, at most once a second. A failed write is logged once and does not stop the work."""
        if clock.monotonic() < self._due:
            return
        self._due = clock.monotonic() + _APART_SECONDS
        try:
            self._touch()
        except OSError as error:
            if not self._has_complained:
                log.warning("%s can't be written, a health check will not see this process: %s", self._file, error)
                self._has_complained = True

    def _touch(self) -> None:
        try:
            os.utime(self._file)
        except FileNotFoundError:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file.touch()

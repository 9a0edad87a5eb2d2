"""A file that is touched as long as its process does its work: what a container's health check looks at."""

import logging
import os
from pathlib import Path

from tidegate import clock

log = logging.getLogger(__name__)

_APART_SECONDS = 1.0


def pulse_file(folder: Path, name: str) -> Path:
    """The file that the process of this name touches."""
    return folder / f"{name}.alive"


class Pulse:
    """`<folder>/<name>.alive`. `find <folder> -name '*.alive' -newermt '-20 seconds'` finds it while the process lives.

    A look at a file costs nothing; asking a worker over the broker costs a second of CPU for importing Celery.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._file = pulse_file(folder, name)
        self._due = 0.0
        self._has_complained = False

    def beat(self) -> None:
        """Touches the file, at most once a second. A disk that refuses is logged once and stops nobody's work."""
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

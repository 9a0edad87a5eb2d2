"""Two files for containers, whose age tells how a process is: one that it does its work, one that it lives at all."""

import logging
import os
import threading
from pathlib import Path

from tidegate import clock

log = logging.getLogger(__name__)

_APART_SECONDS = 1.0


def health_file_path(folder: Path, name: str) -> Path:
    """The path of the health file of the process of this name."""
    return folder / f"{name}.alive"


def process_file_path(folder: Path, name: str) -> Path:
    """The path of the file that says of the process of this name that it lives."""
    return folder / f"{name}.process"


def remove_files_of(folder: Path, name: str) -> None:
    """Removes both files of the process of this name, which has ended and does not come back."""
    for file in (health_file_path(folder, name), process_file_path(folder, name)):
        file.unlink(missing_ok=True)


class HealthFile:
    """A file that is touched again and again, `<folder>/<name>.alive` by a process that does its work.

    `find <folder> -name '*.alive' -newermt '-20 seconds'` finds it while it does. A process that waits for its database
    or its broker does not, and to start it anew would help nobody: that is for `show_process` to tell.
    A look at a file costs nothing; asking a worker over the broker costs a second of CPU for importing Celery.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
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


def show_process(folder: Path, name: str) -> None:
    """Touches `<folder>/<name>.process` each second, from a thread, as long as this process runs."""
    file = HealthFile(process_file_path(folder, name))

    def beat() -> None:
        while True:
            file.beat()
            clock.sleep(_APART_SECONDS)

    threading.Thread(target=beat, name="process-file", daemon=True).start()

"""Lowers the workers' CPU priority (niceness) below that of web servers on the same machine."""

import os
import sys
from contextlib import suppress
from pathlib import Path

from tidegate import clock

_AUTOGROUP = Path("/proc/self/autogroup")
_TRIES, _APART_SECONDS = 5, 0.12


def lower_priority(by: int) -> None:
    """Raises the niceness of this process and its later children to `by`, 0 to 19; never lowers it.

    Linux may share its processors out between sessions first (autogroups): niceness then means nothing between two of
    them, but they have one of their own. A session that is not led by this process is left as it is.
    """
    if by <= os.getpriority(os.PRIO_PROCESS, 0):
        return
    os.setpriority(os.PRIO_PROCESS, 0, by)
    if sys.platform != "linux" or os.getsid(0) != os.getpid():
        return
    for _ in range(_TRIES):
        with suppress(FileNotFoundError, PermissionError):  # no autogroups, or no right to change them
            try:
                _AUTOGROUP.write_text(str(by))
            except BlockingIOError:  # the kernel takes one change each 0.1 s, of the whole machine
                clock.sleep(_APART_SECONDS)
                continue
        return

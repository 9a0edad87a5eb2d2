"""Lets the web servers of the same machine go first: who accepts a request is waited for, a job is not."""

import os
import sys
from contextlib import suppress
from pathlib import Path

from tidegate import clock

_AUTOGROUP = Path("/proc/self/autogroup")
_TRIES, _APART_SECONDS = 5, 0.12


def give_way(by: int) -> None:
    """Raises the niceness of this process and of the children it will have to `by`, 0 to 19; never lowers it.

    Linux may share its processors out between sessions first (autogroups): niceness then means nothing between two of
    them, but they have one of their own. A session that is not led by this process is left as it is.
    """
    if by <= os.getpriority(os.PRIO_PROCESS, 0):
        return
    os.setpriority(os.PRIO_PROCESS, 0, by)
    if sys.platform != "linux" or os.getsid(0) != os.getpid():
        return
    for _ in range(_TRIES):
        with suppress(FileNotFoundError, PermissionError):  # there are none, or they are not ours to change
            try:
                _AUTOGROUP.write_text(str(by))
            except BlockingIOError:  # one change in a tenth of a second is all the kernel takes, of the whole machine
                clock.sleep(_APART_SECONDS)
                continue
        return

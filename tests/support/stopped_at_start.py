"""A module of operations, with none, that has its server stopped while one of the server's processes loads it."""

import os
import select
import signal

_LONGEST_SECONDS = 30

_reader, _writer = os.pipe()
os.set_blocking(_writer, False)
_before = signal.set_wakeup_fd(_writer)
os.kill(os.getppid(), signal.SIGTERM)
select.select([_reader], [], [], _LONGEST_SECONDS)  # until the parent has passed it on
signal.set_wakeup_fd(_before)
os.close(_writer)
os.close(_reader)

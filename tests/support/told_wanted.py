"""`python -m tests.support.told_wanted`: the embedded default, told by a file how many io workers are wanted.

So a test need not wait until nothing has asked for more for a minute.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from config.settings import Settings
from embedded.__main__ import main
from embedded.wanted_workers import Answer
from tidegate.dispatch.scale import Wanted


@contextmanager
def asking(settings: Settings, _: object) -> Iterator[Callable[[], Answer]]:
    """What the file `wanted` in the data folder says; without it, it is not known."""
    file = settings.data / "wanted"

    def answer() -> Answer:
        if not file.exists():
            return None
        number = int(file.read_text())
        return {"io": Wanted(workers=0, places=0, wanted=number, because="a test says so")}

    yield answer


if __name__ == "__main__":
    with patch("embedded.__main__.asking", asking):
        sys.exit(main())

"""How every process logs: one line an event, UTC, to standard error."""

import logging
import time

FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(process_title)s %(name)s: %(message)s"


class _UtcFormatter(logging.Formatter):
    converter = staticmethod(time.gmtime)


def configure(level: str, process: str) -> None:
    """Sets the root logger; `process` (web, steward, io, cpu) stands on every line."""
    handler = logging.StreamHandler()
    handler.setFormatter(_UtcFormatter(FORMAT, datefmt="%Y-%m-%dT%H:%M:%S", defaults={"process_title": process}))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Their INFO lines say what ours say with the job id.
    for noisy in ("httpcore2", "celery.worker.strategy", "celery.app.trace", "alembic.runtime.plugins"):
        logging.getLogger(noisy).setLevel(logging.WARNING)

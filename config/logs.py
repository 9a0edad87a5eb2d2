"""How every process logs: one line an event, UTC, to standard error; as text, or as JSON with what it is about."""

import json
import logging
import time

from config.masking import masked
from config.settings import Settings
from tidegate import log_context

FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(process_title)s %(name)s: %(message)s"
_SECONDS = "%Y-%m-%dT%H:%M:%S"


class _UtcFormatter(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback below it."""
        return masked(super().format(record))


class JsonFormatter(logging.Formatter):
    """A JSON object a line. One about a job has `job_id`, and of an attempt `attempt`, `downstream`, `operation` and
    `trace_id` beside it. `config/granian_json_logs.json` names this class."""

    converter = staticmethod(time.gmtime)

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, object] = {
            "time": f"{self.formatTime(record, _SECONDS)}.{record.msecs:03.0f}Z",
            "level": record.levelname,
            "process": self._process,
            "pid": record.process,
            "logger": record.name,
            "message": masked(record.getMessage()),
            **_of_celery(record),
            **log_context.current(),
        }
        if record.exc_info:
            line["exception"] = masked(self.formatException(record.exc_info))
        return json.dumps(line, default=str)


def configure(settings: Settings, process: str) -> None:
    """Sets the root logger; `process` (web, scheduler, io, cpu) stands on every line."""
    handler = logging.StreamHandler()
    if settings.log_format == "json":
        handler.setFormatter(JsonFormatter(process))
    else:
        handler.setFormatter(_UtcFormatter(FORMAT, datefmt=_SECONDS, defaults={"process_title": process}))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    # Their INFO lines say what ours say with the job id.
    for noisy in ("httpcore2", "celery.worker.strategy", "celery.app.trace", "alembic.runtime.plugins"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _of_celery(record: logging.LogRecord) -> dict[str, object]:
    """Celery's own lines about a task carry its id, which is the job's; those of webhooks have another."""
    about = getattr(record, "data", None)
    if isinstance(about, dict) and about.get("name") == "tasks.run.run_job":
        return {"job_id": about.get("id")}
    return {}

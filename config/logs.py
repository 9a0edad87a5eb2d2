"""Configures logging: one line an event, UTC, to standard error; as text, or as JSON with the job's context."""

import json
import logging
import time

from config.masking import masked
from config.settings import Settings
from tidegate import log_context

FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(process_title)s %(name)s: %(message)s"
_SECONDS = "%Y-%m-%dT%H:%M:%S"


class TextFormatter(logging.Formatter):
    """Formats each record as one line of text: UTC, level, process, logger, message.

    `config/granian_text_logs.json` names this class.
    """

    converter = staticmethod(time.gmtime)

    def __init__(self, process: str) -> None:
        super().__init__(FORMAT, datefmt=_SECONDS, defaults={"process_title": process})

    def format(self, record: logging.LogRecord) -> str:
        """Formats the line, and the traceback below it, with secrets in URLs masked."""
        return masked(super().format(record))


class JsonFormatter(logging.Formatter):
    """Formats each record as one JSON object.

    One about a job has `job_id`, and of an attempt `attempt`, `downstream`, `operation` and `trace_id` beside it.
    `config/granian_json_logs.json` names this class.
    """

    converter = staticmethod(time.gmtime)

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Formats the line, with secrets in URLs masked."""
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


class WithoutThreadAdvice(logging.Filter):
    """Drops granian's warning of more threads than processors have use for: most of ours wait, and hold requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is another one."""
        return "Python threads, which seems quite high" not in record.getMessage()


def formatter_of(settings: Settings, process: str) -> logging.Formatter:
    """The formatter of the log's lines of a process, as TIDEGATE_LOG_FORMAT says."""
    return JsonFormatter(process) if settings.log_format == "json" else TextFormatter(process)


def configure(settings: Settings, process: str) -> None:
    """Configures the root logger; `process` (web, scheduler, io, cpu) stands on every line."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter_of(settings, process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    # Their INFO lines repeat ours, without the job id.
    for noisy in ("httpcore2", "celery.worker.strategy", "celery.app.trace", "alembic.runtime.plugins"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _of_celery(record: logging.LogRecord) -> dict[str, object]:
    """The job id of Celery's own lines about a task: the task's id. Those of webhooks have another."""
    about = getattr(record, "data", None)
    if isinstance(about, dict) and about.get("name") == "tasks.run.run_job":
        return {"job_id": about.get("id")}
    return {}

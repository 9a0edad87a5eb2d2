"""The WSGI application object `app`, for the server that `python -m webapp` starts."""

import sys

from config import logs, tracing
from config.gc_freeze import freeze_loaded_objects
from config.settings import settings
from tidegate.errors import ConfigurationError
from webapp.app import create_app
from webapp.context import context
from webapp.serving import granian_worker
from webapp.serving.shutdown import when_asked_to_stop

try:
    logs.configure(settings(), "web")
    granian_worker.tell_more()
    tracing.start("web")
    app = create_app(settings())
except ConfigurationError as error:  # it was good when the server started
    print(error, file=sys.stderr)  # noqa: T201 - there may be no log yet
    sys.exit(2)
with app.app_context():
    own = context()


def _stop() -> None:
    own.watcher.stop()
    own.count_writer.hurry()


own.count_writer.start()
when_asked_to_stop(_stop)
freeze_loaded_objects()

"""The web server's main process: granian, and a watchdog over its workers. `python -m webapp` becomes it."""

import sys

from granian.cli import entrypoint

from config import logs
from config.settings import settings
from config.web_server import arguments
from webapp.serving.worker_watch import WorkerWatch


def main() -> None:
    """Runs the web server until it is stopped.

    Its arguments: the seconds that requests may go on after the signal to stop, and the seconds after which a worker
    that answers nothing is replaced.
    """
    stop_seconds, silent_seconds = sys.argv[1:]
    current = settings()
    logs.configure(current, "web")
    host = current.host.strip("[]")
    WorkerWatch(host, current.port, workers=current.web_workers, silent_seconds=float(silent_seconds)).start()
    sys.argv = ["granian", *arguments(current, stop_seconds=int(stop_seconds))]
    entrypoint()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
